"""Where the use of a period leads, and that its parts add up to the ledger, whatever the period and the time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.plans.subscription import Subscription, usage_period
from stonechat.usage.ledger import LedgerEntry, ledger_entry, settle
from stonechat.usage.period_use import Used
from stonechat.usage.projection import TOO_EARLY, projected_use
from stonechat.usage.report import Days, grouped_by, roll_up, total, usage_report

MOST = 10**15
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=1500)).map(lambda after: BEGIN + after)
zones = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
amounts = st.integers(min_value=0, max_value=MOST)
lengths = st.timedeltas(min_value=timedelta(days=1), max_value=timedelta(days=31))
shares = st.floats(min_value=0, max_value=1.2)


@given(start=moments, length=lengths, share=shares, messages=amounts, tokens=amounts, more=amounts)
def test_a_projection_is_never_less_than_was_used_and_grows_with_it(
    start: datetime, length: timedelta, share: float, messages: int, tokens: int, more: int
) -> None:
    end, now = start + length, start + length * share
    least = projected_use(Used(messages, tokens), start=start, end=end, now=now)
    most = projected_use(Used(messages + more, tokens + more), start=start, end=end, now=now)
    if now - start < TOO_EARLY:
        assert least is most is None
        return
    assert least is not None
    assert most is not None
    assert 0 <= messages <= least.messages <= most.messages
    assert 0 <= tokens <= least.tokens <= most.tokens
    if not messages:
        assert least.messages == 0


@given(start=moments, length=lengths, messages=amounts, tokens=amounts)
def test_at_the_end_and_after_it_a_projection_is_what_was_used(
    start: datetime, length: timedelta, messages: int, tokens: int
) -> None:
    used, end = Used(messages, tokens), start + length
    assert projected_use(used, start=start, end=end, now=end) == used
    assert projected_use(used, start=start, end=end, now=end + timedelta(days=3)) == used
    assert projected_use(used, start=start, end=end, now=start) is None
    half = projected_use(used, start=start, end=end, now=start + length / 2)
    assert half is not None
    assert abs(half.tokens - 2 * tokens) <= max(1, 2 * tokens * 10**-6)


@given(start=moments, length=lengths, share=shares, zone=zones, tokens=amounts)
def test_a_projection_does_not_know_time_zones(
    start: datetime, length: timedelta, share: float, zone: timezone, tokens: int
) -> None:
    end, now, used = start + length, start + length * share, Used(0, tokens)
    elsewhere = projected_use(used, start=start.astimezone(zone), end=end, now=now.astimezone(zone))
    assert elsewhere == projected_use(used, start=start, end=end, now=now)


@given(
    anchor=moments,
    length=st.sampled_from([timedelta(days=28), timedelta(days=31), timedelta(days=365)]),
    after=st.timedeltas(min_value=timedelta(days=-40), max_value=timedelta(days=800)),
    zone=zones,
)
def test_periods_hold_their_moment_and_follow_one_another_without_a_gap(
    anchor: datetime, length: timedelta, after: timedelta, zone: timezone
) -> None:
    held = Subscription("pro", 1, "stripe", "active", period_start=anchor, period_end=anchor + length)
    at = anchor + after
    start, end = usage_period(held, at)
    assert start <= at < end
    assert end - start <= timedelta(days=31)
    assert usage_period(held, at.astimezone(zone)) == (start, end)
    assert usage_period(held, start) == (start, end)
    if at >= anchor:
        assert usage_period(held, end)[0] == end


def entry_at(tenant_id: UUID, at: datetime, *, agent: str, tokens: int, model: str) -> LedgerEntry:
    entry = ledger_entry(
        tenant_id, "usr_1", agent_id=agent, provider="acme", model=model, input_tokens=tokens, output_tokens=1
    )
    object.__setattr__(entry, "occurred_at", at)
    return entry


async def test_days_and_agents_add_up_to_the_ledger(database: Database, tenant_id: UUID) -> None:
    """On both sides of midnight, in UTC; before and after the days that are over are added up."""
    midnight = clock.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight - timedelta(days=5)
    edges = [first, midnight - timedelta(microseconds=1), midnight - timedelta(days=1), midnight - timedelta(days=2)]
    async with database.tenant(tenant_id) as session:
        for number in range(40):
            at = edges[number % 4] if number < 8 else first + timedelta(hours=3 * (number - 8))
            entry = entry_at(tenant_id, at, agent=f"agt_{number % 3}", tokens=10 + number, model=f"m{number % 2}")
            await settle(session, tenant_id, run_id=f"run_{number}", entries=[entry])
    days, actor = Days(first.date(), midnight.date()), system(tenant_id)
    for _ in range(2):
        async with database.tenant(tenant_id) as session:
            ledger = (
                await session.execute(
                    text(
                        "select (occurred_at at time zone 'utc')::date, agent_id, sum(input_tokens + output_tokens)::int, "
                        "count(distinct run_id)::int from usage_ledger group by 1, 2"
                    )
                )
            ).all()
            rows = await usage_report(session, actor, days=days, by="all")
            for by in ("day", "agent", "model"):
                assert await usage_report(session, actor, days=days, by=by) == grouped_by(rows, by)
            await roll_up(session, tenant_id)
        cells: dict[tuple[object, object], tuple[int, int]] = {}
        for row in rows:
            tokens, answers = cells.get((row.day, row.agent_id), (0, 0))
            spent = row.input_tokens + row.output_tokens
            cells[row.day, row.agent_id] = (tokens + spent, answers + row.answers)
        assert cells == {(day, agent): (tokens, answers) for day, agent, tokens, answers in ledger}
        whole = total(rows)
        assert whole.input_tokens + whole.output_tokens == sum(tokens for _, _, tokens, _ in ledger)
        assert whole.answers == 40
