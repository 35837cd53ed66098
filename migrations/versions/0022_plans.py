"""Plans, what each tenant is on, exceptions from it, and the platform's own settings."""

from alembic import op

from stonechat.db.tenancy import grant_platform_table, protect_tenant_table

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table plan_versions (
            key text not null check (key ~ '^[a-z][a-z0-9_]{0,39}$'),
            version int not null check (version between 1 and 1000000),
            terms jsonb not null,
            published_at timestamptz not null default now(),
            retired_at timestamptz,
            created_by text not null check (length(created_by) between 1 and 200),
            primary key (key, version)
        )""")
    op.execute("""
        create table platform_settings (
            key text primary key check (key ~ '^[a-z][a-z0-9_.]{0,79}$'),
            value jsonb not null,
            updated_at timestamptz not null default now(),
            updated_by text not null check (length(updated_by) between 1 and 200)
        )""")
    for table in ("plan_versions", "platform_settings"):
        grant_platform_table(op, table, app="select")
    op.execute("""
        create table tenant_plans (
            tenant_id uuid primary key references tenants on delete cascade,
            plan_key text not null check (plan_key ~ '^[a-z][a-z0-9_]{0,39}$'),
            plan_version int not null check (plan_version between 1 and 1000000),
            provider text not null check (provider in ('none', 'manual', 'stripe')),
            status text not null check (status in ('trialing', 'active', 'past_due', 'unpaid', 'canceled')),
            trial_ends_at timestamptz,
            period_start timestamptz,
            period_end timestamptz check (period_end > period_start),
            cancel_at timestamptz,
            grace_until timestamptz,
            pending_plan_key text check (pending_plan_key ~ '^[a-z][a-z0-9_]{0,39}$'),
            pending_plan_at timestamptz check (pending_plan_at is not null or pending_plan_key is null),
            updated_at timestamptz not null default now()
        )""")
    op.execute("""
        create table plan_overrides (
            tenant_id uuid not null references tenants on delete cascade,
            override_id text not null,
            field text not null check (length(field) between 1 and 80),
            value jsonb not null,
            reason text not null check (length(reason) between 1 and 500),
            expires_at timestamptz,
            created_by text not null check (length(created_by) between 1 and 200),
            created_at timestamptz not null default now(),
            revoked_at timestamptz,
            primary key (tenant_id, override_id)
        )""")
    op.execute("""
        create table conversation_retention (
            tenant_id uuid primary key references tenants on delete cascade,
            days int check (days > 0),
            next_days int check (next_days > 0),
            next_at timestamptz check (next_at is not null or next_days is null)
        )""")
    for table in ("tenant_plans", "plan_overrides", "conversation_retention"):
        protect_tenant_table(op, table)
