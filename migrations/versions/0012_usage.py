"""Budgets, reservations and cost; the functions of the chat's hot path learn of them."""

from pathlib import Path

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

REPLACED = ("chat_begin_turn", "chat_checkpoint_runs")
FUNCTIONS = (*REPLACED, "usage_settle", "usage_reserve")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table usage_ledger
            alter column run_id drop not null,
            alter column user_hash drop not null,
            add column purpose text not null default 'answer',
            add column estimated boolean not null default false,
            add column currency text not null default 'USD',
            add column cost_micros bigint,
            add column price_version text""")
    op.execute("""
        alter table runs
            add column uses json,
            add column refused text,
            add column metered boolean not null default true""")
    op.execute("""
        create table usage_budgets (
            tenant_id uuid primary key references tenants on delete cascade,
            max_tokens bigint check (max_tokens > 0),
            max_cost_micros bigint check (max_cost_micros > 0),
            message text check (length(message) between 1 and 500),
            month date not null,
            used_tokens bigint not null default 0,
            used_micros bigint not null default 0,
            refused int not null default 0,
            refused_at timestamptz,
            updated_at timestamptz not null default now(),
            check (max_tokens is not null or max_cost_micros is not null)
        )""")
    op.execute("""
        create table usage_reservations (
            tenant_id uuid not null,
            run_id text not null,
            tokens bigint not null,
            micros bigint not null,
            created_at timestamptz not null default now(),
            primary key (tenant_id, run_id),
            foreign key (tenant_id, run_id) references runs on delete cascade
        )""")
    op.execute("""
        create table usage_prices (
            tenant_id uuid not null references tenants on delete cascade,
            provider text not null check (length(provider) between 1 and 40),
            model text not null check (length(model) between 1 and 200),
            input_micros bigint not null check (input_micros between 0 and 1000000000),
            cached_micros bigint not null check (cached_micros between 0 and 1000000000),
            output_micros bigint not null check (output_micros between 0 and 1000000000),
            version text not null,
            primary key (tenant_id, provider, model)
        )""")
    op.execute("""
        create table usage_days (
            tenant_id uuid not null references tenants on delete cascade,
            day date not null,
            agent_id text not null,
            provider text not null,
            model text not null,
            purpose text not null,
            answers bigint not null,
            calls bigint not null,
            input_tokens bigint not null,
            output_tokens bigint not null,
            cached_tokens bigint not null,
            estimated_tokens bigint not null,
            cost_micros bigint not null,
            unpriced_tokens bigint not null,
            primary key (tenant_id, day, agent_id, provider, model, purpose)
        )""")
    op.execute("""
        create table usage_rollups (
            tenant_id uuid primary key references tenants on delete cascade,
            through date not null
        )""")
    protect_tenant_table(op, "usage_days", grant="select, insert")
    for table in ("usage_budgets", "usage_reservations", "usage_prices", "usage_rollups"):
        protect_tenant_table(op, table)
    for name in REPLACED:  # what they give or take has changed; `create or replace` refuses that
        op.execute(f"drop function {name}")
    script = (Path(__file__).parent.parent / "sql" / "usage_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    for name in FUNCTIONS:
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to stonechat_app")
