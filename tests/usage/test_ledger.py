"""The usage ledger: what was used, by whom, at what cost, never changed after."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, ScopeMissing
from stonechat.usage import report
from stonechat.usage.ledger import LedgerEntry, hash_user, ledger_entry, record_use, settle
from stonechat.usage.prices import list_version
from stonechat.usage.report import Days, GroupBy, UsageRow, answers_by_day, roll_up, total, usage_report

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
WEEK = Days(date(2026, 11, 16), date(2026, 11, 22))


def used(
    tenant_id: UUID, *, user: str = "usr_1", model: str = "gpt-4.1-mini", at: datetime = NOON, **more: Any
) -> LedgerEntry:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", lambda: at)
        return ledger_entry(tenant_id, user, agent_id="agt_1", provider="openai", model=model, **more)


async def write(database: Database, tenant_id: UUID, **runs: LedgerEntry) -> None:
    async with database.tenant(tenant_id) as session:
        for run_id, entry in runs.items():
            await settle(session, tenant_id, run_id=run_id, entries=[entry])


async def told(database: Database, tenant_id: UUID, by: GroupBy, days: Days = WEEK) -> list[UsageRow]:
    async with database.tenant(tenant_id) as session:
        return await usage_report(session, system(tenant_id), days=days, by=by)


@pytest.fixture
async def week(database: Database, tenant_id: UUID, make_tenant: Any) -> UUID:
    """Three answers on two days by two models, one a week later, and another tenant's."""
    await write(
        database,
        tenant_id,
        run_1=used(tenant_id, input_tokens=1000, output_tokens=100, cached_tokens=600),
        run_2=used(tenant_id, user="usr_2", model="house-model", input_tokens=50, output_tokens=10),
        run_3=used(tenant_id, at=NOON + timedelta(hours=13), input_tokens=7, output_tokens=3, estimated=True),
        run_4=used(tenant_id, at=NOON + timedelta(days=9), input_tokens=5000),
    )
    other = await make_tenant()
    await write(database, other, run_5=used(other, input_tokens=9999))
    return tenant_id


async def test_days_add_up(database: Database, week: UUID) -> None:
    days = await told(database, week, "day")
    assert [(row.day, row.answers, row.input_tokens, row.output_tokens) for row in days] == [
        (date(2026, 11, 20), 2, 1050, 110),
        (date(2026, 11, 21), 1, 7, 3),
    ]
    # 400 at 0.40, 600 cached at 0.10 and 100 written at 1.60 dollars a million; nobody knows what house-model costs.
    assert (days[0].cost_micros, days[0].cached_tokens, days[0].unpriced_tokens) == (160 + 60 + 160, 600, 60)
    assert (days[1].cost_micros, days[1].estimated_tokens) == (8, 10)
    whole = total(days)
    assert (whole.answers, whole.calls, whole.cost_micros, whole.unpriced_tokens) == (3, 3, 388, 60)


async def test_models_and_agents_are_told_apart(database: Database, week: UUID) -> None:
    models = await told(database, week, "model")
    assert [(row.provider, row.model, row.answers) for row in models] == [
        ("openai", "gpt-4.1-mini", 2),
        ("openai", "house-model", 1),
    ]
    assert [(row.agent_id, row.answers, row.day) for row in await told(database, week, "agent")] == [("agt_1", 3, None)]


@pytest.mark.parametrize("by", ["day", "agent", "model", "all"])
async def test_days_that_are_over_are_added_up_once(
    database: Database, week: UUID, by: GroupBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = Days(date(2026, 11, 16), date(2026, 11, 30))
    before = await told(database, week, by, days)
    assert report.grouped_by(await told(database, week, "all", days), by) == before
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 22, 0, 30, tzinfo=UTC))
    async with database.tenant(week) as session:
        assert await roll_up(session, week) == 1, "the 21st may still have entries to come"
    monkeypatch.setattr(clock, "now", lambda: datetime(2026, 11, 22, 1, 30, tzinfo=UTC))
    for found in (1, 0, 0):
        async with database.tenant(week) as session:
            assert await roll_up(session, week) == found
    async with database.tenant(week) as session:
        rolled = await session.scalar(text("select count(*) from usage_days where tenant_id = :id"), {"id": week})
    assert rolled == 3
    assert await told(database, week, by, days) == before


