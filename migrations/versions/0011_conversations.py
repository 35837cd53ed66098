"""Conversations that a person took over, and turns that keep to their agent."""

from pathlib import Path

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

FUNCTIONS = ("chat_begin_turn", "chat_finish_turn")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table threads
            add column handling text not null default 'open'
                check (handling in ('open', 'waiting_for_person', 'with_person', 'resolved')),
            add column handled_by text,
            add column handling_since timestamptz,
            add column created_at_naive boolean not null default false""")
    op.execute("alter table thread_items add column written_by text")
    op.execute("create index threads_handling_idx on threads (tenant_id, handling, seq desc) where handling <> 'open'")
    script = (Path(__file__).parent.parent / "sql" / "turn_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    for name in FUNCTIONS:
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to stonechat_app")
