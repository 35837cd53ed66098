"""Questions that went unanswered, in groups of alike."""

from alembic import op

from stonechat.db.tenancy import protect_tenant_table

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
        create table unanswered_groups (
            tenant_id uuid not null,
            group_id text not null,
            agent_id text not null,
            state text not null default 'open' check (state in ('open', 'answered', 'dismissed')),
            asked bigint not null default 0,
            first_seen_at timestamptz not null default now(),
            last_seen_at timestamptz not null default now(),
            settled_at timestamptz,
            settled_by text,
            source_id text,
            primary key (tenant_id, group_id)
        )""")
    op.execute("create index unanswered_groups_asked_idx on unanswered_groups (tenant_id, state, asked, group_id)")
    op.execute("create index unanswered_groups_agent_idx on unanswered_groups (tenant_id, agent_id, last_seen_at)")
    protect_tenant_table(op, "unanswered_groups")
    # Words of visitors: they go with the message, the conversation and the visitor that they are of.
    op.execute("""
        create table unanswered_questions (
            tenant_id uuid not null,
            thread_id text not null,
            item_id text not null,
            user_id text not null,
            group_id text not null,
            question text not null check (length(question) <= 1000),
            stems bigint[] not null,
            reason text not null,
            found jsonb not null default '[]',
            asked_at timestamptz not null default now(),
            primary key (tenant_id, thread_id, item_id),
            foreign key (tenant_id, thread_id, item_id) references thread_items on delete cascade,
            foreign key (tenant_id, group_id) references unanswered_groups on delete cascade
        )""")
    op.execute("create index unanswered_questions_group_idx on unanswered_questions (tenant_id, group_id, asked_at)")
    protect_tenant_table(op, "unanswered_questions", of_user=True)
    _forgetting()


def _forgetting() -> None:
    # A group of which nobody's question is left has nothing to tell, and must not tell that there was one.
    op.execute("""
        create function stonechat_forget_unanswered() returns trigger language plpgsql as $$
        begin
            delete from unanswered_groups g using (select distinct o.tenant_id, o.group_id from gone o) as lost
                where g.tenant_id = lost.tenant_id and g.group_id = lost.group_id
                  and not exists (select 1 from unanswered_questions q
                                  where q.tenant_id = lost.tenant_id and q.group_id = lost.group_id);
            return null;
        end $$""")
    op.execute("revoke all on function stonechat_forget_unanswered from public")
    op.execute("grant execute on function stonechat_forget_unanswered to stonechat_app")
    op.execute("""
        create trigger unanswered_questions_deleted after delete on unanswered_questions
            referencing old table as gone for each statement execute function stonechat_forget_unanswered()""")
