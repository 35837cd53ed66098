"""Documents that came out of an archive, and the archive they belong to."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table documents add column parent_id text")
    op.execute("""
        alter table documents add constraint documents_parent_fkey
            foreign key (tenant_id, parent_id) references documents on delete set null (parent_id)""")
    op.execute("create index documents_parent_idx on documents (tenant_id, parent_id) where parent_id is not null")
