"""Sources of knowledge that are fetched and kept up to date: their state, and the pages that each consists of."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        alter table sources
            drop constraint sources_kind_check,
            add constraint sources_kind_check
                check (kind in ('upload', 'text', 'url', 'sitemap', 'site', 'faq')),
            add column url text check (length(url) <= 2000),
            add column status text not null default 'ready'
                check (status in ('ready', 'syncing', 'failed', 'cancelled')),
            add column error_code text,
            add column error text,
            add column schedule text not null default 'never'
                check (schedule in ('never', 'daily', 'weekly', 'monthly')),
            add column next_sync_at timestamptz,
            add column sync_id text,
            add column sync_started_at timestamptz,
            add column progress jsonb not null default '{}'""")
    op.execute("create index sources_next_sync_idx on sources (next_sync_at) where next_sync_at is not null")
    op.execute("""
        create table source_pages (
            tenant_id uuid not null,
            page_id text not null,
            source_id text not null,
            url text not null check (length(url) <= 2000),
            kind text not null default 'page' check (kind in ('page', 'sitemap')),
            depth int not null,
            redirects int not null default 0,
            state text not null default 'waiting' check (state in
                ('waiting', 'kept', 'duplicate', 'moved', 'skipped', 'failed', 'gone')),
            due boolean not null default true,
            tries int not null default 0,
            seen_in text,
            same_as text,
            document_id text,
            etag text,
            last_modified text,
            digest bytea,
            code text,
            reason text,
            status int,
            fetched_at timestamptz,
            primary key (tenant_id, page_id),
            constraint source_pages_tenant_id_source_id_url_key unique (tenant_id, source_id, url),
            foreign key (tenant_id, source_id) references sources on delete cascade,
            foreign key (tenant_id, document_id) references documents on delete set null (document_id)
        )""")
    op.execute("""
        create index source_pages_due_idx on source_pages (tenant_id, source_id, tries, depth, page_id)
            where due""")
    op.execute("""
        create index source_pages_digest_idx on source_pages (tenant_id, source_id, digest)
            where document_id is not null""")
    op.execute("""
        create index source_pages_document_idx on source_pages (tenant_id, document_id)
            where document_id is not null""")
    op.execute("""
        create index source_pages_same_idx on source_pages (tenant_id, source_id, same_as)
            where same_as is not null""")
    protect_tenant_table(op, "source_pages")