async def test_a_ledger_that_begins_today_has_nothing_to_add_up(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, tenant_id, run_1=used(tenant_id, input_tokens=1))
    monkeypatch.setattr(clock, "now", lambda: NOON.replace(hour=0, minute=30))
    async with database.tenant(tenant_id) as session:
        assert await roll_up(session, tenant_id) == 0


async def test_a_long_ledger_is_added_up_in_steps(
    database: Database, tenant_id: UUID, make_tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(database, tenant_id, run_1=used(tenant_id, input_tokens=1))
    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(days=40))
    monkeypatch.setattr(report, "TENANTS_AT_ONCE", 3)
    for _ in range(3):
        await make_tenant()
    assert await report.roll_up_all(database) >= 31
    async with database.tenant(tenant_id) as session:
        assert await roll_up(session, tenant_id) == 9


@pytest.mark.parametrize(
    "days", [Days(date(2026, 11, 2), date(2026, 11, 1)), Days(date(2025, 1, 1), date(2026, 11, 1))]
)
async def test_a_report_has_bounds(database: Database, tenant_id: UUID, days: Days) -> None:
    with pytest.raises(InvalidInput):
        await told(database, tenant_id, "day", days)


async def test_users_are_counted_without_being_named(tenant_id: UUID) -> None:
    entry = used(tenant_id)
    assert entry.user_hash == hash_user(tenant_id, "usr_1")
    assert entry.user_hash is not None
    assert len(entry.user_hash) == 32
    assert entry.user_hash != hash_user(UUID(int=1), "usr_1")
    assert "usr_1" not in repr(entry)


async def test_impossible_counts_are_bounded(tenant_id: UUID) -> None:
    entry = used(tenant_id, input_tokens=-5, output_tokens=10**15, cached_tokens=7)
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (0, 10**9, 0)


async def test_a_call_outside_a_run_is_counted(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await record_use(
            session,
            tenant_id,
            purpose="transcription",
            provider="openai",
            model="gpt-4o-mini-transcribe",
            input_tokens=2000,
            output_tokens=100,
        )
        row = (await session.execute(text("select * from usage_ledger"))).mappings().one()
    assert (row["run_id"], row["agent_id"], row["user_hash"], row["purpose"]) == (None, None, None, "transcription")
    assert (row["cost_micros"], row["currency"], row["price_version"]) == (6500, "USD", list_version())
    today = report.last_days(1)
    assert [(row.purpose, row.answers, row.calls) for row in await told(database, tenant_id, "all", today)] == [
        ("transcription", 0, 1)
    ]


@pytest.mark.parametrize("statement", ["update usage_ledger set input_tokens = 0", "delete from usage_ledger"])
async def test_entries_are_never_changed(database: Database, tenant_id: UUID, statement: str) -> None:
    await write(database, tenant_id, run_1=used(tenant_id))
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(tenant_id) as session:
            await session.execute(text(statement))


async def test_who_may_not_read_is_told_nothing(database: Database, tenant_id: UUID) -> None:
    nobody = Actor(tenant_id, "api_key", "key_1")
    async with database.tenant(tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await usage_report(session, nobody, days=WEEK, by="day")


async def test_the_last_days_are_counted_and_quiet_ones_are_there(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await write(
        database,
        tenant_id,
        run_1=used(tenant_id),
        run_2=used(tenant_id, user="usr_2"),
        run_3=used(tenant_id),
        run_4=used(tenant_id, at=NOON - timedelta(days=6)),
        run_5=used(tenant_id, at=NOON - timedelta(days=7)),
    )
    monkeypatch.setattr(clock, "now", lambda: NOON)
    async with database.tenant(tenant_id) as session:
        days = await answers_by_day(session, Actor(tenant_id, "person", "per_1", frozenset({"read"})))
        with pytest.raises(InvalidInput):
            await answers_by_day(session, system(tenant_id), days=0)
    assert [(day.answers, day.visitors) for day in days] == [(1, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (3, 2)]
    assert days[-1].day == NOON.date()
