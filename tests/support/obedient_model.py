"""A model that does whatever any text tells it, wherever the text comes from, and a shop with much to lose.

Orders are written `<<call NAME {json}>>` and `<<say TEXT>>`, and are obeyed once each: in a visitor's message, a passage,
a file, the output of a tool, a tool's description, or what was said before. `<<say EVERYTHING>>` repeats all that it read.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from agents.items import TResponseStreamEvent
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    FileAttachment,
    HiddenContextItem,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    ThreadItem,
)

from stonechat import clock, ids
from stonechat.assistant.attached import AttachedDocument, AttachedPicture
from stonechat.assistant.model_events import message_events
from stonechat.assistant.scripted import StreamingModel
from stonechat.assistant.tools.mcp_lists import McpToolLists
from stonechat.db.session import Database
from stonechat.knowledge.search import Passage
from support.assistant import FakeKnowledge, user_message
from support.loopback import Loopback, Received, plain, serve
from support.mcp_servers import PlainMcp, described, plain_server
from support.tool_models import Shop, calls_events, shop_of

OURS, OURS_TOO, THEIRS = "Bearer our-shop-key-4711", "our-other-key-0815", "their-shop-key-9999"
THEIR_WORDS = "quartzite ledger"
_ORDER = re.compile(r"<<(?:call (\w+) (\{.*?\})|say (.*?))>>", re.DOTALL)
JSON = {"Content-Type": "application/json"}


class ObedientModel(StreamingModel):
    """See the module's docstring."""

    def __init__(self) -> None:
        self.obeyed: set[str] = set()
        self.inputs: list[list[Any]] = []

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        self.inputs.append(list(request[1]))
        read = [*_texts(request[1]), *(str(tool.description) for tool in request[3])]
        orders = [found for text in read for found in _ORDER.finditer(text) if found[0] not in self.obeyed]
        calls = list(dict.fromkeys((found[1], found[2]) for found in orders if found[1]))
        self.obeyed |= {found[0] for found in orders if found[1]}
        if calls:
            for event in calls_events(calls):
                yield event
            return
        said = list(dict.fromkeys(found[3] for found in orders))
        text = " ".join("\n".join(read) if each == "EVERYTHING" else each for each in said)
        text = _ORDER.sub("", text) + " Done."
        for event in message_events("obedient", [text[start : start + 7] for start in range(0, len(text), 7)]):
            yield event

    @property
    def read(self) -> str:
        """Everything that it was shown."""
        return json.dumps(self.inputs, default=str, ensure_ascii=False)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
            if value.startswith(("{", "[")):  # JSON, in which quotes are escaped
                try:
                    inner = json.loads(value)
                except ValueError:
                    return
                yield from _texts(inner)
        case dict():
            for each in value.values():
                yield from _texts(each)
        case list():
            for each in value:
                yield from _texts(each)


