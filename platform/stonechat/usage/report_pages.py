"""A report of use in pages, by keyset."""

from __future__ import annotations

from datetime import date
from typing import Any, assert_never

from sqlalchemy import tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.errors import InvalidCursor, InvalidInput
from stonechat.usage.report import MAX_ROWS, Days, GroupBy, UsageRow, ask, row_of
from stonechat.web.paging import MAX_PAGE, Page, decode_cursor, encode_cursor


async def usage_page(
    session: AsyncSession, actor: Actor, *, days: Days, by: GroupBy, limit: int | None = None, cursor: str | None = None
) -> tuple[Page[UsageRow], UsageRow]:
    """A page of `usage_report`, and the sum of all pages. Without `limit` a page has `MAX_ROWS` rows.

    Raises what `usage_report` does, and `InvalidCursor` for one of another grouping. By agent or model, what is used while
    somebody turns the pages may stand on two of them, or on none.
    """
    if limit is not None and not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_PAGE}.")
    most = limit or MAX_ROWS
    asked = await ask(session, actor, days=days, by=by)
    chosen = asked.rows
    if cursor is not None:
        chosen = chosen.having(tuple_(*asked.order) > tuple_(*_after(cursor, by)))
    rows = [row_of(values) for values in await session.execute(chosen.limit(most + 1))]
    total = row_of((await session.execute(asked.total)).one())
    following = encode_cursor(*_key(rows[most - 1], by)) if len(rows) > most else None
    return Page(data=rows[:most], next_cursor=following), total


def _key(row: UsageRow, by: GroupBy) -> list[str | int]:
    """What a row is sorted by."""
    tokens, day, agent = -(row.input_tokens + row.output_tokens), str(row.day), row.agent_id or ""
    match by:
        case "day":
            return [day]
        case "agent":
            return [tokens, agent]
        case "model":
            return [tokens, row.provider or "", row.model or ""]
        case "all":
            return [day, agent, row.provider or "", row.model or "", row.purpose or ""]
        case _:
            assert_never(by)


def _after(cursor: str, by: GroupBy) -> list[Any]:
    if by in ("agent", "model"):
        return list(decode_cursor(cursor, int, *([str] * (1 if by == "agent" else 2))))
    day, *rest = decode_cursor(cursor, *([str] * (1 if by == "day" else 5)))
    try:
        return [date.fromisoformat(day), *rest]
    except ValueError:
        raise InvalidCursor("Use the “next_cursor” of the page before, unchanged, or leave it out.") from None
