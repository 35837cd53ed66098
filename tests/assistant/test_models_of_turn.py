"""Which model answers: the chosen one, and its fallbacks where the tenant listed them; each counted and named."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import InferenceOptions, ThreadMetadata

from stonechat import clock, ids
from stonechat.assistant.agent import Assistant
from stonechat.assistant.config import parse_config
from stonechat.assistant.models_of_turn import model_of
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.errors import ProviderResting, UpstreamFailed, UpstreamTimedOut
from stonechat.identity.caller import Caller
from stonechat.providers.breaker import FAILURES
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.retries import RetryPolicy
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import FakeKnowledge, add_provider, model_providers, user_message

POLICY = RetryPolicy(first_pause=0.001)


def turn_of(tenant_id: UUID, *, chosen: str | None = None, **config: Any) -> Turn:
    message = user_message("What is it?")
    message.inference_options = InferenceOptions(model=chosen)
    return Turn(
        Caller(tenant_id, "usr_1", "agt_1"),
        parse_config({"name": "Shop", "model": "first/large", "knowledge": {"enabled": False}} | config),
        ThreadMetadata(id="thr_1", created_at=clock.now()),
        [message],
        lambda _kind: ids.new_id("itm"),
    )


async def answer(providers: Any, turn: Turn) -> str:
    assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())
    texts = [
        event.item.content[0].text
        async for event in assistant.respond(turn)
        if event.type == "thread.item.done" and event.item.type == "assistant_message"
    ]
    return "".join(texts)


def attempts(turn: Turn) -> list[tuple[str, int, str]]:
    return [
        (f"{span.data['provider']}/{span.data['model']}", span.data["attempt"], span.data["outcome"])
        for span in turn.trace.spans
        if span.kind == "generation"
    ]


def test_a_choice_counts_only_if_the_agent_offers_it() -> None:
    choices = [{"id": "acme/small", "label": "Small"}]
    assert model_of(turn_of(UUID(int=1), chosen="acme/small", model_choices=choices)) == "acme/small"
    assert model_of(turn_of(UUID(int=1), chosen="acme/huge", model_choices=choices)) == "first/large"
    assert model_of(turn_of(UUID(int=1), chosen="acme/small")) == "first/large"
    assert model_of(turn_of(UUID(int=1), model_choices=choices)) == "first/large"


@pytest.mark.parametrize(
    ("trouble", "tries", "outcome"),
    [
        (host.refusal(500), 3, "not_reached"),
        (host.refusal(429), 3, "refused"),
        (host.refusal(429, "insufficient_quota"), 1, "refused"),
        ([host.SILENCE], 1, "not_reached"),
        ([], 3, "not_reached"),
    ],
)
async def test_a_listed_fallback_answers_for_a_model_that_cannot_be_reached(
    database: Database, tenant_id: UUID, trouble: list[bytes], tries: int, outcome: str
) -> None:
    limits = StreamLimits(first_event=0.2)
    async with (
        host.fake_openai(trouble) as down,
        host.fake_openai(host.chat_text("Nine.")) as up,
        model_providers(database, limits=limits, retries=POLICY) as providers,
    ):
        await add_provider(database, tenant_id, name="first", base_url=down.url, api_key="sk-first")
        await add_provider(database, tenant_id, name="second", base_url=up.url, api_key="sk-second")
        turn = turn_of(tenant_id, fallback_models=["gone/model", "second/small"])
        assert await answer(providers, turn) == "Nine."
    assert len(down.requests) == tries
    assert {request.headers["authorization"] for request in up.requests} == {"bearer sk-second"}
    assert attempts(turn) == [("first/large", number, outcome) for number in range(1, tries + 1)] + [
        ("second/small", 1, "answered")
    ]
    uses = {use.provider: use for use in turn.usage.uses}
    assert (uses["second"].input_tokens, uses["second"].estimated) == (120, False)
    hung = trouble == [host.SILENCE]
    assert (uses["first"].input_tokens > 0, uses["first"].estimated) == (hung, hung), "who refuses charges nothing"


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        (host.refusal(401), UpstreamFailed),
        (host.refusal(400), UpstreamFailed),
        (host.cut(host.chat_text("Half ", "an answer"), after=4), UpstreamFailed),
    ],
)
async def test_no_fallback_for_what_was_refused_or_had_begun(
    database: Database, tenant_id: UUID, trouble: list[bytes], error: type[Exception]
) -> None:
    async with (
        host.fake_openai(trouble) as down,
        host.fake_openai(host.chat_text("Nine.")) as up,
        model_providers(database, retries=POLICY) as providers,
    ):
        await add_provider(database, tenant_id, name="first", base_url=down.url)
        await add_provider(database, tenant_id, name="second", base_url=up.url)
        with pytest.raises(error):
            await answer(providers, turn_of(tenant_id, fallback_models=["second/small"]))
    assert (len(down.requests), len(up.requests)) == (1, 0)


async def test_without_a_list_nothing_else_is_asked(database: Database, tenant_id: UUID) -> None:
    async with (
        host.fake_openai(host.refusal(503)) as down,
        host.fake_openai(host.chat_text("Nine.")) as up,
        model_providers(database, retries=POLICY) as providers,
    ):
        await add_provider(database, tenant_id, name="first", base_url=down.url)
        await add_provider(database, tenant_id, name="second", base_url=up.url)
        with pytest.raises(UpstreamFailed, match="very busy"):
            await answer(providers, turn_of(tenant_id))
    assert up.requests == []


async def test_a_provider_that_keeps_failing_is_left_alone_and_says_for_how_long(
    database: Database, tenant_id: UUID, make_tenant: Any
) -> None:
    other = await make_tenant()
    async with (
        host.fake_openai(host.refusal(500)) as fake,
        model_providers(database, retries=RetryPolicy(retries=0)) as providers,
    ):
        for tenant in (tenant_id, other):
            await add_provider(database, tenant, name="first", base_url=fake.url)
        for _ in range(FAILURES):
            with pytest.raises(UpstreamFailed):
                await answer(providers, turn_of(tenant_id))
        with pytest.raises(ProviderResting, match="tried again in"):
            await answer(providers, turn_of(tenant_id))
        assert len(fake.requests) == FAILURES
        with pytest.raises(UpstreamFailed):
            await answer(providers, turn_of(other))
        assert len(fake.requests) == FAILURES + 1, "another tenant's calls are its own"


async def test_what_was_used_is_estimated_when_the_visitor_hangs_up(database: Database, tenant_id: UUID) -> None:
    reply = host.hanging(host.chat_thinking(["x" * 400], "Nine."), after=3)
    async with host.fake_openai(reply) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, name="first", base_url=fake.url)
        turn = turn_of(tenant_id)
        task = asyncio.create_task(answer(providers, turn))
        while not turn.usage.uses or turn.usage.uses[0].output_tokens < 100:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(fake.hung_up.wait(), 10)
    [use] = turn.usage.uses
    assert (use.estimated, use.output_tokens) == (True, 100)
    assert attempts(turn) == [("first/large", 1, "stopped")]


async def test_the_first_token_has_a_limit_that_empty_events_do_not_move(database: Database, tenant_id: UUID) -> None:
    reply = host.hanging(host.responses_text("Nine."), after=3)
    limits = StreamLimits(first_event=0.2, idle=30)
    async with (
        host.fake_openai(reply) as fake,
        model_providers(database, limits=limits, openai_base_url=fake.url) as providers,
    ):
        await add_provider(database, tenant_id, name="first", kind="openai")
        with pytest.raises(UpstreamTimedOut):
            await answer(providers, turn_of(tenant_id))
