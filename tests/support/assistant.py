"""Questions to an `Assistant`, and what came back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import httpx2
from chatkit.types import (
    Annotation,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    HiddenContextItem,
    InferenceOptions,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    UserMessageItem,
    UserMessageTextContent,
)
from pydantic import SecretStr

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.assistant.agent import Assistant
from stonechat.assistant.config import AgentConfig, parse_config
from stonechat.assistant.turn import ModelUse, Turn, TurnUsage
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.knowledge.search import Passage
from stonechat.providers import service
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.provider import ModelProviders
from stonechat.settings import Settings
from support.fake_openai import FakeOpenAI

KEYRING = Keyring(["a platform key for tests, long enough"])

REFUNDS = Passage(
    "doc_1", "chk_1", "Refunds", "https://shop.example/refunds", "Refunds are given within 14 days.", 3.0, ("Money",)
)
SHIPPING = Passage("doc_2", "chk_2", "Shipping.pdf", None, "Shipping takes three days.", 2.0)


class FakeKnowledge:
    """Finds the same passages for every query, and quotes those that share a word with it."""

    def __init__(self, *passages: Passage) -> None:
        self.passages = passages
        self.searches: list[tuple[UUID, str, int]] = []
        self.recalls: list[Sequence[str]] = []
        self.error: Exception | None = None

    async def search(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        self.searches.append((tenant_id, query, limit))
        if self.error is not None:
            raise self.error
        return self.passages[:limit]

    async def approved(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        return await self.search(tenant_id, query, limit=limit)

    async def recall(self, tenant_id: UUID, chunk_ids: Sequence[str]) -> Sequence[Passage]:
        self.recalls.append(chunk_ids)
        return [passage for passage in self.passages if passage.chunk_id in chunk_ids]

    def quotes(self, query: str, passages: Sequence[Passage]) -> Sequence[Any]:
        words = set(query.lower().strip("?").split())
        return [
            SimpleNamespace(text=passage.text, passage=passage)
            for passage in passages
            if words & set(passage.text.lower().split())
        ]


def user_message(text: str) -> UserMessageItem:
    return UserMessageItem(
        id=ids.new_id("msg"),
        thread_id="thr_1",
        created_at=clock.now(),
        content=[UserMessageTextContent(text=text)],
        inference_options=InferenceOptions(),
    )


@dataclass
class Answer:
    """The events of one turn, checked for order as they came, and what they add up to."""

    events: list[ThreadStreamEvent] = field(default_factory=list)
    items: list[ThreadItem] = field(default_factory=list)
    """Those of item-done events: what is kept."""
    turn_usage: TurnUsage = field(default_factory=TurnUsage)
    error: Exception | None = None
    _open: str | None = None
    _text: str = ""
    _annotations: list[Annotation] = field(default_factory=list)

    @property
    def usage(self) -> ModelUse:
        """Of the one model that was asked."""
        (use,) = self.turn_usage.uses
        return use

    @property
    def messages(self) -> list[AssistantMessageItem]:
        return [item for item in self.items if isinstance(item, AssistantMessageItem)]

    @property
    def memories(self) -> list[HiddenContextItem]:
        return [item for item in self.items if isinstance(item, HiddenContextItem)]

    @property
    def text(self) -> str:
        return "\n".join(content.text for item in self.messages for content in item.content)

    @property
    def deltas(self) -> list[str]:
        return [
            event.update.delta
            for event in self.events
            if isinstance(event, ThreadItemUpdatedEvent)
            and isinstance(event.update, AssistantMessageContentPartTextDelta)
        ]

    def take(self, event: ThreadStreamEvent) -> None:
        self.events.append(event)
        match event:
            case ThreadItemAddedEvent():
                assert isinstance(event.item, AssistantMessageItem)
                assert self._open is None
                assert event.item.content == []
                self._open, self._text, self._annotations = event.item.id, "", []
            case ThreadItemUpdatedEvent():
                assert event.item_id == self._open
                self._update(event.update)
            case ThreadItemDoneEvent(item=AssistantMessageItem() as item):
                assert item.id == self._open
                assert [content.text for content in item.content] == [self._text]
                assert item.content[0].annotations == self._annotations
                self._open = None
                self.items.append(item)
            case ThreadItemDoneEvent():
                self.items.append(event.item)

    def _update(self, update: object) -> None:
        match update:
            case AssistantMessageContentPartAdded():
                assert (update.content.text, update.content.annotations) == ("", [])
            case AssistantMessageContentPartTextDelta():
                assert update.delta
                self._text += update.delta
            case AssistantMessageContentPartAnnotationAdded():
                assert update.annotation_index == len(self._annotations)
                assert update.annotation.index == len(self._text)
                self._annotations.append(update.annotation)
            case AssistantMessageContentPartDone():
                assert update.content.text == self._text
                assert update.content.annotations == self._annotations
            case _:
                raise AssertionError(update)

    def finished(self) -> None:
        assert self._open is None


async def ask(
    assistant: Assistant,
    question: str | Sequence[ThreadItem],
    *,
    model: str = "scripted",
    tenant_id: UUID | None = None,
    config: AgentConfig | None = None,
) -> Answer:
    """One turn to its end. A failure is put into the answer."""
    history = [user_message(question)] if isinstance(question, str) else question
    answer = Answer()
    turn = Turn(
        Caller(tenant_id or UUID(int=1), "usr_1", "agt_1"),
        config or AgentConfig(name="Shop", model=model),
        ThreadMetadata(id="thr_1", created_at=clock.now()),
        history,
        lambda _kind: ids.new_id("itm"),
        usage=answer.turn_usage,
    )
    try:
        async for event in assistant.respond(turn):
            answer.take(event)
    except Exception as error:
        answer.error = error
    answer.finished()
    return answer


@asynccontextmanager
async def model_providers(
    database: Database, *, limits: StreamLimits | None = None, platform_key: str | None = None, **options: Any
) -> AsyncIterator[ModelProviders]:
    """The process's clients, allowed to talk to loopback."""
    providers = ModelProviders(
        database,
        keyring=KEYRING,
        settings=Settings(openai_api_key=SecretStr(platform_key) if platform_key else None),
        http_client=options.pop("http_client", lambda _url: httpx2.AsyncClient(trust_env=False)),
        limits=limits,
        **options,
    )
    try:
        yield providers
    finally:
        await providers.aclose()


async def add_provider(
    database: Database,
    tenant_id: UUID,
    *,
    name: str = "acme",
    kind: service.ProviderKind = "openai_compatible",
    base_url: str | None = None,
    api_key: str = "sk-tenants-own",
) -> service.ProviderView:
    async with database.tenant(tenant_id) as session:
        return await service.create_provider(
            session, system(tenant_id), keyring=KEYRING, name=name, kind=kind, base_url=base_url, api_key=api_key
        )


async def ask_host(
    assistant: Assistant,
    database: Database,
    tenant_id: UUID,
    fake: FakeOpenAI,
    question: Any = "How do refunds work?",
    **config: Any,
) -> Answer:
    """One turn with the model `acme/large` of this host."""
    await add_provider(database, tenant_id, base_url=fake.url)
    chosen = parse_config({"name": "Shop", "model": "acme/large"} | config)
    return await ask(assistant, question, tenant_id=tenant_id, config=chosen)
