"""Answers: what a visitor's turn gives, whatever model is behind it."""

import json
from typing import Any
from uuid import UUID

import pytest
from agents import add_trace_processor, set_trace_processors
from agents.tracing import TracingProcessor
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ThreadItem,
)

from stonechat import clock
from stonechat.assistant.agent import MAX_STEPS, Assistant
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.turn import ModelUse
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import (
    REFUNDS,
    SHIPPING,
    FakeKnowledge,
    add_provider,
    ask,
    ask_host,
    model_providers,
    user_message,
)

# Models behind an OpenAI-compatible address


async def test_a_compatible_model_searches_answers_and_cites(
    assistant: Assistant, database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    call = host.chat_call("search_knowledge", '{"query": "refund period"}')
    text = host.chat_text("Within ", "14 days [", "1", "]. Shipping", " takes three [2][7].")
    async with host.fake_openai(call, text) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake, instructions="Be kind.")
    assert answer.error is None
    assert answer.text == "Within 14 days. Shipping takes three."
    annotations = answer.messages[0].content[0].annotations
    assert [(annotation.source.title, annotation.index) for annotation in annotations] == [
        ("Refunds", 14),
        ("Shipping.pdf", 36),
    ]
    assert knowledge.searches == [(tenant_id, "refund period", 8)]
    assert answer.usage == ModelUse("acme", "large", input_tokens=240, output_tokens=14, cached_tokens=200)

    first, second = fake.body(0), fake.body(1)
    assert first["model"] == "large"
    assert first["stream_options"] == {"include_usage": True}
    assert first["messages"][0]["role"] == "system"
    assert first["messages"][0]["content"].endswith("Be kind.")
    assert first["messages"][1] == {"role": "user", "content": "How do refunds work?"}
    assert first["tools"][0]["function"]["name"] == "search_knowledge"
    output = json.loads(next(message["content"] for message in second["messages"] if message["role"] == "tool"))
    assert "no instructions" in output["note"]
    assert [(passage["n"], passage["text"]) for passage in output["passages"]] == [
        (1, REFUNDS.text),
        (2, SHIPPING.text),
    ]
    assert fake.requests[0].headers["authorization"] == "bearer sk-tenants-own"


