-- The end of a turn, and checkpoints, as 0029 has them, with two things changed. They find runs by key whatever statistics say:
-- `coalesce` hides from Postgres the small indexes of what is running, which it took for empty and then read from end to end.
-- And traces can be written by themselves, those of many turns in one statement.

-- Write the traces of turns that ended, of any tenants, and what they cost by the ledger. Of a conversation that was deleted
-- meanwhile nothing is written.
create function chat_record_traces(
    p_tenants uuid[], p_users text[], p_threads text[], p_runs text[], p_traces text[])
returns void language plpgsql as $$
declare
    tenant uuid;
    scope text;
begin
    for tenant in select distinct t from unnest(p_tenants) t loop
        scope := set_config('stonechat.tenant_id', tenant::text, true) || set_config('stonechat.user_id', '', true);
        insert into turn_traces (tenant_id, started_at, run_id, thread_id, user_id, agent_id, agent_version, outcome,
                                 error_code, provider, model, input_tokens, output_tokens, cached_tokens, cost_micros,
                                 first_token_ms, total_ms, spans_dropped, spans)
            select tenant, j.started_at, b.run_id, b.thread_id, b.user_id, j.agent_id, j.agent_version, j.outcome,
                   j.error_code, j.provider, j.model, j.input_tokens, j.output_tokens, j.cached_tokens,
                   -- None if that of some model is not known.
                   (select case when count(*) = count(l.cost_micros) then sum(l.cost_micros) end from usage_ledger l
                    where l.tenant_id = tenant and l.run_id = b.run_id
                      and l.occurred_at between j.started_at and now() + interval '1 minute'),
                   j.first_token_ms, j.total_ms, j.spans_dropped, j.spans
            from unnest(p_tenants, p_users, p_threads, p_runs, p_traces)
                    as b (tenant_id, user_id, thread_id, run_id, trace)
                 cross join json_to_record(b.trace::json) as j (
                    started_at timestamptz, agent_id text, agent_version int, outcome text, error_code text, provider text,
                    model text, input_tokens bigint, output_tokens bigint, cached_tokens bigint, first_token_ms int,
                    total_ms int, spans_dropped int, spans json)
                 join threads t on t.tenant_id = tenant and t.thread_id = b.thread_id and t.user_id = b.user_id
            where b.tenant_id = tenant
            for key share of t
            on conflict do nothing;  -- it is told again when nobody heard that it was done
    end loop;
end $$;

-- Store batches of events of any tenants' runs, and renew their leases. Returns the runs that were closed meanwhile ('lost',
-- and nothing is written of them) and those that somebody asked to stop ('cancel').
create or replace function chat_checkpoint_runs(
    p_lease_ms int, p_tenants uuid[], p_users text[], p_runs text[], p_first int[], p_last int[], p_payloads bytea[],
    p_uses text[] default null)
returns table (run_id text, state text) language plpgsql as $$
declare
    tenant uuid;
    lease timestamptz := clock_timestamp() + p_lease_ms * interval '1 millisecond';
    going_on text[];
    to_stop text[];
begin
    for tenant in select distinct t from unnest(p_tenants) t loop
        perform set_config('stonechat.tenant_id', tenant::text, true), set_config('stonechat.user_id', '', true);
        -- By the array and not by a join, or Postgres goes through all of the batch for each run.
        with renewed as (
            update runs r
                set lease_expires_at = case when r.lease_expires_at < lease - interval '1 second' then lease
                                            else r.lease_expires_at end,
                    last_seq = greatest(r.last_seq, p_last[array_position(p_runs, r.run_id)]),
                    uses = coalesce(p_uses[array_position(p_runs, r.run_id)]::json, r.uses)
                where r.tenant_id = tenant and r.run_id = any (p_runs) and coalesce(r.status, '') = 'running'
                  and r.user_id = p_users[array_position(p_runs, r.run_id)]
                returning r.run_id, r.cancel_requested)
        select coalesce(array_agg(n.run_id), '{}'), coalesce(array_agg(n.run_id) filter (where n.cancel_requested), '{}')
            into going_on, to_stop from renewed n;
        insert into run_events (tenant_id, run_id, first_seq, last_seq, user_id, payload)
            select tenant, b.run_id, b.first_seq, b.last_seq, b.user_id, b.payload
            from unnest(p_tenants, p_users, p_runs, p_first, p_last, p_payloads)
                as b (tenant_id, user_id, run_id, first_seq, last_seq, payload)
            where b.tenant_id = tenant and b.payload is not null and b.run_id = any (going_on);
        return query
            select b.run_id, 'lost' from unnest(p_tenants, p_runs) as b (tenant_id, run_id)
                where b.tenant_id = tenant and b.run_id <> all (going_on)
            union all select s, 'cancel' from unnest(to_stop) s;
    end loop;
