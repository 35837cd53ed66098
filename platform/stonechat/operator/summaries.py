"""Sums over every tenant's use, made every few minutes and kept in the platform's own tables.

Pages about ten thousand tenants read these; adding up a month of everybody's ledger for each page would take seconds. Days that
are over come from `usage_days`, and what is not added up there yet from the ledger's end. Running it twice changes nothing.
"""

from __future__ import annotations

import json
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.db.session import Database
from stonechat.operator.books import forget_old_invoices
from stonechat.plans.platform_settings import DEFAULT_PLAN, get_setting
from stonechat.plans.terms import BUILT_IN, SELF_HOSTED
from stonechat.usage.report import today

DAYS = 30
"""What a summary covers."""
QUIET_AFTER = timedelta(days=14)
SPIKE_FACTOR, SPIKE_FLOOR_MICROS = 4, 1_000_000
"""A day is unusual from four times the mean of the 14 days before it, and from a dollar, on."""
FAILING_PERCENT, FAILING_RUNS = 20, 10
KEEP_MONTHS = 24

_USE = """
    create temporary table day_use on commit drop as
    with rolled as (
        select tenant_id, day, sum(answers)::bigint answers, sum(input_tokens + output_tokens)::bigint tokens,
               sum(cost_micros)::bigint cost
        from usage_days where day >= cast(:first as date) group by tenant_id, day),
    fresh as (
        select l.tenant_id, (l.occurred_at at time zone 'UTC')::date as day,
               count(distinct l.run_id) filter (where l.purpose = 'answer') answers,
               coalesce(sum(l.input_tokens + l.output_tokens), 0)::bigint tokens,
               coalesce(sum(l.cost_micros), 0)::bigint cost, max(l.occurred_at) as last_at
        from usage_ledger l left join usage_rollups r on r.tenant_id = l.tenant_id
        where l.occurred_at >= cast(:since as timestamptz)
            and (l.occurred_at at time zone 'UTC')::date > coalesce(r.through, date '1970-01-01')
        group by l.tenant_id, (l.occurred_at at time zone 'UTC')::date)
    select tenant_id, day, answers, tokens, cost, null::timestamptz as last_at from rolled
    union all
    select tenant_id, day, answers, tokens, cost, last_at from fresh"""

_PRICES = """
    create temporary table plan_prices on commit drop as
    select p.key, p.version, p.month_micros from jsonb_to_recordset(cast(:built_in as jsonb))
        as p (key text, version int, month_micros bigint)
    union
    select key, version, (terms->>'price_cents')::bigint * 10000
        / case when terms->>'interval' = 'year' then 12 else 1 end from plan_versions"""

