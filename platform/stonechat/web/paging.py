"""Lists in pages, by keyset: a cursor names the last row seen, so that pages neither skip nor repeat."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from fastapi import Query
from pydantic import BaseModel

from stonechat.errors import InvalidCursor
from stonechat.web.moments import in_utc

Item = TypeVar("Item")

MAX_PAGE = 100
_MAX_CURSOR_CHARACTERS = 1024
_MAX_INTEGER = 1 << 63

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="How many to return at most.")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.")]


class Page(BaseModel, Generic[Item]):
    """One page of a list. `next_cursor` is null on the last."""

    data: list[Item]
    next_cursor: str | None = None


def cut_page(rows: Sequence[Item], limit: int, key: Callable[[Item], str | int]) -> Page[Item]:
    """The page that `limit` + 1 rows begin with; `key` is what they are sorted by."""
    page = list(rows[:limit])
    return Page(data=page, next_cursor=encode_cursor(key(page[-1])) if len(rows) > limit else None)


def encode_cursor(*key: str | int) -> str:
    """An opaque, URL-safe cursor from the sort key of the last row on a page."""
    text = json.dumps(key, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_cursor(cursor: str, *kinds: type[str] | type[int]) -> tuple[Any, ...]:
    """The sort key that `encode_cursor` was given; raises `InvalidCursor` unless it has exactly these types."""
    try:
        if len(cursor) > _MAX_CURSOR_CHARACTERS:
            raise ValueError
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        key = json.loads(raw)
        if not isinstance(key, list) or len(key) != len(kinds):
            raise ValueError
        for part, kind in zip(key, kinds, strict=True):
            _check_part(part, kind)
    except (ValueError, RecursionError):
        raise InvalidCursor("Use the “next_cursor” of the page before, unchanged, or leave it out.") from None
    return tuple(key)


def moment_and_id(cursor: str) -> tuple[datetime, str]:
    """The sort key of a list by time: what `encode_cursor(moment.isoformat(), id)` made. Raises `InvalidCursor`."""
    written, row_id = decode_cursor(cursor, str, str)
    try:
        moment = datetime.fromisoformat(written)
        if moment.tzinfo is None:
            raise InvalidCursor
        return in_utc(moment), row_id
    except ValueError:
        raise InvalidCursor from None


def _check_part(part: object, kind: type) -> None:
    if type(part) is not kind:
        raise ValueError
    if isinstance(part, int) and not -_MAX_INTEGER <= part < _MAX_INTEGER:
        raise ValueError
    if isinstance(part, str) and "\x00" in part.encode().decode():  # encoding refuses lone surrogates
        raise ValueError
