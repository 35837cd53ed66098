"""Visitors and users, domain keys, identity keys, and rate limits."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table users (
            tenant_id uuid not null references tenants on delete cascade,
            user_id text not null,
            external_id text check (length(external_id) <= 256),
            visitor_hash bytea check (length(visitor_hash) = 32),
            verified boolean not null default false,
            name text check (length(name) <= 200),
            email text check (length(email) <= 254),
            attributes jsonb not null default '{}',
            created_at timestamptz not null default now(),
            last_seen_at timestamptz not null default now(),
            primary key (tenant_id, user_id),
            constraint users_tenant_id_external_id_key unique (tenant_id, external_id),
            constraint users_tenant_id_visitor_hash_key unique (tenant_id, visitor_hash)
        )""")
    op.execute("""
        create table domain_keys (
            tenant_id uuid not null references tenants on delete cascade,
            domain_key_id text not null,
            agent_id text not null,
            public_key text not null,
            name text not null check (length(name) between 1 and 200),
            environment text not null check (environment in ('development', 'staging', 'production')),
            origins text[] not null check (cardinality(origins) <= 100),
            openai_domain_key text,
            created_at timestamptz not null default now(),
            revoked_at timestamptz,
            last_seen_at timestamptz,
            last_seen_origin text,
            primary key (tenant_id, domain_key_id),
            constraint domain_keys_tenant_id_public_key_key unique (tenant_id, public_key),
            foreign key (tenant_id, agent_id) references agents on delete cascade
        )""")
    op.execute("""
        create table identity_keys (
            tenant_id uuid not null references tenants on delete cascade,
            identity_key_id text not null,
            kid text not null,
            kind text not null check (kind in ('hs256', 'pem', 'jwks')),
            sealed_secret bytea,
            public_keys jsonb,
            created_at timestamptz not null default now(),
            retired_at timestamptz,
            last_used_at timestamptz,
            primary key (tenant_id, identity_key_id),
            constraint identity_keys_tenant_id_kid_key unique (tenant_id, kid)
        )""")
    op.execute("""
        create table user_token_uses (
            tenant_id uuid not null references tenants on delete cascade,
            jti text not null check (length(jti) <= 256),
            visitor_hash bytea not null,
            expires_at timestamptz not null,
            primary key (tenant_id, jti)
        )""")
    op.execute("create index user_token_uses_expires_at_idx on user_token_uses (tenant_id, expires_at)")
    op.execute("""
        create table limit_rules (
            tenant_id uuid primary key references tenants on delete cascade,
            rules jsonb not null,
            updated_at timestamptz not null default now()
        )""")
    for table in ("users", "domain_keys", "identity_keys", "user_token_uses", "limit_rules"):
        protect_tenant_table(op, table)
