"""A conversation keeps the passages of its searches: follow-up questions cite them, after the document was read again too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stonechat.accounts.actor import system
from stonechat.knowledge import service, unanswered
from support import fake_openai as host
from support.fake_openai import chat_call, chat_text
from support.knowledge import run_jobs, upload
from support.platform import ORIGIN, Platform, of_type, open_platform
from support.postgres import TestDatabase

HANDBOOK = "# Handbook\n\n## Warranty\n\nThe warranty covers faults in material for 24 months. It begins on delivery."


@pytest.fixture
async def open_world(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(test_database, tmp_path, outbound_allowed=("127.0.0.0/8",)) as opened:
        yield opened


async def test_three_turns_keep_their_passages_across_a_new_reading(open_world: Platform) -> None:
    platform = open_world
    document = await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK, filename="handbook.md")
    replies = (
        chat_call("search_knowledge", '{"query": "warranty"}'),
        chat_text("It lasts 24 months [1]."),
        chat_text("On delivery [", "1]."),
        chat_text("Faults in material [1]."),
    )
    async with host.fake_openai(*replies) as fake:
        await platform.provider(fake.url)
        visitor = platform.visitor(await platform.agent(model="acme/small", knowledge={"enabled": True}))
        thread = None
        for turn, words in enumerate(("How long is the warranty?", "And when does it begin?", "What does it cover?")):
            if turn == 2:
                async with platform.services.database.tenant(platform.tenant_id) as session:
                    await service.reprocess_document(
                        session, system(platform.tenant_id), document_id=document.document_id
                    )
                await run_jobs(platform.services.knowledge, platform.tenant_id)
            events = await visitor.say(words, thread)
            items = [event["item"] for event in of_type(events, "thread.item.done")]
            answer = next(item for item in items if item["type"] == "assistant_message")
            thread = answer["thread_id"]
            part = answer["content"][0]
            assert [note["source"]["title"] for note in part["annotations"]] == ["Handbook"], (turn, part)
            assert "[" not in part["text"]
            opened = await platform.http.get(
                "/chatkit/sources",
                params={"thread": thread, "item": answer["id"], "index": "0"},
                headers={"Authorization": f"Bearer {visitor.token}", "Origin": ORIGIN},
            )
            assert "24 months" in opened.json()["text"]
        assert "24 months" in str(fake.body(3)), "the model is shown the passages again"
    await platform.services.chat.hub.afterwards_done()
    async with platform.services.database.tenant(platform.tenant_id) as session:
        assert await unanswered.list_groups(session, system(platform.tenant_id)) == ([], None)


async def test_a_model_that_says_it_does_not_know_is_gathered(open_world: Platform) -> None:
    platform = open_world
    await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK, filename="handbook.md")
    replies = (
        chat_call("search_knowledge", '{"query": "warranty for boats"}'),
        chat_text("Sorry, I could not find any information about boats."),
    )
    async with host.fake_openai(*replies) as fake:
        await platform.provider(fake.url)
        visitor = platform.visitor(await platform.agent(model="acme/small", knowledge={"enabled": True}))
        await visitor.say("Is there a warranty for boats?")
    await platform.services.chat.hub.afterwards_done()
    async with platform.services.database.tenant(platform.tenant_id) as session:
        (group,), _ = await unanswered.list_groups(session, system(platform.tenant_id))
    assert group.reasons == {"said_unknown": 1}
