-- The chat's hot path with budgets and cost: chat_begin_turn, chat_checkpoint_runs and chat_finish_run as they are from
-- 0012 on (see chat_functions.sql for what they have in common), and what they do to the ledger. A tenant without a
-- budget and without prices of its own pays for two look-ups by key when a run begins, which remembers what it found
-- (`runs.metered`), and takes no lock.

-- Write what a run, or a single call, used, and settle the tenant's budget. `p_entries` is a JSON array of entries, or
-- null; `cost_micros` and `price_version` are by the list, and a price of the tenant's own goes before.
create function usage_settle(p_tenant uuid, p_run text, p_entries text) returns void language plpgsql as $$
declare
    spent_tokens bigint := 0;
    spent_micros bigint := 0;
    this_month date := (date_trunc('month', clock_timestamp() at time zone 'utc'))::date;
begin
    if p_entries is not null then
        with written as (
            insert into usage_ledger (tenant_id, occurred_at, entry_id, run_id, agent_id, user_hash, purpose, provider,
                                      model, input_tokens, output_tokens, cached_tokens, estimated, cost_micros,
                                      price_version)
                select p_tenant, u.occurred_at, u.entry_id, p_run, u.agent_id, decode(u.user_hash, 'hex'), u.purpose,
                       u.provider, u.model, u.input_tokens, u.output_tokens, u.cached_tokens, u.estimated,
                       case when own.tenant_id is null then u.cost_micros
                            else ((u.input_tokens - u.cached_tokens) * own.input_micros
                                  + u.cached_tokens * own.cached_micros
                                  + u.output_tokens * own.output_micros + 500000) / 1000000 end,
                       case when own.tenant_id is null then u.price_version else own.version end
                from json_to_recordset(p_entries::json) as u (
                    occurred_at timestamptz, entry_id text, agent_id text, user_hash text, purpose text, provider text,
                    model text, input_tokens bigint, output_tokens bigint, cached_tokens bigint, estimated boolean,
                    cost_micros bigint, price_version text)
                left join usage_prices own
                    on own.tenant_id = p_tenant and own.provider = u.provider and own.model = u.model
                returning usage_ledger.input_tokens + usage_ledger.output_tokens as tokens, usage_ledger.cost_micros)
        select coalesce(sum(w.tokens), 0), coalesce(sum(w.cost_micros), 0) into spent_tokens, spent_micros
            from written w;
    end if;
    update usage_budgets b set month = this_month,
            used_tokens = case when b.month = this_month then b.used_tokens else 0 end + spent_tokens,
            used_micros = case when b.month = this_month then b.used_micros else 0 end + spent_micros,
            refused = case when b.month = this_month then b.refused else 0 end
        where b.tenant_id = p_tenant;
    if found and p_run is not null then
        delete from usage_reservations r where r.tenant_id = p_tenant and r.run_id = p_run;
    end if;
end $$;

-- Reserve what the run may use, or say why not: 'tokens' or 'cost', the budget that is used up. `p_characters` is what
-- the model is going to be shown of the conversation.
--
-- A run is let in as long as anything is left after all that is used and reserved, so spending passes the budget by no
-- more than the calls in flight. Models that cost nothing are always let in.
create function usage_reserve(
    p_tenant uuid, p_run text, p_agent text, p_version int, p_draft boolean, p_characters bigint)
returns text language plpgsql as $$
declare
    config jsonb;
    budget usage_budgets%rowtype;
    this_month date := (date_trunc('month', clock_timestamp() at time zone 'utc'))::date;
    used record;
    held record;
    tokens bigint;
    refusal text;
