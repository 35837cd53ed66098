"""Answers: what a visitor's turn gives, whatever model is behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from agents import add_trace_processor, set_trace_processors
from agents.tracing import TracingProcessor
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    FileSource,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    ThreadItem,
    ThreadMetadata,
    URLSource,
)
from pydantic import SecretStr

from stonechat import clock, ids
from stonechat.assistant.agent import MAX_STEPS, Assistant
from stonechat.assistant.config import AgentConfig, parse_config
from stonechat.assistant.extractive import ABSTENTION, MAX_QUOTE_CHARACTERS, NO_DOCUMENTS, NO_QUESTION
from stonechat.assistant.scripted import SCRIPTED_DELTAS, SCRIPTED_TEXT
from stonechat.assistant.turn import ModelUse, Turn, TurnUsage
from stonechat.db.session import Database
from stonechat.errors import RateLimited, UpstreamFailed, UpstreamTimedOut
from stonechat.identity.caller import Caller
from stonechat.knowledge.search import Passage
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.retries import RetryPolicy
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import (
    REFUNDS,
    SHIPPING,
    Answer,
    FakeKnowledge,
    add_provider,
    ask,
    model_providers,
    user_message,
)


@pytest.fixture
def knowledge() -> FakeKnowledge:
    return FakeKnowledge(REFUNDS, SHIPPING)


@pytest.fixture
async def assistant(database: Database, knowledge: FakeKnowledge) -> AsyncIterator[Assistant]:
    limits = StreamLimits(connect=5, first_event=5, idle=5, total=20)
    async with model_providers(database, limits=limits, retries=RetryPolicy(first_pause=0.01)) as providers:
        yield Assistant(knowledge=knowledge, providers=providers, settings=Settings())


async def ask_host(
    assistant: Assistant,
    database: Database,
    tenant_id: UUID,
    fake: host.FakeOpenAI,
    question: Any = "How do refunds work?",
    **config: Any,
) -> Answer:
    await add_provider(database, tenant_id, base_url=fake.url)
    chosen = parse_config({"name": "Shop", "model": "acme/large"} | config)
    return await ask(assistant, question, tenant_id=tenant_id, config=chosen)


# Models built in


async def test_scripted_streams_its_fifty_deltas(assistant: Assistant) -> None:
    answer = await ask(assistant, "Hello", model="scripted")
    assert len(answer.deltas) == len(SCRIPTED_DELTAS) == 50
    assert answer.text == SCRIPTED_TEXT
    assert answer.usage == ModelUse("built-in", "scripted")


async def test_scripted_is_refused_in_production(database: Database, knowledge: FakeKnowledge) -> None:
    production = Settings(
        environment="production", secret_keys=(SecretStr("k" * 32),), configured_public_url="https://chat.example"
    )
    async with model_providers(database) as providers:
        answer = await ask(Assistant(knowledge=knowledge, providers=providers, settings=production), "Hello")
    assert isinstance(answer.error, UpstreamFailed)
    assert answer.items == []


async def test_extractive_quotes_with_its_source(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    answer = await ask(assistant, "When are refunds given?", model="extractive", tenant_id=UUID(int=5))
    assert answer.text == "Here is what the documents say:\n\n> Refunds are given within 14 days."
    [annotation] = answer.messages[0].content[0].annotations
    assert annotation.source == URLSource(
        title="Refunds",
        url="https://shop.example/refunds",
        description="Refunds are given within 14 days.",
        group="Money",
    )
    assert annotation.index == len(answer.text)
    assert len(answer.deltas) > 2
    assert knowledge.searches == [(UUID(int=5), "When are refunds given?", 8)]
    assert [event.text for event in answer.events if isinstance(event, ProgressUpdateEvent)] == [
        "Searching for “When are refunds given?”…"
    ]


async def test_extractive_quotes_two_documents_each_with_its_source(assistant: Assistant) -> None:
    answer = await ask(assistant, "three days within", model="extractive")
    assert answer.text.endswith("> Refunds are given within 14 days.\n\n> Shipping takes three days.")
    first, second = answer.messages[0].content[0].annotations
    assert first.index is not None
    assert answer.text[: first.index].endswith("14 days.")
    assert (first.source.title, second.source.title) == ("Refunds", "Shipping.pdf")


async def test_extractive_names_a_document_without_an_address(assistant: Assistant) -> None:
    answer = await ask(assistant, "shipping", model="extractive")
    [annotation] = answer.messages[0].content[0].annotations
    assert isinstance(annotation.source, FileSource)
    assert annotation.source.filename == "Shipping.pdf"


async def test_extractive_abstains(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    answer = await ask(assistant, "zebras?", model="extractive")
    assert answer.text == ABSTENTION
    assert answer.messages[0].content[0].annotations == []
    knowledge.passages = ()
    answer = await ask(assistant, "refunds?", model="extractive")
    assert answer.text == ABSTENTION
    assert answer.memories == []


async def test_extractive_asks_anew_for_each_question(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    first = await ask(assistant, "refunds", model="extractive")
    history = [user_message("refunds"), *first.items, user_message("shipping")]
    second = await ask(assistant, history, model="extractive")
    assert "Shipping takes three days." in second.text
    assert [query for _, query, _ in knowledge.searches] == ["refunds", "shipping"]


async def test_extractive_does_not_look_up_a_question_that_was_left_unanswered(
    assistant: Assistant, knowledge: FakeKnowledge
) -> None:
    stopped = SDKHiddenContextItem(id="s", thread_id="thr_1", created_at=clock.now(), content="It was stopped.")
    await ask(assistant, [user_message("refunds"), stopped, user_message("shipping")], model="extractive")
    assert [query for _, query, _ in knowledge.searches] == ["shipping"]


async def test_extractive_without_documents_or_question_says_so(assistant: Assistant) -> None:
    config = parse_config({"name": "Shop", "knowledge": {"enabled": False}})
    assert (await ask(assistant, "refunds", config=config)).text == NO_DOCUMENTS
    assert (await ask(assistant, "  ", model="extractive")).text == NO_QUESTION


async def test_extractive_quotes_stay_short_and_keep_their_lines(
    assistant: Assistant, knowledge: FakeKnowledge
) -> None:
    text = "refunds\n\nsecond line " + "x" * 2000
    knowledge.passages = (Passage("doc_3", "chk_3", "Long", None, text, 1.0),)
    knowledge.quotes = lambda _query, passages: [SimpleNamespace(text=text, passage=passages[0])] * 2  # type: ignore[method-assign]
    answer = await ask(assistant, "refunds", model="extractive")
    quoted = answer.text.split("\n\n", 1)[1]
    assert quoted.startswith("> refunds\n>\n> second line")
    assert len(quoted) <= MAX_QUOTE_CHARACTERS + 3 * len("> ")


async def test_extractive_keeps_the_rows_of_a_table_apart(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    text = "Country | Price\nIreland | 9.50"
    knowledge.passages = (Passage("doc_4", "chk_4", "Prices", None, text, 1.0),)
    answer = await ask(assistant, "price ireland", model="extractive")
    assert "> Country | Price  \n> Ireland | 9.50" in answer.text, "two spaces end a line in Markdown"


async def test_a_search_is_remembered_in_the_thread(assistant: Assistant, knowledge: FakeKnowledge) -> None:
    answer = await ask(assistant, "refunds", model="extractive")
    [memory] = answer.memories
    assert memory.content == {
        "kind": "stonechat.passages",
        "query": "refunds",
        "chunk_ids": ["chk_1", "chk_2"],
        "scores": [passage.score for passage in knowledge.passages],
    }
    assert json.loads(memory.model_dump_json())["content"] == memory.content


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


# What goes wrong


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