async def test_the_second_turn_of_a_thread_works_and_keeps_its_passages(
    assistant: Assistant, database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    call = host.chat_call("search_knowledge", '{"query": "refunds"}')
    async with host.fake_openai(call, host.chat_text("14 days [1]."), host.chat_text("As said [1].")) as fake:
        first = await ask_host(assistant, database, tenant_id, fake)
        history: list[ThreadItem] = [user_message("How do refunds work?"), *first.items, user_message("Really?")]
        config = AgentConfig(name="Shop", model="acme/large")
        second = await ask(assistant, history, tenant_id=tenant_id, config=config)
    assert second.error is None
    assert second.text == "As said."
    assert [annotation.source.title for annotation in second.messages[0].content[0].annotations] == ["Refunds"]
    assert knowledge.recalls == [["chk_1", "chk_2"]]
    messages = fake.body(2)["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert messages[4]["content"] == "14 days."
    assert REFUNDS.text in messages[3]["content"]
    ids_seen = [item.id for item in (*first.items, *second.items)]
    assert len(set(ids_seen)) == len(ids_seen)


async def test_what_a_model_says_before_a_search_is_a_message_of_its_own(
    assistant: Assistant, database: Database, tenant_id: UUID
) -> None:
    call = host.chat_call("search_knowledge", '{"query": "refunds"}', say="Let me look.")
    async with host.fake_openai(call, host.chat_text("14 days.")) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert [message.content[0].text for message in answer.messages] == ["Let me look.", "14 days."]
    assert len({message.id for message in answer.messages}) == 2


async def test_use_is_estimated_where_a_host_does_not_report_it(
    assistant: Assistant, database: Database, tenant_id: UUID
) -> None:
    async with host.fake_openai(host.chat_text("a" * 40, "b" * 41, usage=None)) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert answer.usage.output_tokens == 21
    assert answer.usage.input_tokens > 20


async def test_an_agent_without_knowledge_gets_no_tool_and_its_brackets_stay(
    assistant: Assistant, database: Database, tenant_id: UUID
) -> None:
    async with host.fake_openai(host.chat_text("See note [1].")) as fake:
        answer = await ask_host(
            assistant,
            database,
            tenant_id,
            fake,
            knowledge={"enabled": False},
            temperature=0.3,
            max_output_tokens=99,
        )
    assert answer.text == "See note [1]."
    body = fake.body(0)
    assert "tools" not in body
    assert (body["temperature"], body["max_tokens"]) == (0.3, 99)


async def test_a_model_that_only_searches_is_stopped(
    assistant: Assistant, database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    calls = [
        host.chat_call("search_knowledge", '{"query": "refunds"}', call_id=f"call_{number}") for number in range(9)
    ]
    async with host.fake_openai(*calls) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert isinstance(answer.error, UpstreamFailed)
    assert answer.error.members["reason"] == "too_many_steps"
    assert len(fake.requests) == MAX_STEPS
    assert len(knowledge.searches) == 4


@pytest.mark.parametrize("arguments", ["", "{", "[]", '{"q": "x"}', '{"query": 1}', '{"query": " "}'])
async def test_nonsense_arguments_are_told_to_the_model(
    assistant: Assistant, database: Database, tenant_id: UUID, knowledge: FakeKnowledge, arguments: str
) -> None:
    call = host.chat_call("search_knowledge", arguments)
    async with host.fake_openai(call, host.chat_text("Sorry.")) as fake:
        answer = await ask_host(assistant, database, tenant_id, fake)
    assert (answer.text, answer.error) == ("Sorry.", None)
    assert knowledge.searches == []


async def test_a_long_history_is_cut_to_its_newest_part(
    assistant: Assistant, database: Database, tenant_id: UUID
) -> None:
    history: list[ThreadItem] = []
    for number in range(100):
        text = AssistantMessageContent(text=f"answer {number} " + "x" * 3000)
        history += [
            user_message(f"question {number}"),
            AssistantMessageItem(id=f"m{number}", thread_id="thr_1", created_at=clock.now(), content=[text]),
        ]
    history.append(user_message("the last question"))
    async with host.fake_openai(host.chat_text("ok")) as fake:
        await ask_host(assistant, database, tenant_id, fake, history)
    messages = fake.body(0)["messages"][1:]
    assert messages[0]["role"] == "user"
    assert messages[-1]["content"] == "the last question"
    assert 20_000 < sum(len(message["content"]) for message in messages) < 81_000


# OpenAI's own API


async def test_responses_with_search_typed_annotations_and_use(
    database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    annotation = {
        "type": "url_citation",
        "start_index": 0,
        "end_index": 3,
        "title": "T",
        "url": "https://x.example",
    }
    call = host.responses_call("search_knowledge", '{"query": "refunds"}')
    text = host.responses_text("14 ", "days [1].", annotation=annotation)
    async with (
        host.fake_openai(call, text) as fake,
        model_providers(database, openai_base_url=fake.url) as providers,
    ):
        await add_provider(database, tenant_id, name="openai", kind="openai")
        assistant = Assistant(knowledge=knowledge, providers=providers, settings=Settings())
        answer = await ask(assistant, "Refunds?", model="openai/gpt", tenant_id=tenant_id)
    assert answer.error is None
    assert answer.text == "14 days."
    assert answer.usage == ModelUse("openai", "gpt", input_tokens=180, output_tokens=18, cached_tokens=128)
    assert [request.path for request in fake.requests] == ["/v1/responses", "/v1/responses"]
    assert fake.body(0)["input"] == [{"role": "user", "content": "Refunds?"}]


async def test_an_answer_cut_at_the_limit_of_tokens_stands(
    database: Database, tenant_id: UUID, knowledge: FakeKnowledge
) -> None:
    async with (
        host.fake_openai(host.responses_text("Half an ans", end="incomplete")) as fake,
        model_providers(database, openai_base_url=fake.url) as providers,
    ):
        await add_provider(database, tenant_id, name="openai", kind="openai")
        assistant = Assistant(knowledge=knowledge, providers=providers, settings=Settings())
        answer = await ask(assistant, "Refunds?", model="openai/gpt", tenant_id=tenant_id)
    assert (answer.text, answer.error) == ("Half an ans", None)
    assert answer.usage.output_tokens == 9


class Traces(TracingProcessor):
    """Counts what the SDK would send somewhere."""

    def __init__(self) -> None:
        self.seen = 0

    def on_trace_start(self, trace: Any) -> None:
        self.seen += 1

    on_trace_end = on_span_start = on_span_end = on_trace_start

    def shutdown(self) -> None:
        pass

    force_flush = shutdown


async def test_nothing_is_traced_to_anyone(assistant: Assistant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-operators")
    traces = Traces()
    add_trace_processor(traces)
    try:
        await ask(assistant, "refunds", model="extractive")
        assert traces.seen == 0
    finally:
        set_trace_processors([])
