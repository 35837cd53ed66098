"""The job queue and the outbox of events."""

from pathlib import Path

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    script = (Path(__file__).parent.parent / "sql" / "jobs_schema.sql").read_text()
    # The driver's own connection runs several statements in one call, which a prepared statement cannot.
    raw = op.get_bind().connection.dbapi_connection
    assert raw is not None  # noqa: S101
    raw.run_async(lambda driver: driver.execute(script))
    op.execute("""
        create index pgqueuer_tenant_idx on jobs.pgqueuer ((headers->>'tenant')) where status in ('queued', 'picked')
        """)
    op.execute("grant usage on schema jobs to stonechat_app, stonechat_platform")
    op.execute("grant select, insert, update, delete on all tables in schema jobs to stonechat_app")
    op.execute("grant usage, select on all sequences in schema jobs to stonechat_app")
    op.execute("grant select on all tables in schema jobs to stonechat_platform")
    op.execute("""
        create table events (
            tenant_id uuid not null references tenants on delete cascade,
            event_id text not null,
            kind text not null,
            payload jsonb not null,
            occurred_at timestamptz not null default now(),
            dispatched_at timestamptz,
            primary key (tenant_id, event_id)
        )""")
    op.execute("create index events_pending_idx on events (tenant_id, event_id) where dispatched_at is null")
    protect_tenant_table(op, "events")
