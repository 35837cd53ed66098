"""Outbound webhooks: where a tenant wants to be told, and what became of each telling."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table webhook_endpoints (
            tenant_id uuid not null references tenants on delete cascade,
            endpoint_id text not null,
            url text not null check (length(url) between 1 and 2048),
            description text not null default '' check (length(description) <= 300),
            events text[],
            enabled boolean not null default true,
            disabled_reason text not null default '' check (disabled_reason in ('', 'by_hand', 'failing', 'gone')),
            sealed_secret bytea not null,
            sealed_old_secret bytea,
            old_secret_until timestamptz,
            failures int not null default 0,
            failing_since timestamptz,
            paused_until timestamptz,
            lease text,
            leased_until timestamptz,
            last_success_at timestamptz,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            primary key (tenant_id, endpoint_id)
        )""")
    op.execute("""
        create table webhook_deliveries (
            tenant_id uuid not null references tenants on delete cascade,
            delivery_id text not null,
            endpoint_id text not null,
            event_id text not null,
            kind text not null,
            user_id text,
            body text not null check (octet_length(body) <= 65536),
            status text not null default 'queued' check (status in ('queued', 'delivered', 'failed')),
            attempts int not null default 0,
            next_attempt_at timestamptz,
            last_attempt_at timestamptz,
            finished_at timestamptz,
            duration_ms int,
            last_status int,
            last_error text not null default '' check (length(last_error) <= 500),
            response text not null default '' check (length(response) <= 2000),
            occurred_at timestamptz not null,
            created_at timestamptz not null default now(),
            primary key (tenant_id, delivery_id),
            unique (tenant_id, endpoint_id, event_id),
            foreign key (tenant_id, endpoint_id) references webhook_endpoints on delete cascade,
            check ((status = 'queued') = (next_attempt_at is not null))
        )""")
    # What is due at an endpoint; its log; what is due at all; what operators look at; what is old; whose it is about.
    op.execute("""
        create index webhook_deliveries_due_idx on webhook_deliveries (tenant_id, endpoint_id, next_attempt_at)
        where status = 'queued'""")
    op.execute("create index webhook_deliveries_log_idx on webhook_deliveries (tenant_id, endpoint_id, delivery_id)")
    op.execute("""
        create index webhook_deliveries_waiting_idx on webhook_deliveries (next_attempt_at) where status = 'queued'""")
    op.execute("create index webhook_deliveries_status_idx on webhook_deliveries (status, created_at)")
    op.execute("create index webhook_deliveries_created_at_idx on webhook_deliveries (created_at)")
    op.execute("""
        create index webhook_deliveries_user_idx on webhook_deliveries (tenant_id, user_id)
        where user_id is not null""")
    protect_tenant_table(op, "webhook_endpoints")
    protect_tenant_table(op, "webhook_deliveries", of_user=True)
    _follow_conversations()


def _follow_conversations() -> None:
    """What was told of a conversation, and is still to be, goes with it, whoever deletes it: its title may stand in there."""
    op.execute("""
        create index events_conversation_idx on events (tenant_id, (payload ->> 'conversation_id'))
        where payload ->> 'conversation_id' is not null""")
    op.execute("""
        create function webhooks_follow_threads() returns trigger
        language plpgsql set search_path = public, pg_temp as $$
        begin
            with told as (
                delete from events e using gone g
                    where e.tenant_id = g.tenant_id and e.payload ->> 'conversation_id' = g.thread_id
                    returning e.tenant_id, e.event_id, g.user_id)
            delete from webhook_deliveries d using told t
                where d.tenant_id = t.tenant_id and d.event_id = t.event_id and d.user_id = t.user_id;
            return null;
        end $$""")
    op.execute("""
        create trigger threads_webhooks after delete on threads referencing old table as gone
        for each statement execute function webhooks_follow_threads()""")
