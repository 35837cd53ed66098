"""Tenants, people, memberships, API keys, the audit log, and the directory."""

from alembic import op

from stonechat.db.tenancy import grant_directory_table, partition_by_month, protect_tenant_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("revoke all on alembic_version from public")
    _partitions()
    _directory()
    _tenants()
    _accounts()
    _audit()


def _partitions() -> None:
    op.execute("create table stonechat_partitioned (table_name text primary key)")
    op.execute("""
        create function stonechat_ensure_partitions(p_months_ahead int default 2) returns int
        language plpgsql security definer set search_path = public, pg_temp as $$
        declare
            parent text; month_start timestamptz; child text; created int := 0;
        begin
            perform pg_advisory_xact_lock(hashtext('stonechat_ensure_partitions'));
            for parent in select table_name from stonechat_partitioned loop
                for ahead in 0..least(greatest(p_months_ahead, 0), 24) loop
                    month_start := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC';
                    month_start := ((month_start at time zone 'UTC') + make_interval(months => ahead)) at time zone 'UTC';
                    child := parent || '_' || to_char(month_start at time zone 'UTC', 'YYYYMM');
                    if to_regclass(quote_ident(child)) is null then
                        execute format('create table %I partition of %I for values from (%L) to (%L)',
                            child, parent, month_start,
                            ((month_start at time zone 'UTC') + interval '1 month') at time zone 'UTC');
                        created := created + 1;
                    end if;
                end loop;
            end loop;
            return created;
        end $$""")
    op.execute("revoke all on function stonechat_ensure_partitions(int) from public")
    op.execute("grant execute on function stonechat_ensure_partitions(int) to stonechat_app")


def _directory() -> None:
    op.execute("""
        create table people (
            person_id text primary key,
            email text not null check (email = lower(email) and length(email) <= 254),
            name text not null check (length(name) <= 200),
            password_hash text,
            created_at timestamptz not null default now(),
            constraint people_email_key unique (email)
        )""")
    op.execute("""
        create table directory_api_keys (
            secret_hash bytea primary key check (length(secret_hash) = 32),
            tenant_id uuid not null,
            api_key_id text not null
        )""")
    op.execute("""
        create table directory_domain_keys (
            public_key text primary key,
            tenant_id uuid not null,
            domain_key_id text not null,
            origins text[] not null default '{}'
        )""")
    op.execute("create index directory_domain_keys_origins_idx on directory_domain_keys using gin (origins)")
    op.execute("""
        create table directory_memberships (
            person_id text not null references people on delete cascade,
            tenant_id uuid not null,
            primary key (person_id, tenant_id)
        )""")
    op.execute("""
        create table setup_tokens (
            token_hash bytea primary key check (length(token_hash) = 32),
            person_id text not null references people on delete cascade,
            expires_at timestamptz not null,
            used_at timestamptz
        )""")
    tables = ("people", "directory_api_keys", "directory_domain_keys", "directory_memberships", "setup_tokens")
    for table in tables:
        grant_directory_table(op, table)


def _tenants() -> None:
    op.execute("""
        create table tenants (
            tenant_id uuid primary key,
            name text not null check (length(name) between 1 and 200),
            status text not null default 'active' check (status in ('active', 'suspended')),
            created_at timestamptz not null default now()
        )""")
    op.execute("""
        create table tenant_keys (
            tenant_id uuid not null references tenants on delete cascade,
            key_version int not null,
            wrapped bytea not null,
            platform_key_id text not null,
            created_at timestamptz not null default now(),
            primary key (tenant_id, key_version)
        )""")
    protect_tenant_table(op, "tenants")
    protect_tenant_table(op, "tenant_keys")


def _accounts() -> None:
    op.execute("""
        create table memberships (
            tenant_id uuid not null references tenants on delete cascade,
            person_id text not null references people on delete cascade,
            role text not null check (role in ('owner', 'admin', 'editor', 'viewer')),
            created_at timestamptz not null default now(),
            primary key (tenant_id, person_id)
        )""")
    op.execute("""
        create table api_keys (
            tenant_id uuid not null references tenants on delete cascade,
            api_key_id text not null,
            name text not null check (length(name) between 1 and 200),
            prefix text not null,
            secret_hash bytea not null check (length(secret_hash) = 32),
            scopes text[] not null,
            created_at timestamptz not null default now(),
            last_used_at timestamptz,
            revoked_at timestamptz,
            primary key (tenant_id, api_key_id)
        )""")
    op.execute("""
        create table idempotency_keys (
            tenant_id uuid not null references tenants on delete cascade,
            scope text not null,
            key text not null check (length(key) between 1 and 255),
            request_hash bytea not null check (length(request_hash) = 32),
            status int,
            media_type text,
            sealed_body bytea,
            created_at timestamptz not null default now(),
            primary key (tenant_id, scope, key)
        )""")
    op.execute("create index idempotency_keys_created_at_idx on idempotency_keys (tenant_id, created_at)")
    for table in ("memberships", "api_keys", "idempotency_keys"):
        protect_tenant_table(op, table)


def _audit() -> None:
    op.execute("""
        create table audit_log (
            tenant_id uuid not null,
            occurred_at timestamptz not null default now(),
            audit_id text not null,
            actor_kind text not null check (actor_kind in ('person', 'api_key', 'operator', 'system')),
            actor_id text,
            action text not null,
            subject_id text,
            detail jsonb not null default '{}',
            primary key (tenant_id, occurred_at, audit_id)
        ) partition by range (occurred_at)""")
    partition_by_month(op, "audit_log")
    protect_tenant_table(op, "audit_log", grant="select, insert")