begin
    if p_draft then
        select a.draft into config from agents a where a.tenant_id = p_tenant and a.agent_id = p_agent;
    else
        select v.config into config from agent_versions v
            where v.tenant_id = p_tenant and v.agent_id = p_agent and v.version = p_version;
    end if;
    if config ->> 'model' = 'extractive' and coalesce(jsonb_array_length(config -> 'model_choices'), 0) = 0 then
        return null;
    end if;
    -- Four characters a token; 300 for tools and our own words; a passage has up to 1,600 characters.
    tokens := least(p_characters / 4, coalesce((config -> 'history' ->> 'max_tokens')::bigint, 16000))
        + length(coalesce(config ->> 'instructions', '')) / 4 + 300
        + case when coalesce((config -> 'knowledge' ->> 'enabled')::boolean, true)
               then 400 * coalesce((config -> 'knowledge' ->> 'max_passages')::bigint, 8) else 0 end
        + coalesce((config ->> 'max_output_tokens')::bigint, 1000);

    -- One at a time from here on, until the transaction ends.
    select * into budget from usage_budgets b where b.tenant_id = p_tenant for no key update;
    if not found then return null; end if;
    select case when budget.month = this_month then budget.used_tokens else 0 end as tokens,
           case when budget.month = this_month then budget.used_micros else 0 end as micros into used;
    select coalesce(sum(r.tokens), 0) as tokens, coalesce(sum(r.micros), 0) as micros into held
        from usage_reservations r where r.tenant_id = p_tenant;
    if used.tokens + held.tokens >= budget.max_tokens then
        refusal := 'tokens';
    elsif used.micros + held.micros >= budget.max_cost_micros then
        refusal := 'cost';
    end if;
    if refusal is null then
        -- What a token cost this month on average, or 10 dollars a million to begin with.
        insert into usage_reservations (tenant_id, run_id, tokens, micros)
            values (p_tenant, p_run, tokens,
                    ceil(tokens * coalesce(budget.used_micros::numeric / nullif(budget.used_tokens, 0), 10)));
    else
        update usage_budgets b set month = this_month, used_tokens = used.tokens, used_micros = used.micros,
                refused = case when budget.month = this_month then b.refused else 0 end + 1,
                refused_at = clock_timestamp()
            where b.tenant_id = p_tenant;
    end if;
    return refusal;
end $$;

-- What chat_begin_run and chat_begin_turn did, in one, and: `refused` says that the tenant's budget is used up ('tokens'
-- or 'cost'). The message is stored and the run holds the thread then, too; it is to be answered with `refusal_message`,
-- or our own words where that is null.
create function chat_begin_turn(
    p_tenant uuid, p_user text, p_agent text, p_draft boolean,
    p_thread text, p_new_thread timestamptz,  -- when a new thread was created; null for an existing one
    p_item_id text, p_item_kind text, p_item text, p_item_created timestamptz,  -- null: the turn adds no item first
    p_run text, p_process text, p_resumable boolean, p_lease_ms int, p_history int,
    out outcome text, out running_run text, out agent_version int, out title text, out status text,
    out metadata text, out domains text[], out created_at timestamptz, out history text[], out handling text,
    out refused text, out refusal_message text)
language plpgsql as $$
declare
    thread threads%rowtype;
    archived timestamptz;
    lease timestamptz;
    has_budget boolean := false;
    has_prices boolean := false;
    characters bigint;
