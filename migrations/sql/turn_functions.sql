-- Around the functions of chat_functions.sql, in the same round trip: what a turn must know of its conversation, and what
-- others may have changed about it while the turn went on.

-- As chat_begin_run, for conversations with this agent only. `handling`: whether the assistant answers, or a person does.
create function chat_begin_turn(
    p_tenant uuid, p_user text, p_agent text, p_draft boolean,
    p_thread text, p_new_thread timestamptz,
    p_item_id text, p_item_kind text, p_item text, p_item_created timestamptz,
    p_run text, p_process text, p_resumable boolean, p_lease_ms int, p_history int,
    out outcome text, out running_run text, out agent_version int, out title text, out status text,
    out metadata text, out domains text[], out created_at timestamptz, out history text[], out handling text)
language plpgsql as $$
begin
    handling := 'open';
    if p_new_thread is null then
        perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
        select t.handling into handling from threads t
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user
              and (p_agent is null or t.agent_id = p_agent);
        if not found then outcome := 'no_thread'; return; end if;
    end if;
    select b.outcome, b.running_run, b.agent_version, b.title, b.status, b.metadata, b.domains, b.created_at, b.history
        into outcome, running_run, agent_version, title, status, metadata, domains, created_at, history
        from chat_begin_run(p_tenant, p_user, p_agent, p_draft, p_thread, p_new_thread, p_item_id, p_item_kind, p_item,
                            p_item_created, p_run, p_process, p_resumable, p_lease_ms, p_history) b;
end $$;

-- As chat_finish_run, without undoing what others did meanwhile: a status that the turn did not set stays what it is now,
-- and a title that the turn only proposes gives way to one that is there.
create function chat_finish_turn(
    p_keep_status boolean, p_propose_title boolean,
    p_tenant uuid, p_user text, p_thread text, p_run text, p_status text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[],
    p_first int, p_last int, p_payload bytea,
    p_title text, p_thread_status text, p_metadata text, p_domains text[],
    p_usage text)
returns boolean language plpgsql as $$
declare
    now_title text;
    now_status text;
begin
    if p_thread_status is not null and (p_keep_status or p_propose_title) then
        perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
        select t.title, t.status::text into now_title, now_status from threads t
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user for update;
        if found and p_keep_status then p_thread_status := now_status; end if;
        if p_propose_title then p_title := coalesce(now_title, p_title); end if;
    end if;
    return chat_finish_run(p_tenant, p_user, p_thread, p_run, p_status, p_verbs, p_ids, p_kinds, p_data, p_created,
                           p_first, p_last, p_payload, p_title, p_thread_status, p_metadata, p_domains, p_usage);
end $$;
