-- Reserving and settling where a plan bounds a tenant, beside or instead of a budget of its own. A tenant that is
-- bounded by its plan has a row in `usage_budgets`, with or without bounds in it: so that everybody else's turns pay
-- nothing for this, and everything that bounds one tenant is counted under one lock.

-- Begin the tenant's next period, if the one of its allowance is over and nobody has said yet what the next one is:
-- months from its end on. Holds the row of `usage_budgets` already, whoever calls it.
create function usage_roll_period(p_tenant uuid) returns void language plpgsql as $$
declare
    began timestamptz;
    ends timestamptz;
begin
    select a.period_start, a.period_end into began, ends from usage_allowances a
        where a.tenant_id = p_tenant and a.period_end <= clock_timestamp();
    if not found then return; end if;
    while ends <= clock_timestamp() loop
        began := ends;
        ends := ends + interval '1 month';
    end loop;
    update usage_allowances a set period_start = began, period_end = ends, used_messages = 0, used_tokens = 0, refused = 0
        where a.tenant_id = p_tenant;
end $$;

-- As before, and: counted against the plan's allowance, too. A message is an answer that a language model wrote;
-- models that are built in cost nothing and do not count.
create or replace function usage_settle(p_tenant uuid, p_run text, p_entries text) returns void language plpgsql as $$
declare
    spent_tokens bigint := 0;
    spent_micros bigint := 0;
    answered boolean := false;
    used_at timestamptz;
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
                returning usage_ledger.input_tokens + usage_ledger.output_tokens as tokens, usage_ledger.cost_micros,
                          usage_ledger.occurred_at,
                          usage_ledger.purpose = 'answer' and usage_ledger.provider <> 'built-in' as is_answer)
        select coalesce(sum(w.tokens), 0), coalesce(sum(w.cost_micros), 0), min(w.occurred_at),
               coalesce(bool_or(w.is_answer and w.tokens > 0), false)
            into spent_tokens, spent_micros, used_at, answered
            from written w;
    end if;
    update usage_budgets b set month = this_month,
            used_tokens = case when b.month = this_month then b.used_tokens else 0 end + spent_tokens,
            used_micros = case when b.month = this_month then b.used_micros else 0 end + spent_micros,
            refused = case when b.month = this_month then b.refused else 0 end
        where b.tenant_id = p_tenant;
    if found then
        if p_run is not null then
            delete from usage_reservations r where r.tenant_id = p_tenant and r.run_id = p_run;
        end if;
        if spent_tokens > 0 then
            perform usage_roll_period(p_tenant);
            update usage_allowances a set used_tokens = a.used_tokens + spent_tokens,
                    used_messages = a.used_messages + case when answered and p_run is not null then 1 else 0 end
                where a.tenant_id = p_tenant and a.period_start <= used_at;
        end if;
    end if;
end $$;

-- As before, and: held against the plan's allowance, too. What it returns:
--   null                                 the run is let in;
--   'cheaper'                            it is let in, to be answered by the tenant's cheaper model: the last tenth of
--                                        every bound is kept for that, where the tenant chose this step;
--   'tokens', 'cost'                     the tenant's own budget is used up;
--   'included_messages', 'included_tokens'  what the plan includes is used up, overage and grace as well.
create or replace function usage_reserve(
    p_tenant uuid, p_run text, p_agent text, p_version int, p_draft boolean, p_characters bigint)
returns text language plpgsql as $$
declare
    config jsonb;
    budget usage_budgets%rowtype;
    plan usage_allowances%rowtype;
    this_month date := (date_trunc('month', clock_timestamp() at time zone 'utc'))::date;
    used record;
    held record;
    tokens bigint;
    saving boolean;
    verdict text;
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
    perform usage_roll_period(p_tenant);
    select * into plan from usage_allowances a where a.tenant_id = p_tenant;
    select case when budget.month = this_month then budget.used_tokens else 0 end as tokens,
           case when budget.month = this_month then budget.used_micros else 0 end as micros into used;
    select coalesce(sum(r.tokens), 0) as tokens, coalesce(sum(r.micros), 0) as micros, count(*) as runs into held
        from usage_reservations r where r.tenant_id = p_tenant;
    if used.tokens + held.tokens >= budget.max_tokens then
        verdict := 'tokens';
    elsif used.micros + held.micros >= budget.max_cost_micros then
        verdict := 'cost';
    elsif plan.used_messages + held.runs >= plan.hard_messages then
        verdict := 'included_messages';
    elsif plan.used_tokens + held.tokens >= plan.hard_tokens then
        verdict := 'included_tokens';
    end if;
    if verdict is null then
        -- What a token cost this month on average, or 10 dollars a million to begin with.
        insert into usage_reservations (tenant_id, run_id, tokens, micros)
            values (p_tenant, p_run, tokens,
                    ceil(tokens * coalesce(budget.used_micros::numeric / nullif(budget.used_tokens, 0), 10)));
        select 'cheaper_model' = any (c.steps) and c.cheaper_model <> 'extractive' into saving
            from usage_choices c where c.tenant_id = p_tenant;
        if saving and ((used.tokens + held.tokens) * 10 >= budget.max_tokens * 9
                       or (used.micros + held.micros) * 10 >= budget.max_cost_micros * 9
                       or (plan.used_messages + held.runs) * 10 >= plan.hard_messages * 9
                       or (plan.used_tokens + held.tokens) * 10 >= plan.hard_tokens * 9) then
            verdict := 'cheaper';
        end if;
    elsif verdict in ('tokens', 'cost') then
        update usage_budgets b set month = this_month, used_tokens = used.tokens, used_micros = used.micros,
                refused = case when budget.month = this_month then b.refused else 0 end + 1,
                refused_at = clock_timestamp()
            where b.tenant_id = p_tenant;
    else
        update usage_allowances a set refused = a.refused + 1, refused_at = clock_timestamp()
            where a.tenant_id = p_tenant;
    end if;
    return verdict;
end $$;
