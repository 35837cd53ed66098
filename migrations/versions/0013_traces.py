"""Traces of turns, and summaries of what long conversations said."""

from pathlib import Path

from alembic import op

from stonechat.db.tenancy import partition_by_month, protect_tenant_table

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _traces()
    _summaries()
    op.execute("drop function chat_finish_turn")
    script = (Path(__file__).parent.parent / "sql" / "trace_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    for name in ("chat_write_trace", "chat_finish_turn", "stonechat_purge_traces", "stonechat_forget_summary"):
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to stonechat_app")
    _forgetting()


def _traces() -> None:
    # Ordered for the list of the newest; found by conversation for the transcript, and to go with it.
    op.execute("""
        create table turn_traces (
            tenant_id uuid not null,
            started_at timestamptz not null,
            run_id text not null,
            thread_id text not null,
            user_id text not null,
            agent_id text,
            agent_version int,
            outcome text not null check (outcome in ('done', 'cancelled', 'failed', 'blocked', 'crashed')),
            error_code text,
            provider text,
            model text,
            input_tokens bigint not null default 0,
            output_tokens bigint not null default 0,
            cached_tokens bigint not null default 0,
            cost_micros bigint,
            first_token_ms int,
            total_ms int not null,
            spans_dropped int not null default 0,
            spans json not null default '[]',
            primary key (tenant_id, started_at, run_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        ) partition by range (started_at)""")
    op.execute("create index turn_traces_thread_idx on turn_traces (tenant_id, thread_id, started_at)")
    partition_by_month(op, "turn_traces")
    protect_tenant_table(op, "turn_traces", of_user=True)


def _summaries() -> None:
    op.execute("""
        create table thread_summaries (
            tenant_id uuid not null,
            thread_id text not null,
            user_id text not null,
            upto_item_id text not null,
            upto_seq bigint not null,
            items int not null,
            summary text not null check (length(summary) <= 8000),
            model text not null,
            tokens int not null,
            created_at timestamptz not null default now(),
            primary key (tenant_id, thread_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        )""")
    protect_tenant_table(op, "thread_summaries", of_user=True)


def _forgetting() -> None:
    # What was taken back must not live on in a summary.
    op.execute("""
        create trigger thread_items_deleted after delete on thread_items
            referencing old table as gone for each statement execute function stonechat_forget_summary()""")
    op.execute("""
        create trigger thread_items_changed after update of data on thread_items
            for each row when (old.data::text is distinct from new.data::text)
            execute function stonechat_forget_summary()""")
