"""Attachments: what was uploaded, what was read from it, and until when it stays."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table attachments
            add column bytes bigint not null default 0 check (bytes >= 0),
            add column media_type text check (length(media_type) <= 200),
            add column content text check (length(content) <= 200000),
            add column characters int not null default 0,
            add column claimed_until timestamptz,
            add column uploaded_at timestamptz,
            add column deleted_at timestamptz""")
    op.execute("create index attachments_bytes_idx on attachments (tenant_id, bytes)")
    op.execute("create index attachments_thread_idx on attachments (tenant_id, thread_id)")
    op.execute("create index attachments_unused_idx on attachments (created_at) where thread_id is null")
    op.execute("create index attachments_deleted_idx on attachments (deleted_at) where deleted_at is not null")
    # Whoever deletes a thread (a visitor, an admin, an erasure), its files go too: first from sight, then by the sweeper.
    op.execute("""
        create function attachments_follow_thread() returns trigger
        language plpgsql set search_path = public, pg_temp as $$
        begin
            update attachments a set deleted_at = now()
                where a.tenant_id = old.tenant_id and a.thread_id = old.thread_id and a.deleted_at is null;
            return null;
        end $$""")
    op.execute("""
        create trigger threads_attachments after delete on threads
        for each row execute function attachments_follow_thread()""")
