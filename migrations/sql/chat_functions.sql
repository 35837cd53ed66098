-- The hot path of the chat: one function a phase, one round trip a call. Each sets tenant and user for its own
-- transaction and then works under row-level security like everything else (security invoker, and no SET clause: saving
-- and restoring a setting would cost each call more than some of its statements).

-- Begin an answer: claim the thread, store the user's message, return what came before.
--
-- outcome: ok | no_agent | not_published | no_thread | locked | busy | expired (a run that died holds the thread:
-- close running_run and try again). Everything but ok has changed nothing.
create function chat_begin_run(
    p_tenant uuid, p_user text, p_agent text, p_draft boolean,
    p_thread text, p_new_thread timestamptz,  -- when a new thread was created; null for an existing one
    p_item_id text, p_item_kind text, p_item text, p_item_created timestamptz,  -- null: the turn adds no item first
    p_run text, p_process text, p_resumable boolean, p_lease_ms int, p_history int,
    out outcome text, out running_run text, out agent_version int, out title text, out status text,
    out metadata text, out domains text[], out created_at timestamptz, out history text[])
language plpgsql as $$
declare
    thread threads%rowtype;
    archived timestamptz;
    lease timestamptz;
begin
    perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);

    if p_agent is not null then
        select case when p_draft then a.draft_revision else a.published_version end, a.archived_at
            into agent_version, archived from agents a where a.tenant_id = p_tenant and a.agent_id = p_agent;
        if not found or archived is not null then outcome := 'no_agent'; return; end if;
        if agent_version is null then outcome := 'not_published'; return; end if;
    end if;

    if p_new_thread is null then
        select * into thread from threads t
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user;
        if not found then outcome := 'no_thread'; return; end if;
        title := thread.title; status := thread.status; metadata := thread.metadata;
        domains := thread.allowed_image_domains; created_at := thread.created_at;
        if thread.status ->> 'type' <> 'active' then outcome := 'locked'; return; end if;
    else
        insert into threads (tenant_id, thread_id, user_id, agent_id, created_at)
            values (p_tenant, p_thread, p_user, p_agent, p_new_thread);
    end if;

    insert into runs (tenant_id, run_id, thread_id, user_id, agent_id, agent_version, process_id, resumable,
                      lease_expires_at)
        values (p_tenant, p_run, p_thread, p_user, p_agent, agent_version, p_process, p_resumable,
                clock_timestamp() + p_lease_ms * interval '1 millisecond')
        on conflict (tenant_id, thread_id) where runs.status = 'running' do nothing;
    if not found then
        select r.run_id, r.lease_expires_at into running_run, lease from runs r
            where r.tenant_id = p_tenant and r.thread_id = p_thread and r.status = 'running';
        outcome := case when lease < clock_timestamp() then 'expired' else 'busy' end;
        return;
    end if;

    if p_new_thread is null and p_history > 0 then
        select array_agg(newest.data order by newest.seq) into history from (
            select i.data::text as data, i.seq from thread_items i
            where i.tenant_id = p_tenant and i.thread_id = p_thread and i.user_id = p_user
            order by i.seq desc limit p_history) newest;
    end if;
    if p_item_id is not null then
        insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at)
            values (p_tenant, p_thread, p_item_id, p_user, p_item_kind, p_item::json, p_item_created);
    end if;
    outcome := 'ok';
end $$;

-- What a run did to the items of its thread, in order. Verbs: add (a workflow, or an item of the same run, may be added
-- again), save (insert or replace), remove.
create function chat_write_items(
    p_tenant uuid, p_user text, p_thread text, p_run text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[])
