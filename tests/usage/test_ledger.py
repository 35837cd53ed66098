"""The usage ledger: what was used, by whom, never changed after."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.db.session import Database
from stonechat.errors import InvalidInput
from stonechat.usage.ledger import LedgerEntry, Period, answers_by_day, hash_user, ledger_entry, record, usage_summary

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def used(tenant_id: UUID, run: str, *, user: str = "usr_1", model: str = "large", **tokens: int) -> LedgerEntry:
    return ledger_entry(tenant_id, user, run_id=run, agent_id="agt_1", provider="acme", model=model, **tokens)


async def write(database: Database, tenant_id: UUID, *entries: LedgerEntry) -> None:
    async with database.tenant(tenant_id) as session:
        for entry in entries:
            record(session, tenant_id, entry=entry)


async def test_a_period_adds_up(
    database: Database, tenant_id: UUID, make_tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOON)
    first = used(tenant_id, "run_1", input_tokens=100, output_tokens=10, cached_tokens=60)
    second = used(tenant_id, "run_2", user="usr_2", model="small", input_tokens=5, output_tokens=1)
    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(hours=13))
    third = used(tenant_id, "run_3", input_tokens=7, output_tokens=3)
    monkeypatch.setattr(clock, "now", lambda: NOON + timedelta(days=9))
    later = used(tenant_id, "run_4", input_tokens=1000)
    await write(database, tenant_id, first, second, third, later)
    monkeypatch.setattr(clock, "now", lambda: NOON)
    other = await make_tenant()
    await write(database, other, used(other, "run_5", input_tokens=9999))

    async with database.tenant(tenant_id) as session:
        summary = await usage_summary(
            session, tenant_id, period=Period(NOON - timedelta(days=1), NOON + timedelta(days=9))
        )
        nothing = await usage_summary(session, tenant_id, period=Period(NOON - timedelta(days=9), NOON))
    assert (summary.runs, summary.users) == (3, 2)
    assert (summary.input_tokens, summary.output_tokens, summary.cached_tokens) == (112, 14, 60)
    assert [(use.provider, use.model, use.runs, use.input_tokens) for use in summary.models] == [
        ("acme", "large", 2, 107),
        ("acme", "small", 1, 5),
    ]
    assert [(day.day, day.runs, day.output_tokens) for day in summary.days] == [
        ("2026-11-20", 2, 11),
        ("2026-11-21", 1, 3),
    ]
    assert (nothing.runs, nothing.input_tokens, nothing.models, nothing.days) == (0, 0, [], [])


async def test_users_are_counted_without_being_named(tenant_id: UUID) -> None:
    entry = used(tenant_id, "run_1")
    assert entry.user_hash == hash_user(tenant_id, "usr_1")
    assert len(entry.user_hash) == 32
    assert entry.user_hash != hash_user(UUID(int=1), "usr_1")
    assert "usr_1" not in repr(entry)


async def test_negative_counts_are_nothing(tenant_id: UUID) -> None:
    entry = used(tenant_id, "run_1", input_tokens=-5, output_tokens=-1, cached_tokens=-1)
    assert (entry.input_tokens, entry.output_tokens, entry.cached_tokens) == (0, 0, 0)


@pytest.mark.parametrize("statement", ["update usage_ledger set input_tokens = 0", "delete from usage_ledger"])
async def test_entries_are_never_changed(database: Database, tenant_id: UUID, statement: str) -> None:
    await write(database, tenant_id, used(tenant_id, "run_1"))
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.tenant(tenant_id) as session:
            await session.execute(text(statement))


async def test_the_last_days_are_counted_and_quiet_ones_are_there(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(days: int, run: str, **more: Any) -> LedgerEntry:
        monkeypatch.setattr(clock, "now", lambda: NOON - timedelta(days=days))
        return used(tenant_id, run, **more)

    entries = [at(0, "run_1"), at(0, "run_2", user="usr_2"), at(0, "run_3"), at(6, "run_4"), at(7, "run_5")]
    await write(database, tenant_id, *entries)
    monkeypatch.setattr(clock, "now", lambda: NOON)
    async with database.tenant(tenant_id) as session:
        days = await answers_by_day(session, Actor(tenant_id, "person", "per_1", frozenset({"read"})))
        with pytest.raises(InvalidInput):
            await answers_by_day(session, system(tenant_id), days=0)
    assert [(day.answers, day.visitors) for day in days] == [(1, 1), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (3, 2)]
    assert days[-1].day == NOON.date()