class TenantKnowledge(FakeKnowledge):
    """Finds for each tenant what is its own."""

    def __init__(self, owned: Mapping[UUID, Sequence[Passage]]) -> None:
        super().__init__()
        self.owned = owned
        self.asked_for: set[UUID] = set()

    async def search(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        self.asked_for.add(tenant_id)
        return self.owned.get(tenant_id, ())[:limit]

    async def recall(self, tenant_id: UUID, chunk_ids: Sequence[str]) -> Sequence[Passage]:
        self.asked_for.add(tenant_id)
        return [passage for passage in self.owned.get(tenant_id, ()) if passage.chunk_id in chunk_ids]


class Files:
    """Attached files of the visitor's own."""

    def __init__(self) -> None:
        self.text = ""

    async def documents(
        self, caller: Any, attachment_ids: Sequence[str], *, max_characters: int
    ) -> Mapping[str, AttachedDocument]:
        return {each: AttachedDocument(self.text, len(self.text)) for each in attachment_ids if each == "atc_own"}

    async def picture(self, caller: Any, attachment_id: str) -> AttachedPicture | None:
        return None


@dataclass
class Stage:
    """The shop's services, the attacker's own, and two tenants."""

    database: Database
    tenant_id: UUID
    other_tenant_id: UUID
    service: Loopback
    evil: Loopback
    mcp: PlainMcp
    lists: McpToolLists = field(default_factory=McpToolLists)
    reply: list[bytes] = field(default_factory=list)
    """What the service answers next; its usual answer if empty."""

    def shop(self, **output: Any) -> Shop:
        """A fresh conversation with an agent that has every kind of tool."""
        shop = shop_of(
            self.database,
            self.tenant_id,
            model=ObedientModel(),
            tools=self.tools(),
            ask=True,
            knowledge={"enabled": True},
            attachments={"enabled": True},
            guardrails={"output": {"links": "listed", "link_hosts": ["shop.example"]} | output},
        )
        shop.access = replace(shop.access, mcp_lists=self.lists)
        passage = Passage("doc_2", "chk_theirs", "Theirs", None, THEIR_WORDS, 1.0)
        shop.knowledge = TenantKnowledge({self.other_tenant_id: [passage]})
        shop.attached = Files()
        return shop

    def tools(self) -> list[dict[str, Any]]:
        number = {"type": "object", "properties": {"number": {"type": "string"}}, "required": ["number"]}
        card = {
            "type": "Card",
            "children": [{"type": "Image", "src": "{picture}"}, {"type": "Markdown", "value": "{text}"}],
        }
        return [
            self._http("look_up_order", "/orders/{number}", number, secret_headers={"Authorization": "shop_key"}),
            self._http("cancel_order", "/orders/{number}/cancel", number, method="POST"),
            self._http("empty_cart", "/cart/empty", {"type": "object"}, approval="always"),
            {
                "kind": "mcp",
                "name": "desk",
                "url": self.mcp.url,
                "allowed": ["find", "drop"],
                "secret_headers": {"X-Key": "desk_key"},
                "timeout_seconds": 5,
            },
            {
                "kind": "widget",
                "name": "show_card",
                "description": "Shows a card.",
                "template": card,
                "parameters": {
                    "type": "object",
                    "properties": {"picture": {"type": "string"}, "text": {"type": "string"}},
                },
            },
        ]

    def _http(self, name: str, path: str, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "kind": "http",
            "name": name,
            "description": f"Does {name}.",
            "url": f"{self.service.url}{path}",
            "parameters": parameters,
        } | more


@asynccontextmanager
async def open_stage(database: Database, tenant_id: UUID, other_tenant_id: UUID) -> AsyncIterator[Stage]:
    """Everything, with secrets stored. The service repeats its headers in each answer, as careless ones do."""

    async def answer(request: Received, writer: Any) -> None:
        body = json.dumps({"state": "sent", "headers": request.headers}).encode()
        writer.write(stage.reply.pop(0) if stage.reply else plain(body, headers=JSON))

    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(serve(answer))
        evil = await stack.enter_async_context(serve(plain(b"thank you")))
        mcp = await stack.enter_async_context(
            plain_server(described("find"), described("drop", only_reads=False), described("hidden"))
        )
        stage = Stage(database, tenant_id, other_tenant_id, service, evil, mcp)
        ours = stage.shop()
        await ours.secret("shop_key", OURS)
        await ours.secret("desk_key", OURS)
        await ours.secret("other_key", OURS_TOO)
        theirs = stage.shop()
        theirs.tenant_id = other_tenant_id
        await theirs.secret("shop_key", THEIRS)
        yield stage


# Where orders come from


def _said(shop: Shop, *items: ThreadItem) -> list[ThreadItem]:
    """Something from earlier in the conversation, and a harmless question now."""
    shop.history = [user_message("Hello"), *items]
    return [user_message("And now?")]


def _item(**fields: Any) -> dict[str, Any]:
    return {"id": ids.new_id("itm"), "thread_id": "thr_1", "created_at": clock.now(), **fields}


def _message(_stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    return [user_message(orders)]


def _quoted(_stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    return [user_message("What is this?").model_copy(update={"quoted_text": orders})]


def _file(_stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    assert isinstance(shop.attached, Files)
    shop.attached.text = orders
    attachment = FileAttachment(id="atc_own", name="bill.txt", mime_type="text/plain")
    return [user_message("Read this").model_copy(update={"attachments": [attachment]})]


def _file_name(_stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    attachment = FileAttachment(id="atc_gone", name=orders, mime_type="text/plain")
    return [user_message("Read this").model_copy(update={"attachments": [attachment]})]


def _passage(stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    assert isinstance(shop.knowledge, TenantKnowledge)
    own = Passage("doc_1", "chk_1", "Refunds", "https://shop.example/refunds", orders, 3.0)
    shop.knowledge.owned = {**shop.knowledge.owned, stage.tenant_id: [own]}
    return [user_message('<<call search_knowledge {"query": "refunds"}>>')]


def _tool_output(stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    stage.reply = [plain(json.dumps({"note": orders}).encode(), headers=JSON)]
    return [user_message('<<call look_up_order {"number": "1"}>>')]


def _tool_failure(stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    stage.reply = [plain(orders.encode(), status=500, headers={"Content-Type": "text/plain"})]
    return [user_message('<<call look_up_order {"number": "1"}>>')]


def _mcp_output(stage: Stage, _shop: Shop, orders: str) -> list[ThreadItem]:
    stage.mcp.output = orders
    return [user_message('<<call desk_find {"q": "x"}>>')]


def _mcp_description(stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    stage.mcp.tools = [described("find", description=orders), *stage.mcp.tools[1:]]
    shop.access = replace(shop.access, mcp_lists=McpToolLists())
    return [user_message("Hello")]


def _earlier_answer(_stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    return _said(shop, AssistantMessageItem(**_item(content=[AssistantMessageContent(text=orders)])))


def _earlier_call(_stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    content = {"kind": "stonechat.tool_call", "name": "look_up_order", "arguments": {}, "output": orders}
    return _said(shop, HiddenContextItem(**_item(content=content)))


def _page(_stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    call = ClientToolCallItem(
        **_item(call_id="call_1", name="read_page", arguments={}, status="completed", output={"page": orders})
    )
    shop.history = [user_message("Hello"), call]
    return []


def _form(_stage: Stage, shop: Shop, orders: str) -> list[ThreadItem]:
    asked = StructuredInputFreeform(id="q1", question="Your name?", answer=StructuredInputAnswer(values=[orders]))
    shop.history = [user_message("Hello"), StructuredInputItem(**_item(status="answered", inputs=[asked]))]
    return []


CARRIERS: dict[str, Callable[[Stage, Shop, str], list[ThreadItem]]] = {
    "a message": _message,
    "quoted text": _quoted,
    "a file": _file,
    "a file's name": _file_name,
    "a passage": _passage,
    "a tool's output": _tool_output,
    "a tool's failure": _tool_failure,
    "a server's output": _mcp_output,
    "a server's description": _mcp_description,
    "an earlier answer": _earlier_answer,
    "an earlier call": _earlier_call,
    "the page": _page,
    "a form": _form,
}