_SUMMARIES = """
    insert into tenant_summaries (tenant_id, answers, tokens, cost_micros, revenue_micros, cost_today_micros,
        cost_usual_micros, runs, failed_runs, last_seen_at, health, flags, refreshed_at)
    with used as (
        select tenant_id, sum(answers) filter (where day > cast(:month_ago as date)) answers,
               sum(tokens) filter (where day > cast(:month_ago as date)) tokens,
               sum(cost) filter (where day > cast(:month_ago as date)) cost,
               coalesce(sum(cost) filter (where day = cast(:today as date)), 0) cost_today,
               coalesce(sum(cost) filter (where day < cast(:today as date)
                                              and day >= cast(:two_weeks_ago as date)), 0) / 14 cost_usual,
               max(coalesce(last_at, day + interval '12 hours')) last_seen
        from day_use group by tenant_id),
    ran as (
        select r.tenant_id, count(*) runs, count(*) filter (where r.status in ('failed', 'crashed')) failed
        from used u join runs r on r.tenant_id = u.tenant_id
        where u.last_seen > cast(:now as timestamptz) - interval '2 days'
            and r.finished_at > cast(:now as timestamptz) - interval '1 day' group by r.tenant_id),
    pays as (
        select t.tenant_id, case when t.status in ('active', 'past_due') and t.provider <> 'none'
                                      and (t.cancel_at is null or t.cancel_at > cast(:now as timestamptz))
                                 then p.month_micros else 0 end as micros
        from tenant_plans t left join plan_prices p on p.key = t.plan_key and p.version = t.plan_version),
    seen as (
        select t.tenant_id, coalesce(u.answers, 0) answers, coalesce(u.tokens, 0) tokens, coalesce(u.cost, 0) cost,
               coalesce(y.micros, 0) revenue, coalesce(u.cost_today, 0) cost_today, coalesce(u.cost_usual, 0) cost_usual,
               coalesce(r.runs, 0) runs, coalesce(r.failed, 0) failed, u.last_seen, t.status, t.created_at,
               coalesce(r.runs >= cast(:failing_runs as bigint)
                        and r.failed * 100 >= r.runs * cast(:failing_percent as bigint), false) as fails,
               p.status as plan_status
        from tenants t left join used u using (tenant_id) left join ran r using (tenant_id)
        left join pays y using (tenant_id) left join tenant_plans p using (tenant_id))
    select tenant_id, answers, tokens, cost, revenue, cost_today, cost_usual, runs, failed, last_seen,
        case when status = 'suspended' then 'suspended'
             when plan_status in ('past_due', 'unpaid') then 'unpaid'
             when fails then 'failing'
             when last_seen is null and created_at > cast(:quiet_since as timestamptz) then 'new'
             when last_seen is null or last_seen < cast(:quiet_since as timestamptz) then 'quiet' else 'good' end,
        array_remove(array[
            case when cost_today >= cast(:floor as bigint) and cost_today > cast(:factor as bigint) * cost_usual
                then 'cost_spike' end,
            case when revenue > 0 and cost > revenue then 'loss' end,
            case when revenue = 0 and cost >= 10 * cast(:floor as bigint) then 'unpaid_cost' end,
            case when fails then 'failing' end,
            case when revenue > 0 and last_seen < cast(:quiet_since as timestamptz) then 'gone_quiet' end], null),
        cast(:now as timestamptz)
    from seen
    on conflict (tenant_id) do update set answers = excluded.answers, tokens = excluded.tokens,
        cost_micros = excluded.cost_micros, revenue_micros = excluded.revenue_micros,
        cost_today_micros = excluded.cost_today_micros, cost_usual_micros = excluded.cost_usual_micros,
        runs = excluded.runs, failed_runs = excluded.failed_runs,
        last_seen_at = greatest(excluded.last_seen_at, tenant_summaries.last_seen_at), health = excluded.health,
        flags = excluded.flags, refreshed_at = excluded.refreshed_at"""

_MONTHS = """
    insert into tenant_months (month, tenant_id, answers, tokens, cost_micros)
    select date_trunc('month', day)::date, tenant_id, sum(answers), sum(tokens), sum(cost) from day_use
    where day >= cast(:last_month as date) group by 1, 2
    on conflict (month, tenant_id) do update set answers = excluded.answers, tokens = excluded.tokens,
        cost_micros = excluded.cost_micros
    where (tenant_months.answers, tenant_months.tokens, tenant_months.cost_micros)
        is distinct from (excluded.answers, excluded.tokens, excluded.cost_micros)"""

_DAYS = """
    insert into platform_days (day, tenants, active_tenants, answers, tokens, cost_micros, revenue_micros)
    select d.day::date, (select count(*) from tenants where created_at < d.day + interval '1 day'),
        count(distinct u.tenant_id) filter (where u.answers > 0), coalesce(sum(u.answers), 0), coalesce(sum(u.tokens), 0),
        coalesce(sum(u.cost), 0),
        case when d.day::date = cast(:today as date)
            then (select coalesce(sum(revenue_micros), 0) / 30 from tenant_summaries) else 0 end
    from generate_series(cast(:first as date), cast(:today as date), interval '1 day') as d (day)
    left join day_use u on u.day = d.day::date group by d.day
    on conflict (day) do update set tenants = excluded.tenants, active_tenants = excluded.active_tenants,
        answers = excluded.answers, tokens = excluded.tokens, cost_micros = excluded.cost_micros,
        revenue_micros = case when excluded.day = cast(:today as date) then excluded.revenue_micros
                              else platform_days.revenue_micros end"""

