"""The functions of the chat's hot path."""

from pathlib import Path

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

FUNCTIONS = ("chat_begin_run", "chat_write_items", "chat_checkpoint_runs", "chat_finish_run")


def upgrade() -> None:
    script = (Path(__file__).parent.parent / "sql" / "chat_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    for name in FUNCTIONS:
        op.execute(f"revoke all on function {name} from public")
        op.execute(f"grant execute on function {name} to stonechat_app")