end $$;

-- End an answer: its items, the rest of its events, what it used, how the thread changed and the trace, all or nothing.
-- False, having written nothing, if the run is no longer running (a sweeper closed it). What a run used whose thread was
-- deleted meanwhile is written all the same, once.
--
-- What others did meanwhile stays: a status that the turn did not set is what it is now (`p_keep_status`), and a title
-- that the turn only proposes gives way to one that is there (`p_propose_title`).
create or replace function chat_finish_turn(
    p_keep_status boolean, p_propose_title boolean,
    p_tenant uuid, p_user text, p_thread text, p_run text, p_status text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[],
    p_first int, p_last int, p_payload bytea,
    p_title text, p_thread_status text, p_metadata text, p_domains text[],  -- status null: the thread did not change
    p_usage text,  -- a JSON array of ledger entries, or null
    p_trace text)  -- a JSON object, or null
returns boolean language plpgsql as $$
declare
    scope text;
    is_metered boolean;
begin
    -- An assignment: that is no query to plan and run.
    scope := set_config('stonechat.tenant_id', p_tenant::text, true) || set_config('stonechat.user_id', p_user, true);
    if p_thread_status is not null then
        -- Before the run's row, as who deletes the thread takes them.
        perform from threads t
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user for no key update;
    end if;
    update runs r set status = p_status, last_seq = p_last, finished_at = clock_timestamp()
        where r.tenant_id = p_tenant and r.run_id = p_run and coalesce(r.status, '') = 'running'
        returning r.metered into is_metered;
    if not found then
        if p_usage is not null
           and not exists (select from runs r where r.tenant_id = p_tenant and r.run_id = p_run)
           and not exists (select from usage_ledger l where l.tenant_id = p_tenant and l.run_id = p_run) then
            perform usage_settle(p_tenant, p_run, p_usage);
        end if;
        return false;
    end if;
    if cardinality(p_verbs) > 0 then
        perform chat_write_items(p_tenant, p_user, p_thread, p_run, p_verbs, p_ids, p_kinds, p_data, p_created);
    end if;
    if p_payload is not null then
        insert into run_events (tenant_id, run_id, first_seq, last_seq, user_id, payload)
            values (p_tenant, p_run, p_first, p_last, p_user, p_payload);
    end if;
    if is_metered then
        perform usage_settle(p_tenant, p_run, p_usage);
    elsif p_usage is not null then
        insert into usage_ledger (tenant_id, occurred_at, entry_id, run_id, agent_id, user_hash, purpose, provider, model,
                                  input_tokens, output_tokens, cached_tokens, estimated, cost_micros, price_version)
            select p_tenant, u.occurred_at, u.entry_id, p_run, u.agent_id, decode(u.user_hash, 'hex'), u.purpose,
                   u.provider, u.model, u.input_tokens, u.output_tokens, u.cached_tokens, u.estimated, u.cost_micros,
                   u.price_version
            from json_to_recordset(p_usage::json) as u (
                occurred_at timestamptz, entry_id text, agent_id text, user_hash text, purpose text, provider text,
                model text, input_tokens bigint, output_tokens bigint, cached_tokens bigint, estimated boolean,
                cost_micros bigint, price_version text);
    end if;
    if p_thread_status is null then
        update threads t set updated_at = clock_timestamp() where t.tenant_id = p_tenant and t.thread_id = p_thread;
    else
        update threads t set updated_at = clock_timestamp(),
                             title = case when p_propose_title then coalesce(t.title, p_title) else p_title end,
                             status = case when p_keep_status then t.status else p_thread_status::json end,
                             metadata = p_metadata::json, allowed_image_domains = p_domains
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user;
    end if;
    if p_trace is not null then
        perform chat_record_traces(array[p_tenant], array[p_user], array[p_thread], array[p_run], array[p_trace]);
    end if;
    return true;
end $$;
