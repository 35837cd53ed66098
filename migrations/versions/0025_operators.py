"""Operators, what they did, what they may look at, what was mailed, and what the platform's pages are drawn from."""

from alembic import op

from stonechat.db.tenancy import grant_platform_table, protect_tenant_table

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _operators()
    _support()
    _levers()
    _mail()
    _summaries()


def _operators() -> None:
    op.execute("""
        create table operators (
            operator_id text primary key,
            person_id text not null references people on delete cascade,
            totp_sealed bytea,
            totp_confirmed_at timestamptz,
            totp_last_step bigint not null default 0,
            recovery_hashes text[] not null default '{}',
            created_at timestamptz not null default now(),
            disabled_at timestamptz,
            constraint operators_person_id_key unique (person_id)
        )""")
    op.execute("""
        create table operator_sessions (
            token_hash bytea primary key check (length(token_hash) = 32),
            operator_id text not null references operators on delete cascade,
            stage text not null check (stage in ('password', 'full')),
            address text not null default '',
            password_mark text not null,
            grant_id text,
            grant_tenant_id uuid,
            created_at timestamptz not null default now(),
            last_seen_at timestamptz not null default now(),
            expires_at timestamptz not null
        )""")
    op.execute("create index operator_sessions_operator_id_idx on operator_sessions (operator_id, created_at)")
    op.execute("""
        create table operator_audit (
            audit_id text primary key,
            occurred_at timestamptz not null default now(),
            operator_id text,
            operator_email text not null,
            address text not null default '',
            action text not null,
            tenant_id uuid,
            subject_id text,
            reason text not null default '',
            detail jsonb not null default '{}'
        )""")
    op.execute("create index operator_audit_tenant_id_idx on operator_audit (tenant_id, audit_id)")
    grant_platform_table(op, "operators")
    grant_platform_table(op, "operator_sessions")
    op.execute("grant select, insert on operator_audit to stonechat_platform")  # nobody changes what happened


def _support() -> None:
    op.execute("""
        create table support_grants (
            tenant_id uuid not null references tenants on delete cascade,
            grant_id text not null,
            operator_id text not null,
            operator_name text not null,
            reason text not null check (length(reason) between 1 and 500),
            access text not null check (access in ('read', 'write')),
            minutes int not null check (minutes between 5 and 1440),
            asked_at timestamptz not null default now(),
            approved_at timestamptz,
            approved_by text,
            expires_at timestamptz,
            ended_at timestamptz,
            ended_by text,
            last_used_at timestamptz,
            primary key (tenant_id, grant_id)
        )""")
    op.execute("""
        create table support_rules (
            tenant_id uuid primary key references tenants on delete cascade,
            consent_needed boolean not null,
            updated_at timestamptz not null default now()
        )""")
    protect_tenant_table(op, "support_grants")
    protect_tenant_table(op, "support_rules")


def _levers() -> None:
    op.execute("""
        create table suspended_tenants (
            tenant_id uuid primary key,
            reason text not null,
            suspended_by text not null,
            suspended_at timestamptz not null default now()
        )""")
    op.execute("""
        create table tenant_deletions (
            tenant_id uuid primary key,
            tenant_name text not null,
            reason text not null,
            asked_by text not null,
            asked_at timestamptz not null default now(),
            due_at timestamptz not null,
            begun_at timestamptz,
            done_at timestamptz
        )""")
    op.execute("""
        create table operator_notes (
            note_id text primary key,
            tenant_id uuid not null,
            text text not null check (length(text) between 1 and 4000),
            operator_email text not null,
            created_at timestamptz not null default now()
        )""")
    op.execute("create index operator_notes_tenant_id_idx on operator_notes (tenant_id, note_id)")
    op.execute("""
        create table announcements (
            announcement_id text primary key,
            kind text not null check (kind in ('info', 'warning')),
            title text not null check (length(title) between 1 and 120),
            body text not null default '' check (length(body) <= 1000),
            starts_at timestamptz not null,
            ends_at timestamptz,
            created_by text not null,
            created_at timestamptz not null default now(),
            withdrawn_at timestamptz
        )""")
    op.execute("""
        create table feature_flags (
            key text primary key,
            is_on boolean not null,
            except_tenants uuid[] not null default '{}',
            updated_by text not null,
            updated_at timestamptz not null default now()
        )""")
    grant_platform_table(op, "suspended_tenants", app="select")
    grant_platform_table(op, "tenant_deletions", app="select")
    grant_platform_table(op, "operator_notes")
    grant_platform_table(op, "announcements", app="select")
    grant_platform_table(op, "feature_flags", app="select")


def _mail() -> None:
    op.execute("""
        create table mail_log (
            entry_id text primary key,
            mail_id text not null,
            occurred_at timestamptz not null default now(),
            tenant_id uuid,
            recipient text not null check (length(recipient) <= 254),
            subject text not null check (length(subject) <= 200),
            state text not null check (state in ('queued', 'sent', 'failed')),
            problem text not null default ''
        )""")
    op.execute("create index mail_log_mail_id_idx on mail_log (mail_id, entry_id)")
    op.execute("create index mail_log_queued_idx on mail_log (entry_id desc) where state = 'queued'")
    grant_platform_table(op, "mail_log", app="insert")


def _summaries() -> None:
    """Sums over every tenant's use, made every few minutes: pages about ten thousand tenants read these."""
    op.execute("""
        create table tenant_summaries (
            tenant_id uuid primary key,
            answers bigint not null,
            tokens bigint not null,
            cost_micros bigint not null,
            revenue_micros bigint not null,
            cost_today_micros bigint not null,
            cost_usual_micros bigint not null,
            runs int not null,
            failed_runs int not null,
            last_seen_at timestamptz,
            health text not null check (health in ('good', 'quiet', 'failing', 'unpaid', 'suspended', 'new')),
            flags text[] not null default '{}',
            refreshed_at timestamptz not null
        )""")
    op.execute("create index tenant_summaries_flags_idx on tenant_summaries (tenant_id) where flags <> '{}'")
    op.execute("""
        create table tenant_months (
            tenant_id uuid not null,
            month date not null,
            answers bigint not null,
            tokens bigint not null,
            cost_micros bigint not null,
            primary key (month, tenant_id)
        )""")
    op.execute("create index tenant_months_tenant_id_idx on tenant_months (tenant_id, month)")
    op.execute("""
        create table platform_days (
            day date primary key,
            tenants int not null,
            active_tenants int not null,
            answers bigint not null,
            tokens bigint not null,
            cost_micros bigint not null,
            revenue_micros bigint not null
        )""")
    for table in ("tenant_summaries", "tenant_months", "platform_days"):
        grant_platform_table(op, table)
    # The ledger grows at its end, where these few kilobytes find the last hours of every tenant.
    op.execute("create index usage_ledger_occurred_at_idx on usage_ledger using brin (occurred_at)")
