"""A run: one answer in the making, in memory. It belongs to its thread, not to the connection that asked for it.

A run numbers events, keeps their bytes for whoever listens, knows what they mean for the stored items, and never leaks
a hidden item. It does no I/O: the hub (`hub.py`) drives it and writes it down.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from chatkit.types import (
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    Page,
    SDKHiddenContextItem,
    Thread,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    ThreadUpdatedEvent,
)

from stonechat import clock, ids
from stonechat.assistant.trace import Outcome, Trace, TurnTrace
from stonechat.assistant.turn import TurnUsage
from stonechat.chat.codec import aware, is_hidden, item_json
from stonechat.chat.events import EventEncoder, wire_json
from stonechat.chat.frames import KEEP_HEARD_BYTES, KEEP_STORED_BYTES, Frames
from stonechat.chat.journal import ItemChange, RunKey, changed
from stonechat.chat.models import Handling
from stonechat.chat.pending import Pending, pending_of
from stonechat.errors import AnswerTooLong
from stonechat.usage.quota import Refusal

MAX_EVENTS = 50_000
MAX_BYTES = 4 << 20
"""Of one run's events, which are kept in memory while it lasts."""

StopReason = Literal["cancelled", "timeout", "shutdown", "lost"]
OnEnd = Callable[[], Awaitable[None]]
PING_SECONDS = 15.0
"""A stream is silent for no longer: what stands between might close it."""
STREAM_OPTIONS = '{"type":"stream_options","stream_options":{"allow_cancel":true}}'
_CANCELLED_NOTE = "The user cancelled the stream. Stop responding to the prior request."


def thread_response(thread: ThreadMetadata) -> Thread:
    """A thread as clients see it: no metadata, no items."""
    return Thread(
        id=thread.id,
        title=thread.title,
        created_at=thread.created_at,
        items=Page(),
        status=thread.status,
        allowed_image_domains=thread.allowed_image_domains,
    )


class Listener:
    """How far one who listens to a run has heard it."""

    __slots__ = ("_run", "seen")

    def __init__(self, run: Run, seen: int) -> None:
        self._run = run
        self.seen = seen

    def take(self) -> bytes:
        """All that was not heard yet. Raises `LookupError` where it is only in the database."""
        heard, self.seen = self._run.frames.after(self.seen), len(self._run.frames)
        return heard


