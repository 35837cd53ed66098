"""Deletions that fail make room for others and say why; refused webhooks are counted; months keep what was invoiced and paid."""

from alembic import op

from stonechat.db.tenancy import APP, grant_platform_table

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table tenant_deletions
            add column tried_at timestamptz,
            add column attempts int not null default 0,
            add column problem text not null default ''""")
    # Why, and who decided it, is between operators and the tenant: the application needs to know that it is so.
    for table, columns in (
        ("suspended_tenants", "tenant_id, suspended_at"),
        ("tenant_deletions", "tenant_id, due_at, begun_at, done_at"),
    ):
        op.execute(f"revoke select on {table} from {APP}")
        op.execute(f"grant select ({columns}) on {table} to {APP}")
    op.execute("""
        create table webhook_refusals (
            day date not null,
            reason text not null check (length(reason) between 1 and 40),
            refused bigint not null,
            primary key (day, reason)
        )""")
    grant_platform_table(op, "webhook_refusals")
    op.execute("""
        create table platform_months (
            month date not null,
            currency text not null,
            invoices bigint not null,
            invoiced_cents bigint not null,
            paid_cents bigint not null,
            primary key (month, currency)
        )""")
    grant_platform_table(op, "platform_months")
