"""What a turn reads of its conversation: the newest items at first, and what came before them if it asks."""

from __future__ import annotations

from chatkit.types import ThreadItem

from stonechat.assistant.turn import LoadEarlier
from stonechat.chat.store import PostgresStore
from stonechat.identity.caller import Caller

HISTORY_ITEMS = 50


async def newest_items(store: PostgresStore[Caller], thread_id: str, caller: Caller) -> list[ThreadItem]:
    """The newest `HISTORY_ITEMS`, oldest first, hidden ones included."""
    page = await store.load_thread_items(thread_id, None, HISTORY_ITEMS, "desc", caller)
    return page.data[::-1]


def earlier_items(store: PostgresStore[Caller], thread_id: str, caller: Caller) -> LoadEarlier:
    """Reads what came before an item, in one piece, oldest first."""

    async def load(before: str, count: int) -> list[ThreadItem]:
        items: list[ThreadItem] = []
        after: str | None = before
        while after is not None and len(items) < count:
            page = await store.load_thread_items(thread_id, after, count - len(items), "desc", caller)
            items += page.data
            after = page.after
        return items[::-1]

    return load
