"""Events as the bytes that are streamed, stored and replayed: `id: <run>:<seq>`, one line of JSON, an empty line."""

from __future__ import annotations

import json
from json.encoder import encode_basestring, encode_basestring_ascii

from chatkit.types import ErrorEvent, ThreadItem, ThreadItemReplacedEvent, ThreadStreamEvent
from pydantic import BaseModel

PING = b": ping\n\n"
_EXCLUDE = {"exclude_metadata": True}


def wire_json(model: BaseModel) -> str:
    """A model as clients see it: without what is unset, and without an attachment's private metadata."""
    return model.model_dump_json(by_alias=True, exclude_none=True, context=_EXCLUDE)


class EventEncoder:
    """Encodes one run's events."""

    __slots__ = ("_id", "_prefixes")

    def __init__(self, run_id: str) -> None:
        self._id = f"id: {run_id}:"
        self._prefixes: dict[tuple[str, int], str] = {}

    def event(self, seq: int, event: ThreadStreamEvent) -> bytes:
        """Any event, through its model."""
        return f"{self._id}{seq}\ndata: {wire_json(event)}\n\n".encode()

    def ready(self, seq: int, data: str) -> bytes:
        """An event whose JSON is at hand."""
        return f"{self._id}{seq}\ndata: {data}\n\n".encode()

    def text_delta(self, seq: int, item_id: str, content_index: int, delta: str) -> bytes:
        """The event there are most of, by concatenation: a tenth of the cost of going through its model."""
        prefix = self._prefixes.get((item_id, content_index))
        if prefix is None:
            prefix = self._prefixes[item_id, content_index] = (
                '\ndata: {"type":"thread.item.updated","item_id":' + encode_basestring(item_id) + ',"update":{"type":'
                f'"assistant_message.content_part.text_delta","content_index":{content_index},"delta":'
            )
        try:
            return f"{self._id}{seq}{prefix}{encode_basestring(delta)}}}}}\n\n".encode()
        except UnicodeEncodeError:  # half of a surrogate pair, the other half in the next delta
            return f"{self._id}{seq}{prefix}{encode_basestring_ascii(delta)}}}}}\n\n".encode()


def parse_event_id(value: str, run_id: str) -> int | None:
    """The number in a `Last-Event-ID`: 0 for none, None if it is not of this run."""
    if not value:
        return 0
    run, _, seq = value.rpartition(":")
    return int(seq) if run == run_id and seq.isascii() and seq.isdigit() and len(seq) <= 9 else None


def frames_after(payload: bytes, *, first_seq: int, after: int) -> list[bytes]:
    """The events of a stored batch whose numbers are above `after`."""
    frames = [frame + b"\n\n" for frame in payload.split(b"\n\n")[:-1]]
    return frames[max(0, after - first_seq + 1) :]


def event_data(frame: bytes) -> dict[str, object]:
    """The event in one frame."""
    data: dict[str, object] = json.loads(frame.partition(b"\ndata: ")[2])
    return data


def replacement(item: ThreadItem) -> bytes:
    """Tells a client that may have missed or lost something what the item is now. Bears no number of its own."""
    return b"data: " + wire_json(ThreadItemReplacedEvent(item=item)).encode() + b"\n\n"


INTERRUPTED = (
    b"data: "
    + wire_json(ErrorEvent(message="The answer was interrupted. Please try again.", allow_retry=True)).encode()
    + b"\n\n"
)
"""Tells a client that the run it listens to died, after what could be saved of it. Bears no number of its own."""


def paused(sentence: str) -> bytes:
    """Tells a client that its answer was stopped because the tenant was suspended. Bears no number of its own."""
    return b"data: " + wire_json(ErrorEvent(message=sentence, allow_retry=False)).encode() + b"\n\n"
