"""What tools need: secrets of a tenant, calls that wait for approval."""

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing yet."""
