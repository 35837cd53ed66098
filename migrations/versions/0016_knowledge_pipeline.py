"""Generations of the index, embeddings, and how each tenant searches."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("alter table documents add column tags text[] not null default '{}'")
    op.execute("alter table chunks add column columns text")
    op.execute("""
        create table knowledge_settings (
            tenant_id uuid primary key references tenants on delete cascade,
            embedding_provider text,
            embedding_model text,
            embedding_dimensions int check (embedding_dimensions between 8 and 4096),
            fusion text not null default 'rrf' check (fusion in ('rrf', 'dbsf')),
            reranker_url text,
            reranker_model text,
            reranker_secret text,
            score_floor double precision check (score_floor > 0 and score_floor <= 1),
            updated_at timestamptz not null default now(),
            check ((embedding_provider is null) = (embedding_model is null))
        )""")
    op.execute("""
        create table knowledge_generations (
            tenant_id uuid not null references tenants on delete cascade,
            generation int not null check (generation > 0),
            state text not null check (state in ('building', 'live', 'retired', 'failed')),
            layout text not null check (layout in ('per_tenant', 'shared')),
            embedding_provider text,
            embedding_model text,
            asked_dimensions int,
            dimensions int,
            done bigint not null default 0,
            total bigint not null default 0,
            error text,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            primary key (tenant_id, generation)
        )""")
    op.execute("""
        create unique index knowledge_generations_building_idx on knowledge_generations (tenant_id)
            where state = 'building'""")
    op.execute("""
        create table knowledge_embeddings (
            tenant_id uuid not null references tenants on delete cascade,
            model text not null,
            content_hash bytea not null check (length(content_hash) = 32),
            vector bytea not null,
            used_at timestamptz not null default now(),
            primary key (tenant_id, model, content_hash)
        )""")
    op.execute("create index knowledge_embeddings_used_idx on knowledge_embeddings (tenant_id, used_at)")
    for table in ("knowledge_settings", "knowledge_generations", "knowledge_embeddings"):
        protect_tenant_table(op, table)
