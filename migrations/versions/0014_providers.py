"""Which kind of host a model provider is."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table model_providers
            add column preset text check (preset ~ '^[a-z0-9-]{1,40}$')""")
