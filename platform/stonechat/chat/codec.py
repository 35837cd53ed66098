"""Between the protocol's models and the text that is stored. Nothing is lost on the way, and nothing that Postgres refuses gets in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from chatkit.types import Attachment, ThreadItem, ThreadMetadata, ThreadStatus, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import TypeAdapter

HIDDEN_KINDS = ("hidden_context_item", "sdk_hidden_context")
"""Items that the model reads and no client ever sees."""

_items: TypeAdapter[ThreadItem] = TypeAdapter(ThreadItem)
_attachments: TypeAdapter[Attachment] = TypeAdapter(Attachment)
_status: TypeAdapter[ThreadStatus] = TypeAdapter(ThreadStatus)


def is_hidden(item: ThreadItem) -> bool:
    """Whether no client may see the item."""
    return item.type in HIDDEN_KINDS


def item_json(item: ThreadItem) -> str:
    """The item as stored, including what clients are not told."""
    return item.model_dump_json(by_alias=True)


def parse_item(data: str) -> ThreadItem:
    """A stored item. A widget that the SDK's strict models would cut down comes back as a dynamic one, whole."""
    item = _items.validate_json(data)
    if isinstance(item, WidgetItem):
        raw = json.loads(data)["widget"]
        if not _covers(item.widget.model_dump(mode="json", by_alias=True), raw):
            item.widget = DynamicWidgetRoot.model_validate(raw)
    return item


def _covers(dumped: Any, raw: Any) -> bool:
    """Whether `dumped` still says all that `raw` says."""
    if isinstance(raw, dict):
        return isinstance(dumped, dict) and all(
            _covers(dumped.get(key), value) for key, value in raw.items() if value is not None
        )
    if isinstance(raw, list):
        return (
            isinstance(dumped, list)
            and len(dumped) == len(raw)
            and all(_covers(left, right) for left, right in zip(dumped, raw, strict=True))
        )
    return bool(dumped == raw)


def attachment_json(attachment: Attachment) -> str:
    return attachment.model_dump_json(by_alias=True)


def parse_attachment(data: str) -> Attachment:
    return _attachments.validate_json(data)


def thread_metadata(
    thread_id: str, *, title: str | None, status: str, metadata: str, domains: list[str] | None, created_at: datetime
) -> ThreadMetadata:
    """A thread from its columns."""
    return ThreadMetadata(
        id=thread_id,
        title=title,
        created_at=created_at,
        status=_status.validate_json(status),
        allowed_image_domains=domains,
        metadata=json.loads(metadata),
    )


def status_json(status: ThreadStatus) -> str:
    """The status as stored. SQL looks into it, so a reason holds no NUL."""
    return without_nul(status.model_dump_json().replace("\\u0000", ""))


def without_nul(text: str) -> str:
    """Text for a column of type `text`, which cannot hold NUL or half of a surrogate pair."""
    return whole_text(text.replace("\x00", ""))


def whole_text(text: str) -> str:
    """Join surrogate pairs that a model streamed in halves, and replace halves that stayed alone."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def aware(moment: datetime) -> datetime:
    """The SDK makes naive local times; a naive one is taken for that."""
    return moment.astimezone(UTC)


def storable_id(value: str) -> bool:
    """Whether an id from outside could be in the database at all: asking for others is no error, they are not found."""
    return 0 < len(value) <= 128 and "\x00" not in value and value.isprintable()
