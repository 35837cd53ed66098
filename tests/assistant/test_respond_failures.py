"""Answers that do not come about: what visitors are told, what is kept, and that nothing goes on for nobody."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import (
    ThreadMetadata,
)

from stonechat import clock, ids
from stonechat.assistant.agent import Assistant
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.turn import Turn, TurnUsage
from stonechat.db.session import Database
from stonechat.errors import RateLimited, UpstreamFailed, UpstreamTimedOut
from stonechat.identity.caller import Caller
from stonechat.providers.deadlines import StreamLimits
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import (
    Answer,
    FakeKnowledge,
    add_provider,
    ask,
    ask_host,
    model_providers,
    user_message,
)


@pytest.mark.parametrize(
    ("reply", "reason", "allow_retry"),
    [
        (host.refusal(401), "key_refused", False),
        (host.refusal(403), "key_refused", False),
        (host.refusal(404), "model_not_found", False),
        (host.refusal(400), "request_refused", False),
        (host.refusal(429), "rate_limited", True),
        (host.refusal(429, "insufficient_quota"), "quota_exhausted", False),
        (host.refusal(500), "status_500", True),
        (host.refusal(307, headers={"Location": "http://127.0.0.1:1/"}), "status_307", False),
        (host.chat_text(), "empty", True),
        (host.chat_call("search_knowledge", "[" * 90_000), "bad_answer", True),
        ([], "unreachable", True),
    ],
)
async def test_a_failing_host_gives_a_calm_sentence(
    assistant: Assistant, database: Database, tenant_id: UUID, reply: list[bytes], reason: str, allow_retry: bool
) -> None:
    async with host.fake_openai(reply) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert isinstance(answer.error, UpstreamFailed)
    assert answer.error.members == {"reason": reason, "allow_retry": allow_retry}
    assert "sk-" not in str(answer.error.problem())
    transient = reason in ("rate_limited", "status_500", "unreachable")
    assert len(fake.requests) == (3 if transient else 1), "what cannot help is not repeated, and no redirect followed"
    assert answer.items == []


@pytest.mark.parametrize(("spoil", "reason"), [(host.garbled, "bad_answer"), (host.cut, "broken_off")])
async def test_a_broken_stream_keeps_what_was_said(
    assistant: Assistant, database: Database, tenant_id: UUID, spoil: Any, reason: str
) -> None:
    async with host.fake_openai(spoil(host.chat_text("Within ", "14 days"), after=4)) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert isinstance(answer.error, UpstreamFailed)
    assert answer.error.members == {"reason": reason, "allow_retry": True}
    assert answer.text == "Within 14 days"
    assert answer.usage.output_tokens > 0


@pytest.mark.parametrize(
    ("limits", "after"),
    [
        (StreamLimits(first_event=0.1), 1),
        (StreamLimits(idle=0.1), 3),
        (StreamLimits(total=0.2), 3),
    ],
)
async def test_a_silent_host_is_given_up(
    database: Database, tenant_id: UUID, knowledge: FakeKnowledge, limits: StreamLimits, after: int
) -> None:
    reply = host.hanging(host.chat_text("Within ", "14 days"), after=after)
    async with host.fake_openai(reply) as fake, model_providers(database, limits=limits) as providers:
        assistant = Assistant(knowledge=knowledge, providers=providers, settings=Settings())
        answer = await ask_host(assistant, database, tenant_id, fake)
        await asyncio.wait_for(fake.hung_up.wait(), 10)
    assert isinstance(answer.error, UpstreamTimedOut)
    assert answer.error.members["allow_retry"] is True
    assert answer.text == ("" if after == 1 else "Within ")


async def test_an_unknown_provider_is_no_concern_of_the_visitors(assistant: Assistant, tenant_id: UUID) -> None:
    answer = await ask(assistant, "Hello", model="nowhere/large", tenant_id=tenant_id)
    assert isinstance(answer.error, UpstreamFailed)
    assert "nowhere" not in str(answer.error)
    assert answer.error.members == {"reason": "model_unknown", "allow_retry": False}


async def test_errors_of_our_own_keep_their_face(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    knowledge.error = RateLimited("Too many searches.")
    answer = await ask(assistant, "refunds", model="extractive")
    assert isinstance(answer.error, RateLimited)


async def test_our_own_mistakes_stay_visible_as_such(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    knowledge.error = ZeroDivisionError("a bug")
    answer = await ask(assistant, "refunds", model="extractive")
    assert answer.error is not None
    assert not isinstance(answer.error, UpstreamFailed)


async def test_hanging_up_stops_the_model(
    assistant: Assistant, database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    reply = host.hanging(host.chat_text("Within ", "14 days"), after=4)
    async with host.fake_openai(reply) as fake:
        await add_provider(database, tenant_id, base_url=fake.url)
        usage = TurnUsage()
        turn = assistant.respond(
            Turn(
                Caller(tenant_id, "usr_1", "agt_1"),
                AgentConfig(name="Shop", model="acme/large"),
                ThreadMetadata(id="thr_1", created_at=clock.now()),
                [user_message("Refunds?")],
                lambda _kind: ids.new_id("itm"),
                usage=usage,
            )
        )
        answer = Answer()
        while answer.deltas != ["Within", " 14 days"]:
            answer.take(await anext(turn))
        await turn.aclose()
        await asyncio.wait_for(fake.hung_up.wait(), 10)
    assert [(use.provider, use.output_tokens) for use in usage.uses] == [("acme", 4)]


async def test_cancelling_the_task_stops_the_model(assistant: Assistant, database: Database, tenant_id: UUID) -> None:
    reply = host.hanging(host.chat_text("Within ", "14 days"), after=4)
    async with host.fake_openai(reply) as fake:
        task = asyncio.create_task(ask_host(assistant, database, tenant_id, fake))
        while not fake.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(fake.hung_up.wait(), 10)


async def test_no_connection_is_held_while_a_model_streams(
    assistant: Assistant, database: Database, tenant_id: UUID
) -> None:
    reply = host.hanging(host.chat_text("Within ", "14 days"), after=4)
    async with host.fake_openai(reply) as fake:
        tasks = [asyncio.create_task(ask_host(assistant, database, tenant_id, fake))]
        while fake.served < 1:
            await asyncio.sleep(0.01)
        assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
