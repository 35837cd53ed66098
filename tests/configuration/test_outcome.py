"""Whatever becomes of applying a document, its outcome is known: all of it, files too, or nothing; and the answer says which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.configuration import configuration
from stonechat.errors import Unavailable
from stonechat.knowledge.consistency import check_consistency
from stonechat.knowledge.editing import read_written
from support.configurations import apply
from support.management import Keyed, Management, management
from support.postgres import TestDatabase

Tenant = Any


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("outcome")) as opened:
        yield opened


def shop_text(words: str) -> dict[str, Any]:
    return {"version": 1, "knowledge": {"sources": [{"type": "text", "name": "Hours", "text": words}]}}


async def stands(house: Management, shop: Keyed) -> str | None:
    """What the tenant's one text says; None where there is none."""
    actor, files = system(shop.tenant_id), house.services.knowledge.files
    async with house.services.database.tenant(shop.tenant_id) as session:
        source_id = await session.scalar(
            text("select source_id from sources where tenant_id = :t"), {"t": shop.tenant_id}
        )
        return source_id and (await read_written(session, actor, files=files, source_id=source_id)).text


class Ends:
    """How transactions end, in place of `Database.tenant`."""

    def __init__(
        self, real: Tenant, *, before: Any = None, after: BaseException | None = None, once: bool = True
    ) -> None:
        self.real, self.before, self.after, self.once, self.begun = real, before, after, once, 0

    @asynccontextmanager
    async def __call__(self, tenant_id: UUID, **options: Any) -> AsyncIterator[AsyncSession]:
        self.begun += 1
        ours = self.begun == 1 or not self.once
        async with self.real(tenant_id, **options) as session:
            yield session
            if ours and self.before is not None:
                await self.before()
        if ours and self.after is not None:
            raise self.after


async def break_off() -> None:
    raise ConnectionResetError("the database went away")


async def wait() -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize("before", [break_off, wait], ids=["breaks off", "takes too long"])
@pytest.mark.parametrize("new", [True, False], ids=["new", "changed"])
async def test_a_commit_that_was_not_done_is_told_and_leaves_what_there_was(
    house: Management, monkeypatch: pytest.MonkeyPatch, before: Any, new: bool
) -> None:
    shop, database = await house.tenant("Undone"), house.services.database
    if not new:
        await apply(house, shop, shop_text("From nine to five."))
    monkeypatch.setattr(configuration, "COMMIT_SECONDS", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(database, "tenant", Ends(database.tenant, before=before))
        patch.setattr(configuration, "ASKED_EVERY", 0.0)
        with pytest.raises(Unavailable, match="nothing of it was done"):
            await asyncio.wait_for(apply(house, shop, shop_text("Never.")), 30)
    assert await stands(house, shop) == (None if new else "From nine to five.")
    # The file that was stored for it goes, without a moment's doubt about the one that holds.
    later = clock.now() + timedelta(hours=2)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "now", lambda: later)
        found = await check_consistency(house.services.knowledge, shop.tenant_id)
    assert (found.stray_files, found.lost_files) == (1, 0)
    assert await stands(house, shop) == (None if new else "From nine to five.")
    await apply(house, shop, shop_text("From ten to four."))
    assert await stands(house, shop) == "From ten to four."


async def test_a_commit_whose_answer_got_lost_is_told_as_done(
    house: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, database = await house.tenant("Done"), house.services.database
    monkeypatch.setattr(database, "tenant", Ends(database.tenant, after=ConnectionResetError("too late")))
    applied = await apply(house, shop, shop_text("Always."))
    assert [change.action for change in applied.changes] == ["create"]
    monkeypatch.undo()
    assert await stands(house, shop) == "Always."


async def test_where_the_database_does_not_say_nobody_guesses(
    house: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, database = await house.tenant("Who knows"), house.services.database
    ends = Ends(database.tenant, after=ConnectionResetError("away"), once=False)
    monkeypatch.setattr(database, "tenant", ends)
    monkeypatch.setattr(configuration, "ASKED_EVERY", 0.0)
    with pytest.raises(Unavailable, match="Apply it again in a minute"):
        await apply(house, shop, shop_text("Perhaps."))
    assert ends.begun == 1 + configuration.ASKED
    monkeypatch.undo()
    again = await apply(house, shop, shop_text("Perhaps."))
    assert again.changes == [], "what was done stays as it is"


async def test_the_time_for_applying_ends_before_the_commit_begins(
    house: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, database = await house.tenant("Bounded"), house.services.database
    made: list[asyncio.Timeout] = []
    timeout = asyncio.timeout

    def noted(seconds: float | None) -> asyncio.Timeout:
        made.append(timeout(seconds))
        return made[-1]

    left: list[float] = []

    async def look() -> None:
        when = made[0].when()
        assert when is not None
        left.append(when - asyncio.get_running_loop().time())

    monkeypatch.setattr(asyncio, "timeout", noted)
    monkeypatch.setattr(configuration, "COMMIT_SECONDS", 1000.0)
    monkeypatch.setattr(database, "tenant", Ends(database.tenant, before=look))
    await apply(house, shop, shop_text("In time."))
    assert left[0] > configuration.SECONDS, "the commit has a time of its own"
