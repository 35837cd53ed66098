"""Answers of the models that need no provider: the one that quotes, and the one for load tests."""

import json
from types import SimpleNamespace
from uuid import UUID

from chatkit.types import (
    FileSource,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    URLSource,
)
from pydantic import SecretStr

from stonechat import clock
from stonechat.assistant.agent import Assistant
from stonechat.assistant.config import parse_config
from stonechat.assistant.extractive import ABSTENTION, MAX_QUOTE_CHARACTERS, NO_DOCUMENTS, NO_QUESTION
from stonechat.assistant.scripted import SCRIPTED_DELTAS, SCRIPTED_TEXT
from stonechat.assistant.turn import ModelUse
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.knowledge.search import Passage
from stonechat.settings import Settings
from support.assistant import (
    FakeKnowledge,
    ask,
    model_providers,
    user_message,
)


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
