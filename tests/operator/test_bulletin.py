"""Announcements: what holds now is shown whatever is planned, all that there are can be seen, and there is an end to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.operator.bulletin import LISTED, MAX_LIVE, Bulletin
from stonechat.operator.models import AnnouncementRow
from support.console import ConsoleWorld
from support.operators import at_desk, press


@pytest.fixture(autouse=True)
async def none_before(world: ConsoleWorld) -> AsyncIterator[None]:
    async def clear() -> None:
        async with world.services.database.platform() as session:
            await session.execute(text("delete from announcements"))
        world.services.bulletin.forget()

    await clear()
    yield
    await clear()


async def put(world: ConsoleWorld, number: int, *, days: int, kind: str = "info", ends_in: int | None = None) -> None:
    """So many, that begin in so many days."""
    now = clock.now()
    async with world.services.database.platform() as session:
        session.add_all(
            AnnouncementRow(
                announcement_id=ids.new_id("ann"),
                kind=kind,
                title=f"{kind} {each} in {days} days",
                starts_at=now + timedelta(days=days, minutes=each),
                ends_at=now + timedelta(days=ends_in) if ends_in is not None else None,
                created_by="someone@example.com",
                created_at=now,
            )
            for each in range(number)
        )


async def test_what_is_to_come_takes_no_place_of_what_holds(world: ConsoleWorld) -> None:
    await put(world, 1, days=-2)
    await put(world, LISTED + 5, days=3)
    await put(world, LISTED + 5, days=-3, ends_in=-1)
    told = await Bulletin(world.services.database).notices(world.tenant_id)
    assert [notice.title for notice in told] == ["info 0 in -2 days"]


async def test_a_warning_comes_first_however_much_else_is_said(world: ConsoleWorld) -> None:
    await put(world, LISTED + 5, days=-1)
    await put(world, 1, days=-5, kind="warning")
    told = await Bulletin(world.services.database).notices(world.tenant_id)
    assert told[0].title == "warning 0 in -5 days"


async def test_all_that_are_to_come_are_listed_and_taken_along_and_their_number_is_bounded(world: ConsoleWorld) -> None:
    desk = await at_desk(world)
    await put(world, MAX_LIVE - 1, days=3)
    await put(world, LISTED, days=-3, ends_in=-1)
    await press(desk, "/operator/announcements", {"title": "The last", "kind": "info"})
    full = await press(desk, "/operator/announcements", {"title": "Too many", "kind": "info"}, status=409)
    assert "Withdraw one first" in full.text
    page = await desk.page("/operator/announcements")
    seen = len(page.all("#announcements tr[id]"))
    older = page.one('a[href*="before="]').attributes["href"] or ""
    page = await desk.page(older)
    assert not page.all('a[href*="before="]')
    assert seen + len(page.all("#announcements tr[id]")) == MAX_LIVE + LISTED
    taken = await desk.page("/operator/announcements/export")
    assert taken.response.text.count(" days,") == MAX_LIVE + LISTED - 1
    await press(desk, f"/operator/announcements/{await a_live_one(world)}/withdraw")
    await press(desk, "/operator/announcements", {"title": "Room again", "kind": "info"})


async def a_live_one(world: ConsoleWorld) -> str:
    async with world.services.database.platform() as session:
        return str(
            await session.scalar(text("select announcement_id from announcements where starts_at > now() limit 1"))
        )
