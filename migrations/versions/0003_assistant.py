"""Agents, their published versions, and model providers."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table agents (
            tenant_id uuid not null references tenants on delete cascade,
            agent_id text not null,
            name text not null check (length(name) between 1 and 200),
            draft jsonb not null,
            draft_revision int not null default 1,
            published_version int,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            archived_at timestamptz,
            primary key (tenant_id, agent_id)
        )""")
    op.execute("""
        create table agent_versions (
            tenant_id uuid not null,
            agent_id text not null,
            version int not null,
            config jsonb not null,
            published_by text not null,
            published_at timestamptz not null default now(),
            primary key (tenant_id, agent_id, version),
            foreign key (tenant_id, agent_id) references agents on delete cascade
        )""")
    op.execute("""
        create table model_providers (
            tenant_id uuid not null references tenants on delete cascade,
            provider_id text not null,
            name text not null check (name ~ '^[a-z0-9][a-z0-9-]{0,39}$'),
            kind text not null check (kind in ('openai', 'openai_compatible')),
            base_url text,
            sealed_api_key bytea,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            primary key (tenant_id, provider_id),
            constraint model_providers_tenant_id_name_key unique (tenant_id, name)
        )""")
    protect_tenant_table(op, "agents")
    protect_tenant_table(op, "agent_versions", grant="select, insert")
    protect_tenant_table(op, "model_providers")
