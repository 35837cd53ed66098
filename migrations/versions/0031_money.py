"""What is owed beyond plans comes onto an invoice or is waived; invoices that outlive their tenant; one instant of a change."""

from alembic import op

from stonechat.db.tenancy import grant_platform_table, owner_sees_all, protect_tenant_table

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table overage_settlements (
            tenant_id uuid not null references tenants on delete cascade,
            settlement_id text not null check (length(settlement_id) between 1 and 100),
            provider text not null check (provider in ('manual', 'stripe')),
            state text not null check (state in ('waiting', 'told', 'invoiced', 'waived', 'refused')),
            tokens bigint not null check (tokens > 0),
            micros_per_1k_tokens bigint check (micros_per_1k_tokens >= 0),
            currency text check (currency ~ '^[a-z]{3}$'),
            amount_cents bigint not null check (amount_cents >= 0),
            period_start timestamptz not null,
            period_end timestamptz not null check (period_end > period_start),
            reason text not null check (length(reason) <= 500),
            decided_by text not null,
            created_at timestamptz not null,
            customer_id text,
            item_id text,
            invoice_id text,
            attempts int not null default 0,
            next_attempt_at timestamptz not null,
            settled_at timestamptz,
            error text,
            primary key (tenant_id, settlement_id)
        )""")
    op.execute(
        "create index overage_settlements_due_idx on overage_settlements (tenant_id, next_attempt_at) "
        "where state in ('waiting', 'told')"
    )
    protect_tenant_table(op, "overage_settlements")
    # Rows that came to the outbox before say neither: their price is looked up, and nobody has decided about them.
    op.execute("alter table meter_outbox add column micros_per_1k_tokens bigint")
    op.execute("alter table meter_outbox add column currency text")
    op.execute("alter table meter_outbox add column settlement_id text")
    op.execute("alter table usage_overage add column currency text")
    op.execute("alter table billing_customers add column changed_at timestamptz")
    op.execute("alter table invoices add column billed_name text")
    with owner_sees_all(op, "billing_customers"):
        # Until now operators invoiced by hand what went beyond plans by hand: that is not invoiced a second time.
        op.execute("update billing_customers set metered_from = now() where customer_id is null")
    op.execute("""
        create table kept_invoices (
            tenant_id uuid not null,
            invoice_id text not null,
            provider text not null,
            number text,
            status text not null,
            currency text not null,
            total_cents bigint not null,
            tax_cents bigint not null,
            paid_cents bigint not null,
            billed_name text not null,
            lines jsonb not null,
            period_start timestamptz,
            period_end timestamptz,
            created_at timestamptz not null,
            due_at timestamptz,
            paid_at timestamptz,
            kept_at timestamptz not null,
            primary key (tenant_id, invoice_id)
        )""")
    op.execute("create index kept_invoices_created_at_idx on kept_invoices (created_at)")
    grant_platform_table(op, "kept_invoices")
