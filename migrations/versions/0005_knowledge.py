"""Sources, documents and their chunks; which index generation is the live one."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table sources (
            tenant_id uuid not null references tenants on delete cascade,
            source_id text not null,
            kind text not null check (kind in ('upload', 'text', 'url', 'sitemap', 'faq')),
            name text not null check (length(name) between 1 and 300),
            settings jsonb not null default '{}',
            created_at timestamptz not null default now(),
            synced_at timestamptz,
            primary key (tenant_id, source_id)
        )""")
    op.execute("""
        create table documents (
            tenant_id uuid not null references tenants on delete cascade,
            document_id text not null,
            source_id text,
            title text not null check (length(title) between 1 and 500),
            title_given boolean not null default false,
            url text,
            filename text,
            media_type text not null,
            bytes bigint not null,
            sha256 bytea not null check (length(sha256) = 32),
            status text not null default 'pending' check (status in ('pending', 'processing', 'ready', 'failed')),
            error_code text,
            error text,
            version int not null default 0,
            chunks int not null default 0,
            language text,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            ready_at timestamptz,
            deleted_at timestamptz,
            primary key (tenant_id, document_id),
            foreign key (tenant_id, source_id) references sources on delete set null (source_id)
        )""")
    op.execute("create index documents_status_idx on documents (tenant_id, status, document_id)")
    op.execute("""
        create table chunks (
            tenant_id uuid not null,
            chunk_id text not null,
            document_id text not null,
            version int not null,
            ordinal int not null,
            text text not null,
            start_offset int not null,
            end_offset int not null,
            page int,
            headings text[] not null default '{}',
            anchor text,
            primary key (tenant_id, chunk_id),
            constraint chunks_tenant_id_document_id_version_ordinal_key
                unique (tenant_id, document_id, version, ordinal),
            foreign key (tenant_id, document_id) references documents on delete cascade
        )""")
    op.execute("""
        create table knowledge_indexes (
            tenant_id uuid primary key references tenants on delete cascade,
            generation int not null default 1,
            languages text[] not null default '{}',
            layout text not null default 'per_tenant' check (layout in ('per_tenant', 'shared')),
            updated_at timestamptz not null default now()
        )""")
    for table in ("sources", "documents", "chunks", "knowledge_indexes"):
        protect_tenant_table(op, table)
