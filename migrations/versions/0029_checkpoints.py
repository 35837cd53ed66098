"""Checkpoints of many runs in two statements, and runs found by their key."""

from pathlib import Path

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    script = (Path(__file__).parent.parent / "sql" / "checkpoint_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