begin
    perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
    handling := 'open';

    if p_agent is not null then
        select case when p_draft then a.draft_revision else a.published_version end, a.archived_at,
               b.tenant_id is not null, b.message,
               exists (select from usage_prices o where o.tenant_id = p_tenant)
            into agent_version, archived, has_budget, refusal_message, has_prices
            from agents a left join usage_budgets b on b.tenant_id = p_tenant
            where a.tenant_id = p_tenant and a.agent_id = p_agent;
    end if;

    if p_new_thread is null then
        select * into thread from threads t
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user
              and (p_agent is null or t.agent_id = p_agent);
        if not found then outcome := 'no_thread'; return; end if;
        title := thread.title; status := thread.status; metadata := thread.metadata;
        domains := thread.allowed_image_domains; created_at := thread.created_at; handling := thread.handling;
    end if;
    if p_agent is not null then
        if has_budget is null or archived is not null then outcome := 'no_agent'; return; end if;
        if agent_version is null then outcome := 'not_published'; return; end if;
    end if;
    if p_new_thread is null then
        if thread.status ->> 'type' <> 'active' then outcome := 'locked'; return; end if;
    else
        insert into threads (tenant_id, thread_id, user_id, agent_id, created_at)
            values (p_tenant, p_thread, p_user, p_agent, p_new_thread);
    end if;

    insert into runs (tenant_id, run_id, thread_id, user_id, agent_id, agent_version, process_id, resumable,
                      lease_expires_at, metered)
        values (p_tenant, p_run, p_thread, p_user, p_agent, agent_version, p_process, p_resumable,
                clock_timestamp() + p_lease_ms * interval '1 millisecond', has_budget or has_prices)
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
    if has_budget and handling not in ('waiting_for_person', 'with_person') then
        -- Last, because the tenant's other turns wait from here until this transaction ends.
        select coalesce(sum(length(item)), 0) into characters from unnest(history) item;
        refused := usage_reserve(p_tenant, p_run, p_agent, agent_version, p_draft,
                                 characters + coalesce(length(p_item), 0));
        if refused is not null then
            update runs r set refused = chat_begin_turn.refused where r.tenant_id = p_tenant and r.run_id = p_run;
        end if;
    end if;
    outcome := 'ok';
end $$;

-- As before, and: `p_uses` are ledger entries of what a run used so far, where it changed, for whoever has to close the
-- run should its process die.
create function chat_checkpoint_runs(
    p_lease_ms int, p_tenants uuid[], p_users text[], p_runs text[], p_first int[], p_last int[], p_payloads bytea[],
    p_uses text[] default null)
returns table (run_id text, state text) language plpgsql as $$
declare
    cancelled boolean;
begin
    for n in 1..coalesce(cardinality(p_runs), 0) loop
        perform set_config('stonechat.tenant_id', p_tenants[n]::text, true),
                set_config('stonechat.user_id', p_users[n], true);
        update runs r set lease_expires_at = clock_timestamp() + p_lease_ms * interval '1 millisecond',
                          last_seq = greatest(r.last_seq, p_last[n]), uses = coalesce(p_uses[n]::json, r.uses)
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

-- As before, and: the ledger is written at list prices or the tenant's own, and the reservation is settled. What a run
-- used whose thread was deleted meanwhile is written as well, once; it returns false nevertheless.
create or replace function chat_finish_run(
    p_tenant uuid, p_user text, p_thread text, p_run text, p_status text,
    p_verbs text[], p_ids text[], p_kinds text[], p_data text[], p_created timestamptz[],
    p_first int, p_last int, p_payload bytea,
    p_title text, p_thread_status text, p_metadata text, p_domains text[],  -- status null: the thread did not change
    p_usage text)  -- a JSON array of ledger entries, or null
returns boolean language plpgsql as $$
declare
    is_metered boolean;
begin
    perform set_config('stonechat.tenant_id', p_tenant::text, true), set_config('stonechat.user_id', p_user, true);
    update runs r set status = p_status, last_seq = p_last, finished_at = clock_timestamp()
        where r.tenant_id = p_tenant and r.run_id = p_run and r.status = 'running'
        returning r.metered into is_metered;
    if not found then
        if p_usage is not null
           and not exists (select from runs r where r.tenant_id = p_tenant and r.run_id = p_run)
           and not exists (select from usage_ledger l where l.tenant_id = p_tenant and l.run_id = p_run) then
            perform usage_settle(p_tenant, p_run, p_usage);
        end if;
        return false;
    end if;
    perform chat_write_items(p_tenant, p_user, p_thread, p_run, p_verbs, p_ids, p_kinds, p_data, p_created);
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
        update threads t set updated_at = clock_timestamp(), title = p_title, status = p_thread_status::json,
                             metadata = p_metadata::json, allowed_image_domains = p_domains
            where t.tenant_id = p_tenant and t.thread_id = p_thread and t.user_id = p_user;
    end if;
    return true;
end $$;
