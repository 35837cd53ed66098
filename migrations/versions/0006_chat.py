"""Threads, their items, attachments, feedback, runs and run events; the usage ledger."""

from alembic import op

from stonechat.db.tenancy import partition_by_month, protect_tenant_table

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _threads()
    _runs()
    _ledger()


def _threads() -> None:
    op.execute("""
        create table threads (
            tenant_id uuid not null references tenants on delete cascade,
            thread_id text not null check (length(thread_id) between 1 and 128),
            user_id text not null,
            agent_id text,
            seq bigint not null generated always as identity,
            title text,
            status json not null default '{"type": "active"}',
            metadata json not null default '{}',
            allowed_image_domains text[],
            created_at timestamptz not null,
            updated_at timestamptz not null default now(),
            primary key (tenant_id, thread_id),
            foreign key (tenant_id, agent_id) references agents on delete set null (agent_id)
        )""")
    op.execute("create index threads_user_idx on threads (tenant_id, user_id, seq desc)")
    op.execute("create index threads_seq_idx on threads (tenant_id, seq desc)")
    op.execute("""
        create table thread_items (
            tenant_id uuid not null,
            thread_id text not null,
            item_id text not null check (length(item_id) between 1 and 128),
            user_id text not null,
            seq bigint not null generated always as identity,
            kind text not null,
            data json not null,
            run_id text,
            created_at timestamptz not null,
            primary key (tenant_id, thread_id, item_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        )""")
    op.execute("create index thread_items_seq_idx on thread_items (tenant_id, thread_id, seq)")
    op.execute("""
        create table attachments (
            tenant_id uuid not null references tenants on delete cascade,
            attachment_id text not null check (length(attachment_id) between 1 and 128),
            user_id text not null,
            thread_id text,
            data json not null,
            created_at timestamptz not null default now(),
            primary key (tenant_id, attachment_id)
        )""")
    op.execute("""
        create table feedback (
            tenant_id uuid not null,
            thread_id text not null,
            item_id text not null,
            user_id text not null,
            kind text not null check (kind in ('positive', 'negative')),
            agent_version int,
            created_at timestamptz not null default now(),
            primary key (tenant_id, thread_id, item_id),
            foreign key (tenant_id, thread_id, item_id) references thread_items on delete cascade
        )""")
    for table in ("threads", "thread_items", "attachments", "feedback"):
        protect_tenant_table(op, table, of_user=True)


def _runs() -> None:
    op.execute("""
        create table runs (
            tenant_id uuid not null,
            run_id text not null,
            thread_id text not null,
            user_id text not null,
            agent_id text,
            agent_version int,
            process_id text not null,
            resumable boolean not null,
            status text not null default 'running'
                check (status in ('running', 'done', 'cancelled', 'failed', 'crashed')),
            cancel_requested boolean not null default false,
            last_seq int not null default 0,
            lease_expires_at timestamptz not null,
            started_at timestamptz not null default now(),
            finished_at timestamptz,
            primary key (tenant_id, run_id),
            foreign key (tenant_id, thread_id) references threads on delete cascade
        )""")
    op.execute("create unique index runs_one_per_thread on runs (tenant_id, thread_id) where status = 'running'")
    op.execute("create index runs_lease_idx on runs (lease_expires_at) where status = 'running'")
    op.execute("create index runs_finished_idx on runs (tenant_id, finished_at)")
    op.execute("""
        create table run_events (
            tenant_id uuid not null,
            created_at timestamptz not null default now(),
            run_id text not null,
            first_seq int not null,
            last_seq int not null,
            user_id text not null,
            payload bytea not null,
            primary key (tenant_id, run_id, first_seq, created_at),
            foreign key (tenant_id, run_id) references runs on delete cascade
        ) partition by range (created_at)""")
    # Events serve clients that reconnect; the items say what stays. So they go an hour after their run, wherever it was.
    op.execute("""
        create function stonechat_purge_run_events() returns bigint
        language plpgsql security definer set search_path = public, pg_temp as $$
        declare
            purged bigint;
        begin
            delete from run_events e where e.created_at < now() - interval '1 hour'
                and not exists (select from runs r where r.tenant_id = e.tenant_id and r.run_id = e.run_id
                                and r.status = 'running');
            get diagnostics purged = row_count;
            return purged;
        end $$""")
    op.execute("revoke all on function stonechat_purge_run_events() from public")
    op.execute("grant execute on function stonechat_purge_run_events() to stonechat_app")
    partition_by_month(op, "run_events")
    for table in ("runs", "run_events"):
        protect_tenant_table(op, table, of_user=True)


def _ledger() -> None:
    op.execute("""
        create table usage_ledger (
            tenant_id uuid not null,
            occurred_at timestamptz not null default now(),
            entry_id text not null,
            run_id text not null,
            agent_id text,
            user_hash bytea not null,
            provider text not null,
            model text not null,
            input_tokens bigint not null default 0,
            output_tokens bigint not null default 0,
            cached_tokens bigint not null default 0,
            primary key (tenant_id, occurred_at, entry_id)
        ) partition by range (occurred_at)""")
    op.execute("create index usage_ledger_run_idx on usage_ledger (tenant_id, run_id)")
    partition_by_month(op, "usage_ledger")
    protect_tenant_table(op, "usage_ledger", grant="select, insert")
