"""What runs had used whose conversation was deleted while they ran: settled by the worker, unless their process did."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    # No word of what was said, and nobody's name: `uses` are ledger entries, as `runs` has them.
    op.execute("""
        create table runs_left (
            tenant_id uuid not null references tenants on delete cascade,
            run_id text not null,
            uses json not null,
            last_seq int not null,
            deleted_at timestamptz not null default clock_timestamp(),
            primary key (tenant_id, run_id)
        )""")
    op.execute("create index runs_left_deleted_at_idx on runs_left (deleted_at)")
    protect_tenant_table(op, "runs_left")
    # Before, because the runs go with their thread. Whether their process lives, nobody knows yet: if it does, it settles
    # by itself, and whoever comes second finds it in the ledger. Where a whole tenant goes there is nothing to settle.
    op.execute("""
        create function runs_leave_their_use() returns trigger
        language plpgsql set search_path = public, pg_temp as $$
        begin
            insert into runs_left (tenant_id, run_id, uses, last_seq)
                select r.tenant_id, r.run_id, r.uses, r.last_seq from runs r
                where r.tenant_id = old.tenant_id and r.thread_id = old.thread_id and r.status = 'running'
                  and r.uses is not null and (r.refused is null or r.refused = 'cheaper')
                  and exists (select from tenants t where t.tenant_id = old.tenant_id)
                on conflict do nothing;
            return old;
        end $$""")
    op.execute("""
        create trigger threads_runs_left before delete on threads
        for each row execute function runs_leave_their_use()""")
