"""Judgements of answers: whether they are taken, and what is kept of the reasons that visitors give."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.chat.conversations import list_feedback
from support.platform import ORIGIN, Platform, Visitor, open_platform
from support.postgres import TestDatabase


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with open_platform(test_database, tmp_path_factory.mktemp("platform")) as opened:
        opened.script()
        yield opened


@pytest.fixture
async def visitor(platform: Platform) -> Visitor:
    return platform.visitor(await platform.agent())


async def judge(visitor: Visitor, thread: str, item_id: str, reason: object = None, kind: str = "negative") -> Any:
    params = {"thread_id": thread, "item_ids": [item_id], "kind": kind}
    return await visitor.platform.http.post(
        "/chatkit",
        content=json.dumps({"type": "items.feedback", "params": params, "metadata": {"reason": reason}}),
        headers={"Authorization": f"Bearer {visitor.token}", "Content-Type": "application/json", "Origin": ORIGIN},
    )


async def reasons(visitor: Visitor, thread: str) -> dict[str, str | None]:
    async with visitor.platform.services.database.tenant(visitor.caller.tenant_id) as session:
        found = await list_feedback(session, system(visitor.caller.tenant_id), thread_id=thread)
    return {each.item_id: each.reason for each in found}


async def conversation(visitor: Visitor, questions: int) -> tuple[str, list[dict[str, Any]]]:
    thread = str((await visitor.say("Question 1"))[0]["thread"]["id"])
    for number in range(2, questions + 1):
        await visitor.say(f"Question {number}", thread)
    return thread, await visitor.items(thread)


async def hidden_items(visitor: Visitor, thread: str) -> int:
    async with visitor.platform.services.database.tenant(visitor.caller.tenant_id) as session:
        return int(
            await session.scalar(
                text("select count(*) from thread_items where thread_id = :t and kind = 'hidden_context_item'"),
                {"t": thread},
            )
            or 0
        )


async def test_a_reason_stays_when_a_newer_question_is_answered_again(visitor: Visitor) -> None:
    thread, items = await conversation(visitor, 3)
    answers = [item["id"] for item in items if item["type"] == "assistant_message"]
    for number, answer in enumerate(answers):
        assert (await judge(visitor, thread, answer, f"Reason {number}")).status_code == 200
    await visitor.events("threads.retry_after_item", thread_id=thread, item_id=items[2]["id"])
    assert await reasons(visitor, thread) == {answers[0]: "Reason 0"}
    assert await hidden_items(visitor, thread) == 1, "the reasons of answers that are gone went with them"


async def test_an_agent_without_judgements_takes_none(platform: Platform, visitor: Visitor) -> None:
    silent = platform.visitor(await platform.agent(feedback={"enabled": False}))
    thread, items = await conversation(silent, 1)
    refused = await judge(silent, thread, items[1]["id"], "Because.")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_offered")
    assert await reasons(silent, thread) == {}
    assert await hidden_items(silent, thread) == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (" It is\x00 about\npears.\t", "It is about pears."),
        ("\x1b[31mRed\x07\x9f alert", "[31mRed alert"),
        ("pay\u202eyap \u2066now\u2069 \u200bplease\ufeff", "payyap now please"),
        ("Café ist teuer 🙂 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "Café ist teuer 🙂 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("Write to jo@example.com, card 4111 1111 1111 1111.", "Write to █████, card █████."),
        ("x" * 501, "x" * 500),
        ("\u200b\u202e \x00", None),
    ],
)  # fmt: skip
async def test_a_reason_is_cleaned_before_it_is_kept(visitor: Visitor, given: str, kept: str | None) -> None:
    thread, items = await conversation(visitor, 1)
    assert (await judge(visitor, thread, items[1]["id"], given)).status_code == 200
    [reason] = (await reasons(visitor, thread)).values()
    assert (reason or None) == kept
