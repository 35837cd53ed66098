"""Alerts at 50, 80 and 100 percent: each once in a period, whatever happens between, and mail to the owners."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.accounts.memberships import add_member
from stonechat.db.session import Database
from stonechat.mail import job_handlers
from stonechat.mail.transports import FolderTransport, KeptMail
from stonechat.usage.alerts import alert_tenant, send_alerts
from stonechat.usage.allowance import put_overage
from stonechat.usage.clockwork import refresh_allowances
from support.allowances import include, on_plan
from support.billing import use

URL = "https://chat.example"


class Owned:
    """A tenant with two owners and an editor, and the mail that they got."""

    def __init__(self, database: Database, tenant_id: UUID, folder: Path) -> None:
        self.database, self.tenant_id = database, tenant_id
        self.folder = FolderTransport(folder)
        self.people = {name: f"{name}-{uuid4().hex[:8]}@shop.example" for name in ("anna", "ben", "editor")}

    async def alerts(self) -> list[int]:
        """What is told now, after a look of the worker's: new levels, in order."""
        before = len(await self.told())
        await send_alerts(self.database, public_url=URL)
        return (await self.told())[before:]

    async def told(self) -> list[int]:
        async with self.database.tenant(self.tenant_id) as session:
            kinds = await session.scalars(
                text(
                    "select (payload ->> 'percent')::int from events where kind = 'usage.threshold_reached' "
                    "order by event_id"
                )
            )
            return list(kinds)

    async def post(self) -> list[KeptMail]:
        """Send what waits to be sent, as the worker does; all mails that arrived, oldest first."""
        async with self.database.directory() as session:
            jobs = await session.scalars(
                text(
                    "delete from jobs.pgqueuer where headers->>'tenant' = :tenant and entrypoint = 'mail.send' "
                    "returning payload"
                ),
                {"tenant": str(self.tenant_id)},
            )
            payloads: list[Any] = [json.loads(payload) for payload in jobs]
        send = job_handlers(self.folder)["mail.send"]
        for payload in payloads:
            await send(self.tenant_id, payload)
        return list(reversed(await self.folder.list_mails()))


@pytest.fixture
async def owned(database: Database, tenant_id: UUID, tmp_path: Path) -> Owned:
    made = Owned(database, tenant_id, tmp_path)
    async with database.tenant(tenant_id) as session:
        for name, email in made.people.items():
            role: Any = "editor" if name == "editor" else "owner"
            await add_member(session, system(tenant_id), email=email, role=role, name=name.title())
    return made


async def test_each_level_is_told_once_and_mailed_to_the_owners_only(database: Database, owned: Owned) -> None:
    await include(database, owned.tenant_id, tokens=1000)
    told = []
    for tokens in (499, 1, 299, 1, 199, 1, 500):
        await use(database, owned.tenant_id, tokens=tokens)
        told.append(await owned.alerts())
        assert await owned.alerts() == []
    assert told == [[], [50], [], [80], [], [100], []]
    mails = await owned.post()
    assert sorted(mail.to for mail in mails) == sorted([owned.people["anna"], owned.people["ben"]] * 3)
    assert sum("80 %" in mail.subject for mail in mails) == 2
    last = next(mail for mail in mails if "used up" in mail.subject)
    assert f"{URL}/console/usage" in last.text
    assert "1,000 of 1,000 tokens that your plan includes are used." in last.text


async def test_nothing_is_told_twice_after_a_recount_a_choice_or_a_plan_that_includes_as_much(
    database: Database, owned: Owned
) -> None:
    await on_plan(database, owned.tenant_id, "pro")
    await use(database, owned.tenant_id, tokens=20_000_000)
    # A count that is too high for a while, until the next recount, is no reason to tell again later.
    async with database.tenant(owned.tenant_id) as session:
        await session.execute(text("update usage_allowances set used_tokens = 50000000"))
    assert await owned.alerts() == [50, 80]
    await refresh_allowances(database)
    await use(database, owned.tenant_id, tokens=30_000_000)
    assert await owned.alerts() == []
    async with database.tenant(owned.tenant_id) as session:
        await put_overage(session, system(owned.tenant_id), opt_in=True, spend_cap_micros=5_000_000)
    assert await owned.alerts() == []
    await on_plan(database, owned.tenant_id, "pro", status="past_due")
    assert await owned.alerts() == []
    assert len(await owned.post()) == 2


async def test_an_upgrade_repeats_nothing_and_what_is_ahead_then_is_told_once(database: Database, owned: Owned) -> None:
    await on_plan(database, owned.tenant_id, "starter")
    await use(database, owned.tenant_id, tokens=10_000_000)
    assert await owned.alerts() == [50, 80, 100]
    await on_plan(database, owned.tenant_id, "pro")
    assert await owned.alerts() == [], "17 % of the larger plan"
    await use(database, owned.tenant_id, tokens=50_000_000)
    assert await owned.alerts() == [50, 80, 100], "of six times as much"
    await refresh_allowances(database)
    assert await owned.alerts() == []


async def test_a_new_period_begins_anew(database: Database, owned: Owned) -> None:
    await include(database, owned.tenant_id, tokens=1000)
    await use(database, owned.tenant_id, tokens=900)
    assert await owned.alerts() == [50, 80]
    async with database.tenant(owned.tenant_id) as session:  # as if that had been last month
        await session.execute(text("update usage_alerts set period_start = period_start - interval '31 days'"))
    assert await owned.alerts() == [50, 80]


async def test_a_crash_between_loses_nothing_and_repeats_nothing(database: Database, owned: Owned) -> None:
    await include(database, owned.tenant_id, tokens=1000)
    await use(database, owned.tenant_id, tokens=900)

    async def ended_early() -> None:
        async with database.tenant(owned.tenant_id) as session:
            assert await alert_tenant(session, owned.tenant_id, bound="plan", public_url=URL)
            raise RuntimeError("the process ended before its transaction did")

    with pytest.raises(RuntimeError):
        await ended_early()
    assert (await owned.told(), await owned.post()) == ([], [])
    assert await owned.alerts() == [50, 80]
    assert await owned.alerts() == []
    assert len(await owned.post()) == 2


async def test_two_workers_at_once_tell_once(database: Database, owned: Owned) -> None:
    await include(database, owned.tenant_id, tokens=1000)
    await use(database, owned.tenant_id, tokens=1000)
    await asyncio.gather(*(send_alerts(database, public_url=URL) for _ in range(4)))
    assert await owned.told() == [50, 80, 100]
    assert len(await owned.post()) == 2