_INVOICED = """
    insert into platform_months (month, currency, invoices, invoiced_cents, paid_cents)
    with books as (
        select status, currency, total_cents, paid_cents, created_at, paid_at from invoices
        union all
        select status, currency, total_cents, paid_cents, created_at, paid_at from kept_invoices k
        where not exists (select 1 from invoices i where i.tenant_id = k.tenant_id and i.invoice_id = k.invoice_id))
    select month, currency, sum(invoices), sum(invoiced), sum(paid) from (
        select date_trunc('month', created_at at time zone 'UTC')::date as month, currency, count(*) as invoices,
            sum(total_cents)::bigint as invoiced, 0::bigint as paid
        from books where status in ('open', 'paid', 'uncollectible') group by 1, 2
        union all
        select date_trunc('month', paid_at at time zone 'UTC')::date, currency, 0, 0, sum(paid_cents)::bigint
        from books where status = 'paid' and paid_at is not null group by 1, 2
        union all  -- so that a sum falls to nothing with the last invoice that is taken back
        select month, currency, 0, 0, 0 from platform_months where month >= cast(:last_month as date)) each
    where month >= cast(:last_month as date)
        or month not in (select month from platform_months)  -- of the time before this was kept
    group by month, currency
    on conflict (month, currency) do update set invoices = excluded.invoices,
        invoiced_cents = excluded.invoiced_cents, paid_cents = excluded.paid_cents"""
"""This month and the last are summed anew from the invoices there are, and from those that were kept of tenants that are gone.
Older ones stay as they were: of the time before invoices were kept, those of deleted tenants are in no table any more."""


async def refresh_summaries(database: Database) -> None:
    """Make every sum anew: of tenants for 30 days, of months since the last one, of the platform's days."""
    async with database.platform() as session:
        # One at a time; who comes second finds it done.
        if not await session.scalar(text("select pg_try_advisory_xact_lock(hashtext('refresh_summaries'))")):
            return
        await session.execute(text("set local statement_timeout = '120s'"))
        await _refresh(session)


async def _refresh(session: AsyncSession) -> None:
    now, day = clock.now(), today()
    last_month = (day.replace(day=1) - timedelta(days=1)).replace(day=1)
    first = min(last_month, day - timedelta(days=DAYS))
    dates = {"first": first, "today": day}
    await session.execute(text(_USE), {"first": first, "since": now - timedelta(days=(day - first).days + 1)})
    await session.execute(text("analyze day_use"))
    await session.execute(text(_PRICES), {"built_in": _built_in()})
    await session.execute(
        text(_SUMMARIES),
        {
            "now": now,
            "today": day,
            "month_ago": day - timedelta(days=DAYS),
            "two_weeks_ago": day - timedelta(days=14),
            "quiet_since": now - QUIET_AFTER,
            "factor": SPIKE_FACTOR,
            "floor": SPIKE_FLOOR_MICROS,
            "failing_runs": FAILING_RUNS,
            "failing_percent": FAILING_PERCENT,
        },
    )
    await session.execute(text(_MONTHS), {"last_month": last_month})
    await session.execute(text(_DAYS), dates)
    await session.execute(text(_INVOICED), {"last_month": last_month})
    gone = "delete from tenant_summaries s where not exists (select 1 from tenants t where t.tenant_id = s.tenant_id)"
    await session.execute(text(gone))
    await forget_old_invoices(session)
    old = (day - timedelta(days=31 * KEEP_MONTHS)).replace(day=1)
    await session.execute(text("delete from tenant_months where month < cast(:old as date)"), {"old": old})


async def default_plan(session: AsyncSession) -> str:
    """Key of the plan that tenants without a subscription are on."""
    key = await get_setting(session, DEFAULT_PLAN)
    return key if isinstance(key, str) else SELF_HOSTED.key


def _built_in() -> str:
    plans = [
        {
            "key": plan.key,
            "version": plan.version,
            "month_micros": plan.price_cents * 10_000 // (12 if plan.interval == "year" else 1),
        }
        for plan in BUILT_IN.values()
    ]
    return json.dumps(plans)
