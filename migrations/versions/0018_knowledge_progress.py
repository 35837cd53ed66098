"""How far the reading of a document has come, and what the checks of the index found."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table documents add column reading text")
    op.execute("""
        alter table documents add column progress_stage text
            check (progress_stage in ('pages', 'files', 'passages'))""")
    op.execute("alter table documents add column progress_done int not null default 0")
    op.execute("alter table documents add column progress_total int not null default 0")
    op.execute("""
        create table knowledge_checks (
            tenant_id uuid primary key references tenants on delete cascade,
            passages_after text,
            files_after text,
            checked_at timestamptz,
            completed_at timestamptz,
            found jsonb not null default '{}',
            repaired jsonb not null default '{}',
            reindex_after text,
            reindex_done bigint not null default 0,
            reindex_total bigint not null default 0,
            reindex_asked_at timestamptz,
            reindexed_at timestamptz
        )""")
    protect_tenant_table(op, "knowledge_checks")
