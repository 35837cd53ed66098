"""What tools need: secrets of a tenant, calls that wait for approval."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table tenant_secrets (
            tenant_id uuid not null references tenants on delete cascade,
            secret_id text not null,
            name text not null check (name ~ '^[a-z][a-z0-9_-]{0,47}$'),
            sealed_value bytea not null,
            revision int not null default 1,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            primary key (tenant_id, secret_id),
            unique (tenant_id, name)
        )""")
    protect_tenant_table(op, "tenant_secrets")
    op.execute("""
        create table tool_approvals (
            tenant_id uuid not null,
            thread_id text not null,
            item_id text not null check (length(item_id) between 1 and 128),
            user_id text not null,
            call jsonb not null,
            status text not null default 'pending'
                check (status in ('pending', 'running', 'done', 'declined', 'expired')),
            created_at timestamptz not null default now(),
            expires_at timestamptz not null,
            decided_at timestamptz,
            primary key (tenant_id, thread_id, item_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        )""")
    protect_tenant_table(op, "tool_approvals", of_user=True)
