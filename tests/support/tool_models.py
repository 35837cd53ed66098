"""Models that call tools, in this process, and what their assistants need."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx2
from agents.items import TResponseStreamEvent
from agents.models.interface import Model
from chatkit.types import (
    HiddenContextItem,
    ProgressUpdateEvent,
    StructuredInputAnswer,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
)
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseFunctionToolCall,
    ResponseOutputItemDoneEvent,
)
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.accounts.secrets import put_secret
from stonechat.assistant.agent import Assistant
from stonechat.assistant.attached import ReadsAttachments
from stonechat.assistant.config import AgentConfig, parse_config
from stonechat.assistant.model_events import message_events
from stonechat.assistant.scripted import StreamingModel
from stonechat.assistant.tools.context import ToolAccess
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.outbound.client import OutboundClient
from stonechat.providers.provider import ModelProviders, ResolvedModel
from stonechat.settings import Settings
from support.assistant import KEYRING, Answer, FakeKnowledge, user_message
from support.outbound import TLS, TableResolver

SETTINGS = Settings()
CallOf = tuple[str, str]
"""Name and JSON arguments of a call."""
Step = str | Sequence[CallOf]
"""What a model answers with: text, or calls, all in one response."""


def calls_events(calls: Sequence[CallOf]) -> Iterable[TResponseStreamEvent]:
    """A response that is these calls of functions."""
    items = [
        ResponseFunctionToolCall(
            id=ids.new_id("fc"), call_id=ids.new_id("call"), name=name, arguments=arguments, type="function_call"
        )
        for name, arguments in calls
    ]
    for number, item in enumerate(items):
        yield ResponseOutputItemDoneEvent(
            type="response.output_item.done", item=item, output_index=number, sequence_number=number
        )
    yield ResponseCompletedEvent(
        type="response.completed",
        sequence_number=len(items),
        response=Response(
            id=ids.new_id("resp"),
            created_at=0,
            model="double",
            object="response",
            output=list(items),
            tool_choice="auto",
            tools=[],
            parallel_tool_calls=True,
            status="completed",
            usage=None,
        ),
    )


class SteppingModel(StreamingModel):
    """Answers with its steps, in order; the last is repeated. Remembers what it read."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.inputs: list[list[dict[str, Any]]] = []
        self.tools: list[list[Any]] = []

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        self.inputs.append(list(request[1]))
        self.tools.append(list(request[3]))
        step = self.steps[min(len(self.inputs), len(self.steps)) - 1]
        for event in message_events("double", [step]) if isinstance(step, str) else calls_events(step):
            yield event

    @property
    def read(self) -> str:
        """Everything that the model was shown."""
        return json.dumps(self.inputs, default=str, ensure_ascii=False)

    def outputs(self, request: int = -1) -> list[dict[str, Any]]:
        """The outputs of tools that a request showed."""
        return [
            json.loads(item["output"])
            for item in self.inputs[request]
            if item.get("type") == "function_call_output" and item["output"].startswith("{")
        ]


class OneModel(ModelProviders):
    """Providers whose every model is this one."""

    def __init__(self, database: Database, model: Model) -> None:
        super().__init__(
            database, keyring=KEYRING, settings=SETTINGS, http_client=lambda _url: httpx2.AsyncClient(trust_env=False)
        )
        self._model = model

    @asynccontextmanager
    async def model(self, tenant_id: UUID, name: str) -> AsyncIterator[ResolvedModel]:  # type: ignore[override]
        yield ResolvedModel("acme", "double", self._model)


def loopback_client(**hosts: str) -> OutboundClient:
    """The guarded client, let into this machine's loopback as an operator may; `a__b` is the host `a.b`."""
    table = {name.replace("__", "."): [address] for name, address in hosts.items()}
    return OutboundClient(allowed_networks=[ip_network("127.0.0.0/8")], resolver=TableResolver(table), ssl_context=TLS)


