"""How often OpenAI's front end did not come, where an agent chose it."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table stock_troubles (
            tenant_id uuid not null,
            domain_key_id text not null,
            day date not null,
            reason text not null check (reason in ('refused', 'timeout', 'error')),
            times integer not null check (times > 0),
            last_at timestamptz not null,
            primary key (tenant_id, domain_key_id, day, reason),
            foreign key (tenant_id, domain_key_id) references domain_keys on delete cascade
        )""")
    protect_tenant_table(op, "stock_troubles")
