"""How files in conversations go: deleted, swept, gone from the store, their links renewed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.chat import models
from stonechat.chat.attachment_sweeper import mark_strays, sweep_attachments
from stonechat.chat.attachments import object_name
from stonechat.chat.conversations import delete_conversation
from stonechat.files import FolderStore
from support import uploads
from support.postgres import TestDatabase
from support.uploads import UploadSite, Visitor, upload_site


@pytest.fixture(scope="module")
async def site(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[UploadSite]:
    async with upload_site(test_database, tmp_path_factory.mktemp("attachments")) as site:
        yield site


@pytest.fixture
async def anna(site: UploadSite) -> Visitor:
    return await site.newcomer(knowledge={"enabled": False})


def said(events: list[dict[str, Any]]) -> str:
    done = [event["item"] for event in events if event["type"] == "thread.item.done"]
    return "".join(part["text"] for item in done if item["type"] == "assistant_message" for part in item["content"])


def user_item(events: list[dict[str, Any]]) -> dict[str, Any]:
    items = [event["item"] for event in events if event["type"] == "thread.item.done"]
    found: dict[str, Any] = next(item for item in items if item["type"] == "user_message")
    return found


async def rows(site: UploadSite, visitor: Visitor) -> list[models.Attachment]:
    async with site.services.database.tenant(visitor.caller.tenant_id) as session:
        row = models.Attachment
        return list(await session.scalars(select(row).where(row.tenant_id == visitor.caller.tenant_id)))


async def sweep(site: UploadSite) -> int:
    return await sweep_attachments(site.services.database, FolderStore(site.files))


async def test_a_deleted_file_is_gone(site: UploadSite, anna: Visitor) -> None:
    attached = await anna.attach("me.png", uploads.picture(), "image/png")
    assert len(site.stored(anna)) == 1
    assert (await anna.ask("attachments.delete", attachment_id=attached["id"])).status_code == 200
    assert site.stored(anna) == []
    assert await rows(site, anna) == []
    assert (await anna.client.get(attached["preview_url"])).status_code == 404
    assert (await anna.put(attached, uploads.picture())).status_code == 404


@pytest.mark.parametrize("by", ["the visitor", "an admin"])
async def test_files_go_with_their_conversation(site: UploadSite, anna: Visitor, by: str) -> None:
    attached = await anna.attach("me.png", uploads.picture(), "image/png")
    other = await anna.attach("other.txt", b"Not sent yet.")
    thread = user_item(await anna.say("Here.", attached["id"]))["thread_id"]
    if by == "the visitor":
        assert (await anna.ask("threads.delete", thread_id=thread)).status_code == 200
    else:
        actor = system(anna.caller.tenant_id)
        async with site.services.database.tenant(actor.tenant_id) as session:
            await delete_conversation(session, actor, thread_id=thread)
    assert (await anna.client.get(attached["preview_url"])).status_code == 404, "at once"
    await sweep(site)
    assert [path.name for path in site.stored(anna)] == [other["id"]]
    assert [row.attachment_id for row in await rows(site, anna)] == [other["id"]]


async def test_what_is_never_sent_is_swept_after_a_day(
    site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = await anna.attach("sent.txt", b"This one is sent.")
    await anna.say("Here.", sent["id"])
    await anna.attach("forgotten.txt", b"This one is not.")
    await anna.announce("never uploaded.txt", 5)
    await sweep(site)
    assert len(await rows(site, anna)) == 3
    tomorrow = clock.now() + timedelta(hours=25)
    monkeypatch.setattr(clock, "now", lambda: tomorrow)
    await sweep(site)
    assert [row.attachment_id for row in await rows(site, anna)] == [sent["id"]]
    assert [path.name for path in site.stored(anna)] == [sent["id"]]


async def test_the_sweeper_finishes_what_a_crash_left(site: UploadSite, anna: Visitor) -> None:
    attached = await anna.attach("a.txt", b"Some words.")
    events = await anna.say("Here.", attached["id"])
    tenant_id = anna.caller.tenant_id
    async with site.services.database.tenant(tenant_id) as session:
        # As if it had been bound to a conversation in the moment that this was deleted.
        await session.execute(
            text("update attachments set thread_id = 'thr_gone' where tenant_id = :t"), {"t": tenant_id}
        )
    assert await mark_strays(site.services.database) >= 1
    await FolderStore(site.files).delete(tenant_id, object_name(attached["id"]))  # crashed after the bytes
    await sweep(site)
    assert await rows(site, anna) == []
    assert await sweep(site) == 0
    assert said(events)


async def test_links_in_old_messages_are_renewed(
    site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached = await anna.attach("me.png", uploads.picture(), "image/png")
    thread = user_item(await anna.say("Here.", attached["id"]))["thread_id"]
    later = clock.now() + timedelta(minutes=14)
    link = attached["preview_url"]
    monkeypatch.setattr(site.attachments.links, "to_view", lambda key: f"http://renewed.example/{key.attachment_id}")
    monkeypatch.setattr(clock, "now", lambda: later)
    listed = (await anna.ask("items.list", thread_id=thread, order="asc")).json()["data"]
    whole = (await anna.ask("threads.get_by_id", thread_id=thread)).json()["items"]["data"]
    for items in (listed, whole):
        shown = items[0]["attachments"][0]["preview_url"]
        assert shown != link
        assert shown == f"http://renewed.example/{attached['id']}"


async def test_the_tenant_is_shown_the_files_of_a_conversation(site: UploadSite, anna: Visitor) -> None:
    picture = await anna.attach("me.png", uploads.picture(), "image/png")
    document = await anna.attach("a.txt", b"Some words.")
    thread = user_item(await anna.say("Here.", picture["id"], document["id"]))["thread_id"]
    actor = system(anna.caller.tenant_id)
    async with site.services.database.tenant(actor.tenant_id) as session:
        _, secret = await create_api_key(session, actor, name="x", scopes=["read"])
    answer = await site.client.get(f"/api/v1/conversations/{thread}", headers={"Authorization": f"Bearer {secret}"})
    seen, saved = answer.json()["items"][0]["attachments"]
    assert (await site.client.get(seen["preview_url"])).headers["content-type"] == "image/png"
    assert (await site.client.get(saved["download_url"])).content == b"Some words."
