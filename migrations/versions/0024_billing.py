"""Customers, invoices, the outbox of use, and what Stripe told us."""

from alembic import op

from stonechat.db.tenancy import grant_directory_table, grant_platform_table, protect_tenant_table

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table billing_customers (
            tenant_id uuid primary key references tenants on delete cascade,
            provider text not null check (provider in ('manual', 'stripe')),
            customer_id text check (length(customer_id) between 1 and 255),
            subscription_id text,
            has_payment_method boolean not null default false,
            trial_used_at timestamptz,
            past_due_since timestamptz,
            dunning text not null default '' check (dunning in ('', 'failed', 'reminded', 'ended')),
            trial_mail_for timestamptz,
            metered_from timestamptz not null,
            metered_through timestamptz not null,
            next_number int not null default 1,
            sync_lock text,
            sync_locked_until timestamptz,
            synced_at timestamptz,
            sync_error text,
            created_at timestamptz not null default now()
        )""")
    op.execute("""
        create table directory_billing_customers (
            customer_id text primary key check (length(customer_id) between 1 and 255),
            tenant_id uuid not null references tenants on delete cascade
        )""")
    op.execute("""
        create table invoices (
            tenant_id uuid not null references tenants on delete cascade,
            invoice_id text not null check (length(invoice_id) between 1 and 255),
            provider text not null check (provider in ('manual', 'stripe')),
            number text,
            status text not null check (status in ('draft', 'open', 'paid', 'void', 'uncollectible')),
            currency text not null check (currency ~ '^[a-z]{3}$'),
            total_cents bigint not null,
            tax_cents bigint not null,
            due_cents bigint not null,
            paid_cents bigint not null,
            lines jsonb not null,
            period_start timestamptz,
            period_end timestamptz,
            created_at timestamptz not null,
            due_at timestamptz,
            paid_at timestamptz,
            hosted_url text,
            pdf_url text,
            primary key (tenant_id, invoice_id)
        )""")
    op.execute("create index invoices_created_at_idx on invoices (tenant_id, created_at)")
    op.execute("""
        create table meter_outbox (
            tenant_id uuid not null references tenants on delete cascade,
            slice_start timestamptz not null,
            seq int not null check (seq > 0),
            slice_end timestamptz not null check (slice_end > slice_start),
            tokens bigint not null check (tokens > 0),
            identifier text not null check (length(identifier) between 1 and 100),
            customer_id text not null,
            state text not null default 'waiting' check (state in ('waiting', 'sent', 'expired')),
            attempts int not null default 0,
            first_attempt_at timestamptz,
            next_attempt_at timestamptz not null,
            sent_at timestamptz,
            error text,
            created_at timestamptz not null default now(),
            primary key (tenant_id, slice_start, seq)
        )""")
    op.execute("create index meter_outbox_due_idx on meter_outbox (tenant_id, next_attempt_at) where state = 'waiting'")
    op.execute("""
        create table billing_events (
            event_id text primary key check (length(event_id) between 1 and 255),
            kind text not null,
            thin boolean not null,
            object_type text,
            object_id text,
            customer_id text,
            tenant_id uuid,
            livemode boolean not null,
            happened_at timestamptz not null,
            received_at timestamptz not null,
            state text not null check (state in ('queued', 'done', 'failed', 'unmatched', 'ignored')),
            error text,
            processed_at timestamptz
        )""")
    op.execute("create index billing_events_received_at_idx on billing_events (received_at)")
    op.execute("create index billing_events_unmatched_idx on billing_events (customer_id) where state = 'unmatched'")
    for table in ("billing_customers", "invoices", "meter_outbox"):
        protect_tenant_table(op, table)
    grant_directory_table(op, "directory_billing_customers", grant="select, insert, delete")
    grant_platform_table(op, "billing_events", app="select, insert")