returns void language plpgsql as $$
begin
    perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
    for n in 1..coalesce(cardinality(p_verbs), 0) loop
        if p_verbs[n] = 'remove' then
            delete from thread_items i where i.tenant_id = p_tenant and i.thread_id = p_thread
                and i.user_id = p_user and i.item_id = p_ids[n];
            continue;
        end if;
        insert into thread_items as i (tenant_id, thread_id, item_id, user_id, kind, data, run_id, created_at)
            values (p_tenant, p_thread, p_ids[n], p_user, p_kinds[n], p_data[n]::json, p_run, p_created[n])
            on conflict (tenant_id, thread_id, item_id) do update set kind = excluded.kind, data = excluded.data
            where p_verbs[n] = 'save' or i.run_id = p_run or (i.kind = 'workflow' and excluded.kind = 'workflow');
        if not found then
            raise unique_violation using message = 'the thread already has this item', constraint = 'thread_items_pkey';
        end if;
    end loop;
end $$;

-- Renew leases and store what was streamed since the last call, for any number of runs of any number of tenants.
-- Returns only what the caller must act on: cancel (someone asked for it), lost (the run is no longer ours).
create function chat_checkpoint_runs(
    p_lease_ms int, p_tenants uuid[], p_users text[], p_runs text[], p_first int[], p_last int[], p_payloads bytea[])
returns table (run_id text, state text) language plpgsql as $$
declare
    cancelled boolean;
begin
    for n in 1..coalesce(cardinality(p_runs), 0) loop
        perform set_config('stonechat.tenant_id', p_tenants[n]::text, true),
                set_config('stonechat.user_id', p_users[n], true);
        update runs r set lease_expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond',
                          last_seq = greatest(r.last_seq, p_last[n])
            where r.tenant_id = p_tenants[n] and r.run_id = p_runs[n] and r.status = 'running'
            returning r.cancel_requested into cancelled;
        if not found then
            run_id := p_runs[n]; state := 'lost'; return next;
            continue;
        end if;
        if p_payloads[n] is not null then
            insert into run_events (tenant_id, run_id, first_seq, last_seq, user_id, payload)
                values (p_tenants[n], p_runs[n], p_first[n], p_last[n], p_users[n], p_payloads[n]);
        end if;
        if cancelled then run_id := p_runs[n]; state := 'cancel'; return next; end if;
    end loop;
end $$;

-- End an answer: its items, the rest of its events, what it used, how the thread changed, all or nothing.
-- Returns false, having written nothing, if the run is no longer running (a sweeper closed it).
create function chat_finish_run(
    p_tenant uuid, p_user text, p_thread text, p_run text, p_status text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[],
    p_first int, p_last int, p_payload bytea,
    p_title text, p_thread_status text, p_metadata text, p_domains text[],  -- status null: the thread did not change
    p_usage text)  -- a JSON array of ledger entries, or null
returns boolean language plpgsql as $$
begin
    perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
    update runs r set status = p_status, last_seq = p_last, finished_at = clock_timestamp()
        where r.tenant_id = p_tenant and r.run_id = p_run and r.status = 'running';
    if not found then return false; end if;
    perform chat_write_items(p_tenant, p_user, p_thread, p_run, p_verbs, p_ids, p_kinds, p_data, p_created);
    if p_payload is not null then
        insert into run_events (tenant_id, run_id, first_seq, last_seq, user_id, payload)
            values (p_tenant, p_run, p_first, p_last, p_user, p_payload);
    end if;
    if p_usage is not null then
        insert into usage_ledger (tenant_id, occurred_at, entry_id, run_id, agent_id, user_hash, provider, model,
                                  input_tokens, output_tokens, cached_tokens)
            select p_tenant, u.occurred_at, u.entry_id, p_run, u.agent_id, decode(u.user_hash, 'hex'), u.provider,
                   u.model, u.input_tokens, u.output_tokens, u.cached_tokens
            from json_to_recordset(p_usage::json) as u (
                occurred_at timestamptz, entry_id text, agent_id text, user_hash text, provider text, model text,
                input_tokens bigint, output_tokens bigint, cached_tokens bigint);
    end if;
    if p_thread_status is null then
        update threads t set updated_at = clock_timestamp() where t.tenant_id = p_tenant and t.thread_id = p_thread;
    else
        update threads t set updated_at = clock_timestamp(), title = p_title, status = p_thread_status::json,
                             metadata = p_metadata::json, allowed_image_domains = p_domains
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user;
    end if;
    return true;
end $$;

