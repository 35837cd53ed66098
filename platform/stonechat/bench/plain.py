"""The other side of the benchmark: a minimal in-memory server as the ChatKit SDK's documentation builds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from agents import Agent, Runner, set_tracing_disabled
from chatkit.agents import AgentContext, simple_to_agent_input, stream_agent_response
from chatkit.server import ChatKitServer, StreamingResult
from chatkit.store import NotFoundError, Store
from chatkit.types import Attachment, Page, ThreadItem, ThreadMetadata, ThreadStreamEvent, UserMessageItem
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from stonechat.assistant.scripted import ScriptedModel
from stonechat.bench.script import scripted_answer


class MemoryStore(Store[Any]):
    """Dictionaries. No users, no tenants, nothing durable."""

    def __init__(self) -> None:
        self.threads: dict[str, ThreadMetadata] = {}
        self.items: dict[str, list[ThreadItem]] = {}

    async def load_thread(self, thread_id: str, context: Any) -> ThreadMetadata:  # noqa: ARG002
        if thread_id not in self.threads:
            raise NotFoundError(thread_id)
        return self.threads[thread_id]

    async def save_thread(self, thread: ThreadMetadata, context: Any) -> None:  # noqa: ARG002
        self.threads[thread.id] = thread

    async def load_threads(self, limit: int, after: str | None, order: str, context: Any) -> Page[ThreadMetadata]:  # noqa: ARG002
        return Page(data=list(self.threads.values())[:limit])

    async def load_thread_items(
        self,
        thread_id: str,
        after: str | None,  # noqa: ARG002
        limit: int,
        order: str,
        context: Any,  # noqa: ARG002
    ) -> Page[ThreadItem]:
        items = self.items.get(thread_id, [])
        return Page(data=items[-limit:][::-1] if order == "desc" else items[:limit], has_more=len(items) > limit)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:  # noqa: ARG002
        self.items.setdefault(thread_id, []).append(item)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Any) -> None:  # noqa: ARG002
        items = self.items.setdefault(thread_id, [])
        self.items[thread_id] = [item if each.id == item.id else each for each in items]

    async def load_item(self, thread_id: str, item_id: str, context: Any) -> ThreadItem:  # noqa: ARG002
        for item in self.items.get(thread_id, []):
            if item.id == item_id:
                return item
        raise NotFoundError(item_id)

    async def delete_thread(self, thread_id: str, context: Any) -> None:  # noqa: ARG002
        self.threads.pop(thread_id, None)
        self.items.pop(thread_id, None)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Any) -> None:  # noqa: ARG002
        self.items[thread_id] = [item for item in self.items.get(thread_id, []) if item.id != item_id]

    async def save_attachment(self, attachment: Attachment, context: Any) -> None:  # noqa: ARG002
        raise NotFoundError(attachment.id)

    async def load_attachment(self, attachment_id: str, context: Any) -> Attachment:  # noqa: ARG002
        raise NotFoundError(attachment_id)

    async def delete_attachment(self, attachment_id: str, context: Any) -> None:  # noqa: ARG002
        raise NotFoundError(attachment_id)


class CoreServer(ChatKitServer[Any]):
    """Answers with the script, without any agent."""

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,
        context: Any,
    ) -> AsyncIterator[ThreadStreamEvent]:
        async for event in scripted_answer(
            input_user_message,
            thread_id=thread.id,
            item_id=self.store.generate_item_id("message", thread, context),
            created_at=datetime.now(),  # noqa: DTZ005  as the SDK does
        ):
            yield event


class AgentServer(ChatKitServer[Any]):
    """Answers through the Agents SDK, as its documentation shows."""

    agent = Agent[Any](name="Assistant", instructions="Be helpful.", model=ScriptedModel())

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,  # noqa: ARG002
        context: Any,
    ) -> AsyncIterator[ThreadStreamEvent]:
        items = await self.store.load_thread_items(thread.id, None, 20, "desc", context)
        items.data.reverse()
        # What the second turn of the SDK's own conversion trips over is left out, as users of the SDK must.
        model_input = await simple_to_agent_input([item for item in items.data if isinstance(item, UserMessageItem)])
        agent_context: AgentContext[Any] = AgentContext(thread=thread, store=self.store, request_context=context)
        agent_context._events = asyncio.Queue()
        result = Runner.run_streamed(self.agent, model_input, context=agent_context)
        async for event in stream_agent_response(agent_context, result):
            yield event


def create_plain_app(kind: str) -> FastAPI:
    """`kind` is `core` or `agent`."""
    set_tracing_disabled(True)
    server: ChatKitServer[Any] = CoreServer(MemoryStore()) if kind == "core" else AgentServer(MemoryStore())
    app = FastAPI()

    @app.post("/chatkit")
    async def chatkit(request: Request) -> Response:
        result = await server.process(await request.body(), {})
        if isinstance(result, StreamingResult):
            return StreamingResponse(result, media_type="text/event-stream")
        return Response(content=result.json, media_type="application/json")

    return app
