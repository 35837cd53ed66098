"""Allowances by plan and billing period, what tenants chose for their end, alerts, and addresses that visitors left."""

from pathlib import Path

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

FUNCTIONS = ("usage_settle", "usage_reserve", "usage_roll_period")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    # From here on a row without bounds of its own says: somebody else bounds this tenant, so reserve and settle.
    op.execute("""
        do $$ declare held text; begin
            for held in select conname from pg_constraint where conrelid = 'usage_budgets'::regclass and contype = 'c'
                and pg_get_constraintdef(oid) like '%max_tokens IS NOT NULL%' loop
                execute format('alter table usage_budgets drop constraint %I', held);
            end loop;
        end $$""")
    op.execute("""
        create table usage_allowances (
            tenant_id uuid primary key references tenants on delete cascade,
            period_start timestamptz not null,
            period_end timestamptz not null,
            included_messages bigint check (included_messages >= 0),
            included_tokens bigint check (included_tokens >= 0),
            hard_messages bigint check (hard_messages >= 0),
            hard_tokens bigint check (hard_tokens >= 0),
            overage_micros_per_1k_tokens bigint check (overage_micros_per_1k_tokens >= 0),
            grace_percent int not null default 0 check (grace_percent between 0 and 100),
            used_messages bigint not null default 0,
            used_tokens bigint not null default 0,
            refused int not null default 0,
            refused_at timestamptz,
            updated_at timestamptz not null default now(),
            check (period_end > period_start)
        )""")
    op.execute("""
        create table usage_choices (
            tenant_id uuid primary key references tenants on delete cascade,
            steps text[] not null default '{message}' check (cardinality(steps) <= 5),
            cheaper_model text check (length(cheaper_model) between 1 and 240),
            email_request text check (length(email_request) between 1 and 500),
            email_thanks text check (length(email_thanks) between 1 and 500),
            overage_opt_in boolean not null default false,
            spend_cap_micros bigint check (spend_cap_micros >= 0),
            updated_at timestamptz not null default now()
        )""")
    op.execute("""
        create table usage_alerts (
            tenant_id uuid not null references tenants on delete cascade,
            bound text not null check (bound in ('plan', 'budget')),
            period_start timestamptz not null,
            percent int not null check (percent between 1 and 100),
            alerted_at timestamptz not null default now(),
            primary key (tenant_id, bound, period_start, percent)
        )""")
    op.execute("""
        create table thread_contacts (
            tenant_id uuid not null,
            thread_id text not null,
            user_id text not null,
            agent_id text not null,
            asked_at timestamptz not null default now(),
            email text check (length(email) between 3 and 254),
            left_at timestamptz check (left_at is not null or email is null),
            primary key (tenant_id, thread_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        )""")
    op.execute("create index thread_contacts_left_idx on thread_contacts (tenant_id, left_at) where email is not null")
    for table in ("usage_allowances", "usage_choices", "usage_alerts"):
        protect_tenant_table(op, table)
    protect_tenant_table(op, "thread_contacts", of_user=True)
    script = (Path(__file__).parent.parent / "sql" / "allowance_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    for name in FUNCTIONS:
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to stonechat_app")