class Run:
    """See the module's docstring."""

    __slots__ = (
        "_encoder",
        "_first_status",
        "_first_title",
        "_hidden",
        "_listeners",
        "_pending",
        "_thread_state",
        "_waiters",
        "afterwards",
        "agent_id",
        "agent_version",
        "bytes",
        "changes",
        "checkpointing",
        "default_title",
        "finished",
        "finishing",
        "frames",
        "handling",
        "key",
        "noted_uses",
        "on_end",
        "refusal",
        "renewed_at",
        "resumable",
        "started",
        "started_at",
        "stop_reason",
        "stored",
        "task",
        "thread",
        "thread_changed",
        "title_is_proposed",
        "trace",
        "unstored_bytes",
        "unstored_since",
        "usage",
        "woken_at",
    )

    def __init__(
        self,
        key: RunKey,
        *,
        thread: ThreadMetadata,
        resumable: bool,
        agent_id: str,
        agent_version: int,
        default_title: str | None = None,
        on_end: OnEnd | None = None,
    ) -> None:
        self.key = key
        self.thread = thread
        self.resumable = resumable
        self.agent_id = agent_id
        self.agent_version = agent_version
        self.default_title = default_title
        """What the thread is called if the assistant gives it no title."""
        self.on_end = on_end
        """Awaited once the run is over, whatever became of it."""
        self.usage = TurnUsage()
        self.noted_uses: tuple[object, ...] = ()
        """What checkpoints told of it, so that they tell what is new."""
        self.handling: Handling = "open"
        self.refusal: Refusal | None = None
        """Why no model is asked, and what is said instead."""
        self.trace = Trace()
        self.afterwards: list[Callable[[], Awaitable[object]]] = []
        """What is to be done once the run is done and stored."""
        self.frames = Frames()
        self.bytes = 0
        self.changes: list[ItemChange] = []
        """What is to be stored of items, in order, and is not yet."""
        self.stored = 0
        """How many frames are in the database."""
        self.unstored_bytes = 0
        self.unstored_since = 0.0
        """Loop time of the oldest frame that is not; 0 if there is none."""
        self.renewed_at = self.started_at = self.woken_at = asyncio.get_running_loop().time()
        """`woken_at`: about when something last happened that listeners were told of."""
        self.task: asyncio.Task[None] | None = None
        self.stop_reason: StopReason | None = None
        self.checkpointing: asyncio.Future[None] | None = None
        self.started = False
        self.finishing = False
        self.finished = False
        self._encoder = EventEncoder(key.run_id)
        self._pending: dict[str, Pending] = {}
        self._hidden: set[str] = set()
        self._waiters: list[asyncio.Future[None]] = []
        self._listeners: list[Listener] = []
        self._thread_state = self._describe_thread()
        self.thread_changed = False
        self._first_title, self._first_status = thread.title, thread.status.model_copy()
        self.title_is_proposed = False
        """Whether the title is only what the thread is called until somebody names it."""

    # What happens

    def apply(self, event: ThreadStreamEvent) -> None:
        """Take in one event of the assistant: note what it changes, and publish it. Raises `AnswerTooLong`."""
        if type(event) is ThreadItemUpdatedEvent:  # nearly all of them
            item_id, update = event.item_id, event.update
            pending = self._pending.get(item_id)
            if type(update) is AssistantMessageContentPartTextDelta:
                if pending is not None:
                    pending.append(update.content_index, update.delta)
                elif item_id in self._hidden:
                    return
                frame = self._encoder.text_delta(self.frames.count + 1, item_id, update.content_index, update.delta)
                self._append(frame)
                return
            if pending is not None:
                pending.update(update)
            if item_id not in self._hidden:
                self.publish(event)
            return
        match event:
            case ThreadItemAddedEvent() | ThreadItemDoneEvent() | ThreadItemReplacedEvent():
                self._apply_item(event.type, event.item)
            case ThreadItemRemovedEvent():
                self._pending.pop(event.item_id, None)
                self.changes.append(ItemChange("remove", event.item_id))
                if event.item_id not in self._hidden:
                    self.publish(event)
            case _:
                self.publish(event)
        self.publish_thread_if_changed()

    def _apply_item(self, event_type: str, item: ThreadItem) -> None:
        if item.created_at.tzinfo is None:
            item = item.model_copy(update={"created_at": aware(item.created_at)})
        hidden = is_hidden(item)
        wire = "" if hidden else wire_json(item)
        if event_type == "thread.item.added":
            if isinstance(item, AssistantMessageItem):
                self.trace.note_text()
            self._pending[item.id] = pending_of(item)
        else:
            self._pending.pop(item.id, None)
            verb = "add" if event_type == "thread.item.done" else "save"
            # An answer has nothing that clients are not told, so it is stored as it was sent.
            stored = wire if isinstance(item, AssistantMessageItem) else item_json(item)
            self.changes.append(ItemChange(verb, item.id, item.type, stored, item.created_at))
        if hidden:
            self._hidden.add(item.id)
        else:
            self.publish_ready(f'{{"type":"{event_type}","item":{wire}}}')

    def publish(self, event: ThreadStreamEvent) -> None:
        """Give the event its number and hand it to whoever listens."""
        self._append(self._encoder.event(self.frames.count + 1, event))

    def publish_ready(self, data: str) -> None:
        """Publish an event whose JSON is at hand."""
        self._append(self._encoder.ready(self.frames.count + 1, data))

    def _append(self, frame: bytes) -> None:
        size = len(frame)
        self.bytes += size
        self.unstored_bytes += size
        # Once the run is ending, what is left to say is little and must be said.
        if not self.finishing and (self.frames.count >= MAX_EVENTS or self.bytes > MAX_BYTES):
            raise AnswerTooLong("The answer grew too long and was cut off.")
        if not self.unstored_since:
            self.unstored_since = self.woken_at = asyncio.get_running_loop().time()
        self.frames.append(frame)
        if self._waiters:
            self.wake()

    # The thread, which the assistant may change on the way

    def _describe_thread(self) -> tuple[object, ...]:
        thread, status = self.thread, self.thread.status
        metadata = json.dumps(thread.metadata, default=str) if thread.metadata else ""
        domains = tuple(thread.allowed_image_domains or ())
        reason = None if status.type == "active" else status.reason
        return thread.title, status.type, reason, domains, metadata

    def publish_thread_if_changed(self) -> None:
        """Tell clients, and remember to store it."""
        state = self._describe_thread()
        if state != self._thread_state:
            self._thread_state, self.thread_changed = state, True
            self.publish(ThreadUpdatedEvent(thread=thread_response(self.thread)))

    def allow_pictures(self, hosts: Sequence[str], *, is_new: bool) -> None:
        """Let clients load pictures from these hosts. Of a thread that `is_new` the event that creates it says so."""
        allowed = list(hosts) or None
        if (self.thread.allowed_image_domains or None) == allowed:
            return
        self.thread.allowed_image_domains = allowed
        if is_new:
            self._thread_state, self.thread_changed = self._describe_thread(), True
        else:
            self.publish_thread_if_changed()

    @property
    def title_changed(self) -> bool:
        """Whether the assistant named the thread."""
        return self.thread.title != self._first_title and not self.title_is_proposed

    @property
    def status_changed(self) -> bool:
        """Whether the assistant locked, closed or opened the thread."""
        return self.thread.status != self._first_status

    def propose_title(self, title: str | None) -> None:
        """Call the thread so, unless it has a name."""
        if title and (self.thread.title is None or self.title_is_proposed):
            self.thread.title, self.title_is_proposed = title, self._first_title is None

    # The end

    def stop(self, reason: StopReason) -> bool:
        """Stop the assistant; what it said so far is kept. False if the run is ending already."""
        if self.finishing or self.stop_reason is not None:
            return False
        self.stop_reason = reason
        if self.task is not None and self.started:  # cancelled before its first step, a task never runs at all
            self.task.cancel()
        return True

    def keep_partial(self) -> None:
        """Turn everything that was being written into items, as far as it got."""
        pending, self._pending = list(self._pending.values()), {}
        for unfinished in pending:
            if (item := unfinished.so_far()) is not None:
                self._apply_item("thread.item.done", item)

    def note_cancelled(self) -> None:
        """Tell the model, the next time it reads the thread, that this answer was cut short on purpose."""
        note = SDKHiddenContextItem(
            id=ids.new_id("shcx"), thread_id=self.thread.id, created_at=clock.now(), content=_CANCELLED_NOTE
        )
        self.changes.append(changed("add", note))

    def trace_until_now(self, outcome: Outcome) -> TurnTrace:
        """What to keep of how the run came about."""
        uses = self.usage.uses
        return self.trace.finish(
            tenant_id=self.key.tenant_id,
            run_id=self.key.run_id,
            thread_id=self.key.thread_id,
            agent_id=self.agent_id,
            agent_version=self.agent_version,
            outcome=outcome,
            provider=uses[-1].provider if uses else None,
            model=uses[-1].model if uses else None,
            input_tokens=sum(use.input_tokens for use in uses),
            output_tokens=sum(use.output_tokens for use in uses),
            cached_tokens=sum(use.cached_tokens for use in uses),
        )

    def close(self) -> None:
        """Nothing more will happen."""
        self.finished = True
        self.wake()

    # Listening

    @contextmanager
    def listen(self, after: int = 0) -> Iterator[Listener]:
        """Someone who has heard the first `after` events; until it leaves, nothing that it has not heard is forgotten."""
        listener = Listener(self, after)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)

    def forget_stored(self) -> None:
        """Forget what is in the database and was heard by whoever listens, but for the last of it."""
        known = min([self.stored, *(listener.seen for listener in self._listeners)])
        self.frames.forget(known, keep=KEEP_HEARD_BYTES if self._listeners else KEEP_STORED_BYTES)

    async def wait(self, seen: int) -> None:
        """Return once there are more than `seen` frames, or the run is finished, or it was silent for `PING_SECONDS`.

        The hub's clock tells of the silence: a timer for each wait would cost more than the wait.
        """
        if len(self.frames) > seen or self.finished:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def wake_if_silent(self, now: float) -> None:
        """Let those who listen tell their clients that the connection still stands."""
        if self._waiters and now - self.woken_at >= PING_SECONDS:
            self.woken_at = now
            self.wake()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            _release(waiter)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
