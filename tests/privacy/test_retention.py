"""Conversations are kept as long as the plan says, and nothing goes without notice."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import select, text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.memberships import add_member
from stonechat.chat.models import Thread
from stonechat.db.session import Database
from stonechat.plans.subscription import Status, set_subscription
from stonechat.privacy.retention import NOTICE, Retention, apply_retention, get_retention, sweep_retention
from support.plans import platform_put_back, set_platform

NOW = clock.now()
URL = "https://chat.example"


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> object:
    def set_to(moment: datetime) -> None:
        monkeypatch.setattr(clock, "now", lambda: moment)

    return set_to


async def on(database: Database, tenant_id: UUID, plan: str, status: Status = "active") -> None:
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key=plan, provider="manual", status=status)


async def talk(database: Database, tenant_id: UUID, **ages: int) -> None:
    """Conversations by name, so many days old."""
    async with database.tenant(tenant_id) as session:
        for name, days in ages.items():
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at, updated_at) "
                    "values (:tenant, :name, 'usr_1', :at, :at)"
                ),
                {"tenant": tenant_id, "name": name, "at": NOW - timedelta(days=days)},
            )


async def kept(database: Database, tenant_id: UUID) -> set[str]:
    async with database.tenant(tenant_id) as session:
        return set(await session.scalars(select(Thread.thread_id).where(Thread.tenant_id == tenant_id)))


async def mails(database: Database, tenant_id: UUID) -> int:
    async with database.directory() as session:
        counted = await session.scalar(
            text("select count(*) from jobs.pgqueuer where headers->>'tenant' = :id and entrypoint = 'mail.send'"),
            {"id": str(tenant_id)},
        )
    return counted or 0


async def apply(database: Database, tenant_id: UUID) -> int:
    return await apply_retention(database, tenant_id, public_url=URL)


async def test_without_a_plan_nothing_goes(database: Database, tenant_id: UUID) -> None:
    await talk(database, tenant_id, old=5000)
    assert await apply(database, tenant_id) == 0
    assert await kept(database, tenant_id) == {"old"}


async def test_a_shorter_time_is_announced_and_then_holds(database: Database, tenant_id: UUID, at: object) -> None:
    assert callable(at)
    await talk(database, tenant_id, old=400, middle=60, new=-1)
    async with database.tenant(tenant_id) as session:
        await add_member(session, system(tenant_id), email=f"{tenant_id.hex}@example.com", role="owner")
    await on(database, tenant_id, "free")
    assert await apply(database, tenant_id) == 0
    async with database.tenant(tenant_id) as session:
        told = await get_retention(session, tenant_id)
    assert (told.days, told.next_days) == (None, 30)
    assert told.next_at is not None
    assert await mails(database, tenant_id) == 1
    at(told.next_at - timedelta(seconds=1))
    assert await apply(database, tenant_id) == 0
    at(told.next_at)
    assert await apply(database, tenant_id) == 2
    assert await kept(database, tenant_id) == {"new"}
    assert await mails(database, tenant_id) == 1
    async with database.tenant(tenant_id) as session:
        assert await get_retention(session, tenant_id) == Retention(30, None, None)
    at(told.next_at + timedelta(days=2))
    assert await apply(database, tenant_id) == 1  # a month after its last message


async def test_a_longer_time_holds_at_once_and_takes_the_announcement_back(
    database: Database, tenant_id: UUID, at: object
) -> None:
    assert callable(at)
    await talk(database, tenant_id, old=100)
    await on(database, tenant_id, "free")
    await apply(database, tenant_id)
    await on(database, tenant_id, "starter")
    await apply(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        assert (await get_retention(session, tenant_id)).next_days == 180
    await on(database, tenant_id, "business")
    at(NOW + NOTICE * 3)
    assert await apply(database, tenant_id) == 0
    async with database.tenant(tenant_id) as session:
        assert await get_retention(session, tenant_id) == Retention(None, None, None)
    assert await kept(database, tenant_id) == {"old"}


async def test_what_a_plan_kept_is_kept_when_it_lapses(database: Database, tenant_id: UUID, at: object) -> None:
    assert callable(at)
    await talk(database, tenant_id, old=100, older=200)
    await on(database, tenant_id, "starter")
    await apply(database, tenant_id)
    at(NOW + NOTICE + timedelta(hours=6))
    await on(database, tenant_id, "starter", "unpaid")
    assert await apply(database, tenant_id) == 1
    assert await kept(database, tenant_id) == {"old"}


async def test_the_sweep_finds_every_tenant_on_a_plan(database: Database, tenant_id: UUID, at: object) -> None:
    assert callable(at)
    await talk(database, tenant_id, old=100)
    async with platform_put_back(database):
        await set_platform(database, default_plan="free")
        await sweep_retention(database, public_url=URL)
        at(NOW + NOTICE + timedelta(hours=6))
        assert await sweep_retention(database, public_url=URL) >= 1
    assert await kept(database, tenant_id) == set()
