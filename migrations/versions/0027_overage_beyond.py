"""Overage counted here: when a tenant agreed to pay for what goes beyond its plan, and which meter a row is told to."""

from alembic import op

from stonechat.db.tenancy import Executes, owner_sees_all, protect_tenant_table

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table usage_overage (
            tenant_id uuid not null references tenants on delete cascade,
            since timestamptz not null,
            until timestamptz check (until > since),
            provider text not null check (provider in ('none', 'manual', 'stripe')),
            period_start timestamptz not null,
            period_end timestamptz not null check (period_end > period_start),
            included_tokens bigint not null check (included_tokens >= 0),
            micros_per_1k_tokens bigint not null check (micros_per_1k_tokens >= 0),
            primary key (tenant_id, since)
        )""")
    op.execute("create unique index usage_overage_open_idx on usage_overage (tenant_id) where until is null")
    protect_tenant_table(op, "usage_overage")
    # What was told so far was all use, to the meter of this name; a process of the version before goes on with it.
    op.execute("alter table meter_outbox add column meter text not null default 'stonechat_tokens'")
    op.execute("alter table meter_outbox add column closes_at timestamptz")
    op.execute("alter table meter_outbox add column told_as_of timestamptz")
    op.execute("alter table billing_customers add column overage_item jsonb")
    backfill(op)


def backfill(op: Executes) -> None:
    """Who pays for overage now does so since the period began: slices that were told of already are left alone."""
    with owner_sees_all(op, "usage_overage", "usage_allowances", "tenant_plans"):
        op.execute("""
            insert into usage_overage
                (tenant_id, since, provider, period_start, period_end, included_tokens, micros_per_1k_tokens)
            select a.tenant_id, a.period_start, p.provider, a.period_start, a.period_end, a.included_tokens,
                   a.overage_micros_per_1k_tokens
            from usage_allowances a join tenant_plans p on p.tenant_id = a.tenant_id
            where a.overage_micros_per_1k_tokens is not null and a.included_tokens is not null""")
