"""The end of a turn in one SQL function."""

from pathlib import Path

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    script = (Path(__file__).parent.parent / "sql" / "hot_path_functions.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
