"""Several uploads at once, or of one file; and one whose process died: nobody waits long, and nothing is overwritten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from stonechat.chat import upload_lease
from stonechat.chat.attachment_sweeper import sweep_attachments
from stonechat.chat.attachments import UNSENT_FOR
from stonechat.chat.links import FileKey
from stonechat.chat.upload_lease import LEASE, take
from stonechat.errors import Unavailable
from support.uploads import UploadSite, Visitor


class Halting:
    """`hello`, the second half of which waits to be let go."""

    def __init__(self, go_on: asyncio.Event | None = None) -> None:
        self.arriving, self.go_on = asyncio.Event(), go_on or asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.arriving.set()
        yield b"he"
        await self.go_on.wait()
        yield b"llo"


async def test_few_uploads_at_once(site: UploadSite, anna: Visitor) -> None:
    go_on = asyncio.Event()
    announced = [await anna.announce(f"{number}.txt", 5) for number in range(4)]
    under_way = [asyncio.create_task(anna.put(each, Halting(go_on))) for each in announced[:3]]
    while sum(site.uploads._under_way.values()) < 9:  # three each by visitor, tenant and process
        await asyncio.sleep(0.01)
    refused = await anna.put(announced[3], b"hello")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_concurrent")
    twice = await site.visitor(anna.caller.tenant_id, anna.caller.agent_id).put(announced[0], b"hello")
    assert twice.status_code == 429
    go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*under_way)] == [200] * 3
    assert (await anna.put(announced[3], b"hello")).status_code == 200
    again = await anna.put(announced[3], b"other")
    assert (again.status_code, again.json()["code"]) == (409, "attachment_already_uploaded")


async def test_a_second_try_while_the_first_arrives_is_not_told_that_all_is_well(anna: Visitor) -> None:
    sent = Halting()
    attachment = await anna.announce("a.txt", 5)
    first = asyncio.create_task(anna.put(attachment, sent))
    await sent.arriving.wait()
    second = await anna.put(attachment, b"hello")
    assert (second.status_code, second.json()["code"]) == (429, "too_many_concurrent")
    sent.go_on.set()
    assert (await first).status_code == 200


async def time_passes(site: UploadSite, visitor: Visitor, seconds: float) -> None:
    """For the leases of the visitor's uploads."""
    ours = {"tenant": visitor.caller.tenant_id, "seconds": seconds}
    async with site.services.database.tenant(visitor.caller.tenant_id) as session:
        await session.execute(
            text(
                "update attachments set claimed_until = claimed_until - make_interval(secs => :seconds) "
                "where tenant_id = :tenant"
            ),
            ours,
        )


async def test_whose_process_was_killed_in_mid_upload_tries_again_within_seconds(
    site: UploadSite, anna: Visitor
) -> None:
    attachment = await anna.announce("a.txt", 5)
    key = FileKey(anna.caller.tenant_id, anna.caller.user_id, attachment["id"])
    await take(site.services.database, key)  # and is killed
    refused = await anna.put(attachment, b"hello")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_concurrent")
    assert timedelta(seconds=15) >= LEASE
    await time_passes(site, anna, LEASE.total_seconds())
    assert (await anna.put(attachment, b"hello")).status_code == 200


async def test_an_upload_that_takes_long_keeps_its_lease(
    site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_lease, "RENEW_SECONDS", 0.01)
    sent = Halting()

    async def until() -> datetime | None:
        async with site.services.database.tenant(anna.caller.tenant_id) as session:
            return await session.scalar(text("select max(claimed_until) from attachments"))

    attachment = await anna.announce("a.txt", 5)
    first = asyncio.create_task(anna.put(attachment, sent))
    while (held := await until()) is None:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(20):
        while (await until() or held) <= held:
            await asyncio.sleep(0.01)
    sent.go_on.set()
    assert (await first).status_code == 200


async def test_who_stood_still_for_longer_than_a_lease_takes_nothing_from_the_next_try(
    site: UploadSite, anna: Visitor
) -> None:
    sent = Halting()
    attachment = await anna.announce("a.txt", 5)
    first = asyncio.create_task(anna.put(attachment, sent))
    await sent.arriving.wait()
    await time_passes(site, anna, LEASE.total_seconds())
    assert (await anna.put(attachment, b"world")).status_code == 200
    sent.go_on.set()
    late = await first
    assert (late.status_code, late.json()["code"]) == (429, "too_many_concurrent")
    assert [path.read_bytes() for path in site.stored(anna)] == [b"world"], "what is there stays there"


async def test_bytes_whose_row_could_not_be_written_are_sent_again_or_go(
    site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise Unavailable("The database is away.")

    with monkeypatch.context() as patch:
        patch.setattr(site.uploads, "_keep", fail)
        again, never = await anna.announce("a.txt", 5), await anna.announce("b.txt", 5)
        for attachment in (again, never):
            assert (await anna.put(attachment, b"hello")).status_code == 503
    assert len(site.stored(anna)) == 2, "stored, and no row says so"
    assert (await anna.put(again, b"hello")).status_code == 200
    async with site.services.database.tenant(anna.caller.tenant_id) as session:
        ours = {"id": never["id"], "age": UNSENT_FOR + timedelta(minutes=1)}
        await session.execute(
            text("update attachments set created_at = now() - cast(:age as interval) where attachment_id = :id"), ours
        )
    await sweep_attachments(site.services.database, site.attachments.files)
    assert [path.name for path in site.stored(anna)] == [again["id"]]
