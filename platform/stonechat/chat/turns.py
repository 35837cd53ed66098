"""From a request to a run: claim the thread, store what the visitor sent, gather what the assistant needs, set it going."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal, assert_never

from chatkit.store import NotFoundError
from chatkit.types import (
    NonStreamingReq,
    StreamingReq,
    ThreadCreatedEvent,
    ThreadItem,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsDeleteReq,
    ThreadsRetryAfterItemReq,
    ThreadStreamEvent,
    UserMessageInput,
    UserMessageItem,
)

from stonechat import clock, ids
from stonechat.assistant.agents import load_config, published_version
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.turn import ItemKind, Responder, Turn
from stonechat.chat import journal
from stonechat.chat.codec import storable_id, without_nul
from stonechat.chat.events import wire_json
from stonechat.chat.hub import RunHub, Source
from stonechat.chat.journal import Begun, Held, RunKey
from stonechat.chat.runs import STREAM_OPTIONS, OnEnd, Run, thread_response
from stonechat.chat.server import TenantChatKitServer
from stonechat.chat.store import PostgresStore, new_item_id
from stonechat.chat.sweeper import close_crashed_run
from stonechat.errors import InvalidInput, NotFound, ThreadBusy
from stonechat.identity.caller import Caller

HISTORY_ITEMS = 50
MAX_ATTACHMENTS = 10
MAX_CHARACTERS = 32_000
BUSY_SECONDS = 2.0
MAX_TITLE = 60
_ITEM_PREFIXES: dict[ItemKind, str] = {
    "message": "msg",
    "hidden_context": "hcx",
    "client_tool_call": "ctc",
    "structured_input": "sti",
    "widget": "wdg",
    "workflow": "wfl",
    "task": "tsk",
    "image": "img",
}


class ChatServer(TenantChatKitServer[Caller]):
    """The platform's chat: the protocol on Postgres, answered by `responder`, each answer a run of `hub`."""

    def __init__(self, hub: RunHub, responder: Responder, *, configs: ConfigCache | None = None) -> None:
        super().__init__(PostgresStore(hub.database))
        self.hub = hub
        self.responder = responder
        self.configs = configs or ConfigCache()

    async def start(
        self, request: StreamingReq, caller: Caller, *, resumable: bool = False, on_end: OnEnd | None = None
    ) -> Run:
        """Begin what the request asks for; `on_end` is awaited when the run is over.

        Raises `NotFound`, `ThreadLocked`, `ThreadBusy`, `AgentNotPublished`, `WrongItem`, `NotOffered`,
        `TooManyConcurrent`; then there is no run.
        """
        self.hub.require_room()
        try:
            match request:
                case ThreadsCreateReq():
                    run, source = await self._start_message(request.params.input, caller, None, resumable=resumable)
                case ThreadsAddUserMessageReq():
                    run, source = await self._start_message(
                        request.params.input, caller, request.params.thread_id, resumable=resumable
                    )
                case _:
                    run, source = await self._start_other(request, caller, resumable=resumable)
        except NotFoundError:
            raise NotFound("There is no such conversation, message or file.") from None
        run.on_end = on_end
        self.hub.start(run, source)
        return run

    async def answer(self, request: NonStreamingReq, context: Caller) -> bytes:
        """As the base says; a thread that is deleted takes its answer with it."""
        answer = await super().answer(request, context)
        if isinstance(request, ThreadsDeleteReq):
            self.hub.forget_thread(context.tenant_id, request.params.thread_id)
        return answer

    async def respond(
        self,
        thread: ThreadMetadata,
        input_user_message: UserMessageItem | None,  # noqa: ARG002  the history ends with it
        context: Caller,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """The same assistant for the SDK's own `process`, whose streams live and die with their listener."""
        history = await self._history(thread.id, context)
        version = 0
        if not context.preview:
            async with self.hub.database.tenant(context.tenant_id) as session:
                version = await published_version(session, context.tenant_id, agent_id=context.agent_id)
        config = await self._config(context, version)
        key = self._key(context, thread.id)
        run = Run(key, thread=thread, resumable=False, agent_id=context.agent_id, agent_version=version)
        async for event in self._answer(run, caller=context, config=config, history=history):
            yield event

    # A new message

    async def _start_message(
        self, message: UserMessageInput, caller: Caller, thread_id: str | None, *, resumable: bool
    ) -> tuple[Run, Source]:
        if thread_id is not None and not storable_id(thread_id):
            raise NotFoundError(f"Thread {thread_id!r:.200} not found")
        new = None
        if thread_id is None:
            new = ThreadMetadata(id=self.store.generate_thread_id(caller), created_at=clock.now())
        key = self._key(caller, new.id if new else str(thread_id))
        item = await self._user_message(message, caller, thread_id=key.thread_id)
        begun = await self._claim(key, caller, new_thread=new, item=item, resumable=resumable)
        run = self._run(key, caller, begun, resumable=resumable, title=_title(item))
        try:
            for attachment in item.attachments:
                await self.store.save_attachment(attachment, caller)
            config = await self._config(caller, begun.agent_version)
        except BaseException:
            await self._abandon(run)
            raise
        if new:
            run.publish(ThreadCreatedEvent(thread=thread_response(new)))
        run.publish_ready(f'{{"type":"thread.item.done","item":{wire_json(item)}}}')
        run.publish_ready(STREAM_OPTIONS)
        begun.history.append(item)
        return run, lambda run: self._answer(run, caller=caller, config=config, history=begun.history)

    async def _user_message(self, message: UserMessageInput, caller: Caller, *, thread_id: str) -> UserMessageItem:
        if len(message.attachments) > MAX_ATTACHMENTS:
            raise InvalidInput(f"A message can have at most {MAX_ATTACHMENTS} attachments.")
        if max(sum(len(part.text) for part in message.content), len(message.quoted_text or "")) > MAX_CHARACTERS:
            raise InvalidInput(f"A message can have at most {MAX_CHARACTERS:,} characters.")
        attachments = [await self.store.load_attachment(each, caller) for each in message.attachments]
        return UserMessageItem(
            id=new_item_id("message"),
            thread_id=thread_id,
            created_at=clock.now(),
            content=message.content,
            attachments=[each.model_copy(update={"thread_id": thread_id}) for each in attachments],
            quoted_text=message.quoted_text,
            inference_options=message.inference_options,
        )

    # Everything else: first make sure that it can be done, then claim the thread, then do it

    async def _start_other(
        self,
        request: (
            ThreadsAddClientToolOutputReq
            | ThreadsAddStructuredInputReq
            | ThreadsRetryAfterItemReq
            | ThreadsCustomActionReq
        ),
        caller: Caller,
        *,
        resumable: bool,
    ) -> tuple[Run, Source]:
        await self.check(request, caller)
        if isinstance(request, ThreadsCustomActionReq):
            self.require_offered("action", "actions")
        key = self._key(caller, request.params.thread_id)
        begun = await self._claim(key, caller, new_thread=None, item=None, resumable=resumable)
        run = self._run(key, caller, begun, resumable=resumable, title=None)
        try:
            source = await self._prepare(request, caller, run)
        except BaseException:
            await self._abandon(run)
            raise
        return run, source

    async def _prepare(self, request: Any, caller: Caller, run: Run) -> Source:
        """Change the thread as the request asks, now that nobody else can; returns what to stream."""
        thread_id = run.key.thread_id
        run.publish_ready(STREAM_OPTIONS)
        match request:
            case ThreadsCustomActionReq():
                sender, action = await self.sender(thread_id, request.params.item_id, caller), request.params.action
                return lambda run: self.action(run.thread, action, sender, caller)
            case ThreadsAddClientToolOutputReq(params=params):
                call = await self.pending_tool_call(thread_id, caller)
                call.output, call.status = params.result, "completed"
                await self.store.save_item(thread_id, call, caller)
                await self._cleanup_pending_client_tool_call(run.thread, caller)
                history = await self._history(thread_id, caller)
            case ThreadsAddStructuredInputReq(params=params):
                form = await self.pending_structured_input(thread_id, params.item_id, caller)
                form = await self._apply_structured_input_submission(form, params.input)
                await self.store.save_item(thread_id, form, caller)
                run.publish(ThreadItemReplacedEvent(item=form))
                history = await self._history(thread_id, caller)
            case ThreadsRetryAfterItemReq(params=params):
                await self.message_to_retry(thread_id, params.item_id, caller)
                await self.store.delete_items_after(thread_id, params.item_id, caller)
                history = await self._history(thread_id, caller)
            case _:
                assert_never(request)
        config = await self._config(caller, run.agent_version)
        return lambda run: self._answer(run, caller=caller, config=config, history=history)

    # Shared

    def _key(self, caller: Caller, thread_id: str) -> RunKey:
        return RunKey(caller.tenant_id, caller.user_id, thread_id, ids.new_id("run"))

    async def _claim(
        self,
        key: RunKey,
        caller: Caller,
        *,
        new_thread: ThreadMetadata | None,
        item: ThreadItem | None,
        resumable: bool,
    ) -> Begun:
        """Claim the thread, waiting a little for an answer that is about to end, and closing one that died."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + BUSY_SECONDS
        while True:
            begun = await journal.begin(
                self.hub.database,
                key,
                agent_id=caller.agent_id,
                draft=caller.preview,
                new_thread=new_thread,
                item=item,
                process_id=self.hub.process_id,
                resumable=resumable,
                history=HISTORY_ITEMS,
            )
            if isinstance(begun, Begun):
                return begun
            left = deadline - loop.time()
            if left <= 0:
                raise ThreadBusy(
                    "The assistant is still answering in this conversation. Wait for it to finish, or stop it.",
                    headers={"Retry-After": "1"},
                    run=begun.run_id,
                )
            await self._wait_for(begun, key, seconds=min(left, 0.5))

    async def _wait_for(self, held: Held, key: RunKey, *, seconds: float) -> None:
        if held.expired and await close_crashed_run(self.hub.database, key.tenant_id, run_id=held.run_id):
            return
        run = self.hub.get(held.run_id)
        if run is not None and run.task is not None:
            await asyncio.wait([run.task], timeout=seconds)
        else:
            await asyncio.sleep(min(seconds, 0.1))

    def _run(self, key: RunKey, caller: Caller, begun: Begun, *, resumable: bool, title: str | None) -> Run:
        return Run(
            key,
            thread=begun.thread,
            resumable=resumable,
            agent_id=caller.agent_id,
            agent_version=begun.agent_version,
            default_title=title,
        )

    async def _abandon(self, run: Run) -> None:
        await journal.finish(self.hub.database, run.key, status="failed")

    async def _config(self, caller: Caller, version: int) -> AgentConfig:
        if not caller.preview:
            config = self.configs.get(caller.tenant_id, caller.agent_id, version)
            if config is not None:
                return config
        which: int | Literal["draft"] = "draft" if caller.preview else version
        async with self.hub.database.tenant(caller.tenant_id) as session:
            config = await load_config(session, caller.tenant_id, agent_id=caller.agent_id, version=which)
        if not caller.preview:
            self.configs.put(caller.tenant_id, caller.agent_id, version, config)
        return config

    async def _history(self, thread_id: str, caller: Caller) -> list[ThreadItem]:
        page = await self.store.load_thread_items(thread_id, None, HISTORY_ITEMS, "desc", caller)
        return page.data[::-1]

    def _answer(
        self, run: Run, *, caller: Caller, config: AgentConfig, history: Sequence[ThreadItem]
    ) -> AsyncIterator[ThreadStreamEvent]:
        turn = Turn(
            caller,
            config,
            run.thread,
            history,
            _new_item_id,
            run_id=run.key.run_id,
            agent_version=run.agent_version,
            usage=run.usage,
            trace=run.trace,
        )
        return self.responder.respond(turn)


def _new_item_id(kind: ItemKind) -> str:
    return ids.new_id(_ITEM_PREFIXES[kind])


def _title(message: UserMessageItem) -> str | None:
    """The first words of the question, for lists of conversations."""
    text = without_nul(" ".join(part.text for part in message.content))
    words = re.sub(r"\s+", " ", text[: MAX_TITLE * 4]).strip()
    if len(words) <= MAX_TITLE:
        return words or None
    cut = words[:MAX_TITLE]
    return f"{cut[: cut.rfind(' ')] if ' ' in cut[MAX_TITLE // 2 :] else cut}…"
