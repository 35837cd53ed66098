"""Checkpoints of many runs in two statements."""

from pathlib import Path

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute((Path(__file__).parent.parent / "sql" / "checkpoint_functions.sql").read_text())
