-- What is written of a turn when it ends, what is forgotten later, and what must be forgotten at once.

-- The trace of a turn, within the transaction that ends it, after its ledger entries: they know what it cost. No cost is
-- kept if that of some model is not known.
create function chat_write_trace(p_tenant uuid, p_user text, p_thread text, p_run text, p_trace text)
returns void language plpgsql as $$
begin
    insert into turn_traces (tenant_id, started_at, run_id, thread_id, user_id, agent_id, agent_version, outcome,
                             error_code, provider, model, input_tokens, output_tokens, cached_tokens, cost_micros,
                             first_token_ms, total_ms, spans_dropped, spans)
        select p_tenant, t.started_at, p_run, p_thread, p_user, t.agent_id, t.agent_version, t.outcome, t.error_code,
               t.provider, t.model, t.input_tokens, t.output_tokens, t.cached_tokens,
               (select case when count(*) = count(l.cost_micros) then sum(l.cost_micros) end from usage_ledger l
                where l.tenant_id = p_tenant and l.run_id = p_run
                  and l.occurred_at between t.started_at and now() + interval '1 minute'),
               t.first_token_ms, t.total_ms, t.spans_dropped, t.spans
        from json_to_record(p_trace::json) as t (
            started_at timestamptz, agent_id text, agent_version int, outcome text, error_code text, provider text,
            model text, input_tokens bigint, output_tokens bigint, cached_tokens bigint, first_token_ms int,
            total_ms int, spans_dropped int, spans json);
end $$;

-- As before, and: the trace is written with what it tells of.
create function chat_finish_turn(
    p_keep_status boolean, p_propose_title boolean,
    p_tenant uuid, p_user text, p_thread text, p_run text, p_status text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[],
    p_first int, p_last int, p_payload bytea,
    p_title text, p_thread_status text, p_metadata text, p_domains text[],
    p_usage text, p_trace text)  -- a JSON object, or null
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
    if not chat_finish_run(p_tenant, p_user, p_thread, p_run, p_status, p_verbs, p_ids, p_kinds, p_data, p_created,
                           p_first, p_last, p_payload, p_title, p_thread_status, p_metadata, p_domains, p_usage) then
        return false;
    end if;
    if p_trace is not null then
        perform chat_write_trace(p_tenant, p_user, p_thread, p_run, p_trace);
    end if;
    return true;
end $$;

-- Forget traces older than p_days: whole months at once where nobody is in the way, the rest in batches. Runs with its
-- owner's rights, because the clock belongs to no tenant. Returns how many rows were deleted one by one.
create function stonechat_purge_traces(p_days int) returns bigint
language plpgsql security definer set search_path = public, pg_temp as $$
declare
    cutoff timestamptz := now() - make_interval(days => greatest(p_days, 1));
    child text;
    purged bigint;
begin
    perform set_config('lock_timeout', '2s', true);
    for child in
        select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'turn_traces'::regclass and c.relname ~ '^turn_traces_[0-9]{6}$'
          and (to_date(right(c.relname, 6), 'YYYYMM') + interval '1 month') at time zone 'UTC' <= cutoff
    loop
        begin
            execute format('drop table %I', child);
        exception when lock_not_available then
            null;  -- tomorrow
        end;
    end loop;
    delete from turn_traces t
        where t.started_at < cutoff
          and (t.tenant_id, t.started_at, t.run_id) in (
              select o.tenant_id, o.started_at, o.run_id from turn_traces o where o.started_at < cutoff limit 20000);
    get diagnostics purged = row_count;
    return purged;
end $$;

-- Items that are deleted or changed take the summary that tells of them along.
create function stonechat_forget_summary() returns trigger language plpgsql as $$
begin
    if tg_level = 'ROW' then
        delete from thread_summaries s
            where s.tenant_id = old.tenant_id and s.thread_id = old.thread_id and s.upto_seq >= old.seq;
    else
        delete from thread_summaries s using (
            select g.tenant_id, g.thread_id, min(g.seq) as seq from gone g group by g.tenant_id, g.thread_id) as lost
            where s.tenant_id = lost.tenant_id and s.thread_id = lost.thread_id and s.upto_seq >= lost.seq;
    end if;
    return null;
end $$;
