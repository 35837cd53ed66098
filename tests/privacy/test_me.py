"""A visitor takes their conversations away, and has them erased."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from stonechat.limits.limiter import PRIVACY_PER_MINUTE
from stonechat.privacy import export
from support.postgres import TestDatabase
from support.uploads import UploadSite, Visitor, upload_site

TABLES = ("threads", "thread_items", "attachments", "feedback", "runs", "run_events", "turn_traces", "users")


@pytest.fixture(scope="module")
async def site(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[UploadSite]:
    async with upload_site(test_database, tmp_path_factory.mktemp("me")) as site:
        yield site


async def furnished(site: UploadSite, visitor: Visitor) -> str:
    """Give the visitor a name, a conversation of two turns with a file, and a judgement; returns the thread."""
    async with site.services.database.tenant(visitor.caller.tenant_id) as session:
        await session.execute(
            text("insert into users (tenant_id, user_id, name, email) values (:t, :u, 'Ada', 'ada@example.com')"),
            {"t": visitor.caller.tenant_id, "u": visitor.caller.user_id},
        )
    file = await visitor.attach("note.txt", b"my own note")
    events = await visitor.say("Where is my “order”?", file["id"])
    thread = next(event["thread"]["id"] for event in events if event["type"] == "thread.created")
    answer = next(event["item"]["id"] for event in reversed(events) if event["type"] == "thread.item.done")
    judged = {
        "type": "items.feedback",
        "params": {"thread_id": thread, "item_ids": [answer], "kind": "positive"},
        "metadata": {"reason": "Quick."},
    }
    assert (await visitor.client.post("/chatkit", json=judged, headers=visitor.headers)).status_code == 200
    await visitor.say("And now?", thread=thread)
    return str(thread)


async def exported(visitor: Visitor) -> dict[str, Any]:
    answer = await visitor.client.get("/v1/me/export", headers=visitor.headers)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = json.loads(answer.content)
    return document


async def rows_of(site: UploadSite, visitor: Visitor) -> dict[str, int]:
    counts = {}
    async with site.services.database.tenant(visitor.caller.tenant_id) as session:
        for table in TABLES:
            query = text(f"select count(*) from {table} where tenant_id = :t and user_id = :u")
            values = {"t": visitor.caller.tenant_id, "u": visitor.caller.user_id}
            counts[table] = int(await session.scalar(query, values) or 0)
    return counts


async def test_the_export_holds_all_that_is_the_visitors_and_nothing_else(site: UploadSite) -> None:
    ada = await site.newcomer()
    ben = site.visitor(ada.caller.tenant_id, ada.caller.agent_id)
    thread = await furnished(site, ada)
    await ben.say("Bens secret question")
    document = await exported(ada)
    assert document["user"]["email"] == "ada@example.com"
    assert [each["id"] for each in document["conversations"]] == [thread]
    conversation = document["conversations"][0]
    said = [item["content"][0]["text"] for item in conversation["items"] if item["type"] == "user_message"]
    assert said == ["Where is my “order”?", "And now?"]
    [judged] = conversation["feedback"]
    assert (judged["kind"], judged["reason"]) == ("positive", "Quick.")
    assert "token=" in json.dumps(conversation["items"][0]["attachments"])
    assert document["truncated"] is False
    assert "Bens" not in json.dumps(document)
    assert "hidden_context" not in json.dumps(document)


async def test_every_page_is_in_the_export_once(site: UploadSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE_THREADS", 2)
    monkeypatch.setattr(export, "PAGE_ITEMS", 1)
    ada = await site.newcomer()
    for number in range(3):
        await ada.say(f"Question {number}")
    document = await exported(ada)
    asked = [
        [item["content"][0]["text"] for item in each["items"] if item["type"] == "user_message"]
        for each in document["conversations"]
    ]
    assert asked == [["Question 2"], ["Question 1"], ["Question 0"]]


async def test_an_export_that_is_cut_is_whole_json_and_says_so(
    site: UploadSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = await site.newcomer()
    await ada.say("First")
    await ada.say("Second")
    monkeypatch.setattr(export, "MAX_BYTES", 300)
    document = await exported(ada)
    assert document["truncated"] is True
    assert len(document["conversations"]) == 1


async def test_erasing_leaves_nothing_and_touches_nobody_else(site: UploadSite) -> None:
    ada = await site.newcomer()
    ben = site.visitor(ada.caller.tenant_id, ada.caller.agent_id)
    thread = await furnished(site, ada)
    await ben.say("Bens question", (await ben.attach("ben.txt", b"bens note"))["id"])
    assert len(site.stored(ada)) == 2
    answer = await ada.client.delete("/v1/me", headers=ada.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert not any((await rows_of(site, ada)).values())
    assert (await rows_of(site, ben))["threads"] == 1
    assert len(site.stored(ben)) == 1
    assert (await ada.ask("threads.get_by_id", thread_id=thread)).status_code == 404
    assert (await exported(ada))["conversations"] == []
    assert (await ada.client.delete("/v1/me", headers=ada.headers)).status_code == 204


async def test_the_ledger_keeps_a_hash_and_no_name(site: UploadSite) -> None:
    ada = await site.newcomer()
    await furnished(site, ada)
    await ada.client.delete("/v1/me", headers=ada.headers)
    async with site.services.database.tenant(ada.caller.tenant_id) as session:
        rows = (await session.execute(text("select row_to_json(l)::text from usage_ledger l"))).scalars().all()
    assert not any(ada.caller.user_id in row or "ada@" in row for row in rows)


async def test_both_are_limited_and_want_a_session(site: UploadSite) -> None:
    ada = await site.newcomer()
    assert (await site.client.get("/v1/me/export")).status_code == 401
    assert (await site.client.delete("/v1/me")).status_code == 401
    for _ in range(PRIVACY_PER_MINUTE):
        await exported(ada)
    refused = await ada.client.delete("/v1/me", headers=ada.headers)
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
