"""`TenantChatKitServer`: the ChatKit SDK's server on our store, with its gaps closed.

`process` keeps the SDK's own contract. The platform's route goes through `parse`, `answer` and `start` instead: answers
there are runs that outlive their connection (`turns.py`), and every refusal is a problem before a stream begins.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Generic, cast

import anyio
from chatkit.server import ChatKitServer, NonStreamingResult, StreamingResult
from chatkit.store import AttachmentStore, NotFoundError
from chatkit.types import (
    AudioInput,
    ChatKitReq,
    ClientToolCallItem,
    FeedbackKind,
    InputTranscribeReq,
    ItemsFeedbackReq,
    ItemsListReq,
    NonStreamingReq,
    StreamingReq,
    StructuredInputItem,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadMetadata,
    ThreadsAddClientToolOutputReq,
    ThreadsAddStructuredInputReq,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    ThreadsCustomActionReq,
    ThreadsDeleteReq,
    ThreadsRetryAfterItemReq,
    ThreadsSyncCustomActionReq,
    ThreadStreamEvent,
    ThreadsUpdateReq,
    TranscriptionResult,
    UserMessageItem,
    WidgetItem,
    is_streaming_req,
)
from pydantic import TypeAdapter, ValidationError

from stonechat.chat.attachments import require_uploaded
from stonechat.chat.codec import is_hidden
from stonechat.chat.journal import locked
from stonechat.chat.reasons import reasons_given
from stonechat.chat.store import DEFAULT_PAGE, Context, PostgresStore
from stonechat.errors import InvalidInput, MalformedBody, NotFound, NotOffered, WrongItem

MAX_TITLE = 200
MAX_FEEDBACK_ITEMS = 100
# Building this takes 8 ms, which the SDK spends on every request.
_requests: TypeAdapter[ChatKitReq] = TypeAdapter(ChatKitReq)


class TenantChatKitServer(ChatKitServer[Context], Generic[Context]):
    """Subclasses answer with `respond`, and may offer `action`, `sync_action` and `transcribe`, as with the SDK's."""

    store: PostgresStore[Context]

    def __init__(self, store: PostgresStore[Context], attachment_store: AttachmentStore[Context] | None = None) -> None:
        super().__init__(store, attachment_store)

    # Requests

    def parse(self, body: str | bytes | bytearray) -> ChatKitReq:
        """The request in a body, or `MalformedBody`."""
        try:
            return _requests.validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"][:8])[:200]
            hint = f": look at “{where}”." if where else ": its type is missing or unknown."
            raise MalformedBody(
                "This is not a ChatKit request"
                + (": it is not valid JSON." if first["type"] == "json_invalid" else hint),
                errors=[{"field": where, "message": first["msg"][:300]}],
            ) from None

    async def process(self, request: str | bytes | bytearray, context: Context) -> StreamingResult | NonStreamingResult:
        """The SDK's entry. What cannot be answered is refused here, before the stream, not within it."""
        parsed = self.parse(request)
        if is_streaming_req(parsed):
            await self.check(parsed, context)
            return StreamingResult(self._process_streaming(parsed, context))
        return NonStreamingResult(await self._process_non_streaming(parsed, context))

    async def answer(self, request: NonStreamingReq, context: Context) -> bytes:
        """The JSON that answers a request which starts no run. Raises `StonechatError`s only."""
        try:
            return await self._process_non_streaming(request, context)
        except NotFoundError:
            raise NotFound("There is no such conversation, message or file.") from None

    async def check(self, request: StreamingReq, context: Context) -> None:
        """Raise whatever would keep the request from being answered: missing things, a locked thread, a wrong item."""
        params = request.params
        if isinstance(request, ThreadsCreateReq | ThreadsAddUserMessageReq):
            for attachment_id in request.params.input.attachments:
                require_uploaded(await self.store.load_attachment(attachment_id, context))
        if isinstance(request, ThreadsCreateReq):
            return
        thread = await self.store.load_thread(params.thread_id, context)  # type: ignore[union-attr]
        if thread.status.type != "active":
            raise locked(thread)
        match request:
            case ThreadsAddClientToolOutputReq():
                await self.pending_tool_call(thread.id, context)
            case ThreadsAddStructuredInputReq():
                await self.pending_structured_input(thread.id, request.params.item_id, context)
            case ThreadsRetryAfterItemReq():
                await self.message_to_retry(thread.id, request.params.item_id, context)
            case ThreadsCustomActionReq():
                await self.sender(thread.id, request.params.item_id, context)
            case _:
                pass

    # The items that requests speak of

    async def pending_tool_call(self, thread_id: str, context: Context) -> ClientToolCallItem:
        """The client tool call that waits for its output, with nothing of the visitor's after it; or `WrongItem`."""
        page = await self.store.load_visible_items(thread_id, None, DEFAULT_PAGE, "desc", context)
        for item in page.data:
            if isinstance(item, UserMessageItem | ClientToolCallItem):
                if isinstance(item, ClientToolCallItem) and item.status == "pending":
                    return item
                break
        raise WrongItem("The last item of this conversation is not a tool call that waits for its output.")

    async def pending_structured_input(self, thread_id: str, item_id: str, context: Context) -> StructuredInputItem:
        """The form that waits for its answers, or `WrongItem`."""
        item = await self.store.load_item(thread_id, item_id, context)
        if not isinstance(item, StructuredInputItem):
            raise WrongItem(f"Item {item_id} is not a StructuredInputItem")
        if item.status != "pending":
            raise WrongItem(f"Structured input item {item_id} is not pending")
        return item

    async def message_to_retry(self, thread_id: str, item_id: str, context: Context) -> UserMessageItem:
        """The message to be answered again, or `WrongItem`."""
        item = await self.store.load_item(thread_id, item_id, context)
        if not isinstance(item, UserMessageItem):
            raise WrongItem(f"Item {item_id} is not a user message")
        return item

    async def sender(self, thread_id: str, item_id: str | None, context: Context) -> WidgetItem | None:
        """The widget that an action comes from, None for the client itself, or `WrongItem`."""
        if item_id is None:
            return None
        item = await self.store.load_item(thread_id, item_id, context)
        if is_hidden(item):
            raise NotFoundError(f"Item {item_id} not found in thread {thread_id}")
        if not isinstance(item, WidgetItem):
            raise WrongItem(f"Item {item_id} is not a widget")
        return item

    # Without a stream

    async def _process_non_streaming(self, request: NonStreamingReq, context: Context) -> bytes:
        match request:
            case ItemsListReq(params=params):
                await self.store.load_thread(params.thread_id, context)
                limit = params.limit or DEFAULT_PAGE
                page = await self.store.load_visible_items(params.thread_id, params.after, limit, params.order, context)
                self.present(page.data, context)
                return self._serialize(page)
            case ThreadsUpdateReq(params=params):
                params.title = params.title[:MAX_TITLE]
            case ThreadsDeleteReq(params=params):
                await self.store.load_thread(params.thread_id, context)
            case ThreadsSyncCustomActionReq(params=params):
                thread = await self.store.load_thread(params.thread_id, context)
                self.require_offered("sync_action", "actions")
                if thread.status.type != "active":
                    raise locked(thread)
                await self.sender(params.thread_id, params.item_id, context)
            case InputTranscribeReq(params=params):
                self.require_offered("transcribe", "dictation")
                if not params.audio_base64.isascii():  # which the decoder tells apart from other faults only in words
                    raise InvalidInput("The audio is not valid base64.")
            case _:
                pass
        try:
            answer = await super()._process_non_streaming(request, context)
        except ValueError as error:
            if isinstance(request, InputTranscribeReq) and type(error).__name__ == "Error":  # binascii's
                raise InvalidInput("The audio is not valid base64.") from None
            raise
        if isinstance(request, ItemsFeedbackReq):
            for reason in reasons_given(request):
                await self.store.save_item(reason.thread_id, reason, context)
        return answer

    def require_offered(self, method: str, what: str) -> None:
        """Raise `NotOffered` unless a subclass gave the method a body."""
        own = getattr(type(self), method)
        if own in (getattr(ChatKitServer, method), getattr(TenantChatKitServer, method)):
            raise NotOffered(f"This assistant does not offer {what}.")

    async def _load_full_thread(self, thread_id: str, context: Context) -> Thread:
        """The newest page, in reading order. (The SDK's is the oldest.) `after` leads on to older items, newest first."""
        thread = await self.store.load_thread(thread_id, context)
        page = await self.store.load_visible_items(thread_id, None, DEFAULT_PAGE, "desc", context)
        page.data.reverse()
        self.present(page.data, context)
        return Thread(**thread.model_dump(), items=page)

    def present(self, items: Sequence[ThreadItem], context: Context) -> None:
        """Make stored items ready to be shown: subclasses renew what has expired in them, in place."""

    def _get_attachment_store(self) -> AttachmentStore[Context]:
        if self.attachment_store is None:
            raise NotOffered("This assistant does not take files.")
        return self.attachment_store

    async def add_feedback(self, thread_id: str, item_ids: list[str], feedback: FeedbackKind, context: Context) -> None:
        """Store the judgement with the version of the agent that wrote each item. An id that is missing: `NotFoundError`."""
        if len(item_ids) > MAX_FEEDBACK_ITEMS:
            raise InvalidInput(f"At most {MAX_FEEDBACK_ITEMS} items can be judged at once.")
        await self.store.save_feedback(thread_id, item_ids, feedback, context)

    async def transcribe(self, audio_input: AudioInput, context: Context) -> TranscriptionResult:  # noqa: ARG002
        """Refused, unless a subclass offers it."""
        raise NotOffered("This assistant does not offer dictation.")

    # Within the SDK's own streams

    async def _process_events(
        self,
        thread: ThreadMetadata,
        context: Context,
        stream: Callable[[], AsyncIterator[ThreadStreamEvent]],
    ) -> AsyncIterator[ThreadStreamEvent]:
        """The SDK's pump, without the hidden items that it lets through when they are added or replaced."""
        events = cast("AsyncGenerator[ThreadStreamEvent]", super()._process_events(thread, context, stream))
        try:
            async for event in events:
                if not _shows_hidden(event):
                    yield event
        finally:
            await events.aclose()

    async def handle_stream_cancelled(
        self, thread: ThreadMetadata, pending_items: list[ThreadItem], context: Context
    ) -> None:
        """Keep what was said so far, even though whoever listened is gone."""
        with anyio.CancelScope(shield=True):
            await super().handle_stream_cancelled(thread, pending_items, context)


def _shows_hidden(event: Any) -> bool:
    return isinstance(event, ThreadItemAddedEvent | ThreadItemDoneEvent | ThreadItemReplacedEvent) and is_hidden(
        event.item
    )
