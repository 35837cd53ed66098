"""The console: sessions, failed sign-ins, invitations, and links that reset a password."""

from alembic import op

from stonechat.db.tenancy import grant_directory_table, protect_tenant_table

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table console_sessions (
            token_hash bytea primary key check (length(token_hash) = 32),
            session_id text not null,
            person_id text not null references people on delete cascade,
            tenant_id uuid,
            user_agent text not null default '' check (length(user_agent) <= 400),
            address text not null default '' check (length(address) <= 64),
            created_at timestamptz not null default now(),
            last_seen_at timestamptz not null default now(),
            expires_at timestamptz not null
        )""")
    op.execute("create index console_sessions_person_id_idx on console_sessions (person_id, created_at)")
    op.execute("create index console_sessions_expires_at_idx on console_sessions (expires_at)")
    op.execute("""
        create table sign_in_failures (
            key_hash bytea primary key check (length(key_hash) = 32),
            failures int not null,
            blocked_until timestamptz not null,
            forget_at timestamptz not null
        )""")
    op.execute("create index sign_in_failures_forget_at_idx on sign_in_failures (forget_at)")
    op.execute("""
        create table directory_invitations (
            token_hash bytea primary key check (length(token_hash) = 32),
            tenant_id uuid not null,
            invitation_id text not null
        )""")
    for table in ("console_sessions", "sign_in_failures", "directory_invitations"):
        grant_directory_table(op, table)
    op.execute("""
        alter table setup_tokens
            add column kind text not null default 'setup' check (kind in ('setup', 'reset')),
            add column created_at timestamptz not null default now()""")
    op.execute("""
        create table invitations (
            tenant_id uuid not null references tenants on delete cascade,
            invitation_id text not null,
            email text not null check (email = lower(email) and length(email) <= 254),
            role text not null check (role in ('owner', 'admin', 'editor', 'viewer')),
            invited_by text,
            token_hash bytea not null check (length(token_hash) = 32),
            created_at timestamptz not null default now(),
            expires_at timestamptz not null,
            accepted_at timestamptz,
            revoked_at timestamptz,
            primary key (tenant_id, invitation_id)
        )""")
    op.execute("create index invitations_email_idx on invitations (tenant_id, email)")
    protect_tenant_table(op, "invitations")
