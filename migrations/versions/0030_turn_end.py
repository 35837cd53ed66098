"""The end of a turn finds its run by key whatever statistics say, and traces of many turns are written at once."""

from pathlib import Path

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    script = (Path(__file__).parent.parent / "sql" / "turn_end_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