@dataclass
class Shop:
    """A tenant with an agent that has tools, one visitor, and one conversation."""

    database: Database
    tenant_id: UUID
    model: Any
    access: ToolAccess
    config: AgentConfig
    knowledge: FakeKnowledge = field(default_factory=FakeKnowledge)
    thread: ThreadMetadata = field(default_factory=lambda: ThreadMetadata(id=ids.new_id("thr"), created_at=clock.now()))
    history: list[ThreadItem] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    user_id: str = "usr_1"
    attached: ReadsAttachments | None = None

    @property
    def assistant(self) -> Assistant:
        return Assistant(
            knowledge=self.knowledge,
            providers=OneModel(self.database, self.model),
            settings=SETTINGS,
            access=self.access,
            attached=self.attached,
        )

    async def secret(self, name: str, value: str) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await put_secret(session, system(self.tenant_id), keyring=KEYRING, name=name, value=value)

    async def say(self, words: str) -> Answer:
        """The visitor writes; the turn to its end."""
        return await self.turn(user_message(words))

    async def turn(self, *items: ThreadItem) -> Answer:
        """One turn after these items."""
        await self._store_thread()
        self.history += items
        answer = Answer()
        turn = Turn(
            Caller(self.tenant_id, self.user_id, "agt_1"),
            self.config,
            self.thread,
            list(self.history),
            lambda _kind: ids.new_id("itm"),
            run_id=ids.new_id("run"),
            usage=answer.turn_usage,
        )
        self.turns.append(turn)
        try:
            async for event in self.assistant.respond(turn):
                answer.take(event)
                self._keep(event)
        except Exception as error:
            answer.error = error
        await self.access.outbound.aclose()  # its connections; the next turn opens new ones
        answer.finished()
        return answer

    def _keep(self, event: object) -> None:
        match event:
            case ThreadItemDoneEvent():
                self.history.append(event.item)
            case ThreadItemReplacedEvent():
                self.history = [event.item if item.id == event.item.id else item for item in self.history]

    async def answer_form(self, *values: str, skip: bool = False, also: Callable[[], None] | None = None) -> Answer:
        """The visitor answers the question that waits, as the chat would store it."""
        form = self.question.model_copy(deep=True, update={"status": "skipped" if skip else "answered"})
        form.inputs[0].answer = StructuredInputAnswer(values=list(values), skipped=skip)
        self._keep(ThreadItemReplacedEvent(item=form))
        if also is not None:
            also()
        return await self.turn()

    @property
    def question(self) -> StructuredInputItem:
        """The newest question to the visitor."""
        return [item for item in self.history if isinstance(item, StructuredInputItem)][-1]

    @property
    def asked(self) -> str:
        """What it says."""
        [choice] = self.question.inputs
        assert isinstance(choice, StructuredInputMultipleChoice)
        return choice.question

    @property
    def records(self) -> list[dict[str, Any]]:
        """The calls that the thread keeps."""
        return [
            item.content
            for item in self.history
            if isinstance(item, HiddenContextItem) and item.content.get("kind") == "stonechat.tool_call"
        ]

    @property
    def trace(self) -> str:
        """Everything in the newest turn's trace."""
        return repr(self.turns[-1].trace.spans)

    async def _store_thread(self) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at) "
                    "values (:tenant, :thread, :visitor, now()) on conflict do nothing"
                ),
                {"tenant": self.tenant_id, "thread": self.thread.id, "visitor": self.user_id},
            )


def progress(answer: Answer) -> list[str]:
    """What the visitor saw of what was being done."""
    return [event.text for event in answer.events if isinstance(event, ProgressUpdateEvent)]


def shop_of(database: Database, tenant_id: UUID, *steps: Step, tools: Sequence[dict[str, Any]], **options: Any) -> Shop:
    """A shop whose model answers with these steps. `outbound` may be given."""
    outbound = options.pop("outbound", None) or loopback_client(shop__example="127.0.0.1")
    config = {"name": "Shop", "model": "acme/double", "tools": list(tools), "knowledge": {"enabled": False}}
    return Shop(
        database,
        tenant_id,
        options.pop("model", None) or SteppingModel(*steps),
        ToolAccess(database, KEYRING, outbound, allow_http=True),
        parse_config(config | options),
    )
