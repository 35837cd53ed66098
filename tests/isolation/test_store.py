"""Every method of the store and the index, with what belongs to another tenant or to another user."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chatkit.store import NotFoundError
from chatkit.types import ThreadMetadata

from stonechat import clock
from stonechat.chat.store import PostgresStore
from stonechat.knowledge import search
from support.world import User, World

Attempt = Callable[[PostgresStore, User, User], Awaitable[Any]]


async def _own_item(store: PostgresStore, user: User) -> Any:
    return await store.load_item(user.thread, user.item, user.caller)


async def _add_item(store: PostgresStore, mine: User, other: User) -> None:
    item = await _own_item(store, mine)
    await store.add_thread_item(other.thread, item.model_copy(update={"id": "msg_planted"}), mine.caller)


async def _save_item(store: PostgresStore, mine: User, other: User) -> None:
    item = await _own_item(store, mine)
    changed = item.model_copy(update={"id": other.item, "thread_id": other.thread})
    await store.save_item(other.thread, changed, mine.caller)


async def _save_attachment(store: PostgresStore, mine: User, other: User) -> None:
    own = await store.load_attachment(mine.attachment, mine.caller)
    await store.save_attachment(own.model_copy(update={"id": other.attachment, "name": "taken"}), mine.caller)


async def _save_thread(store: PostgresStore, mine: User, other: User) -> None:
    thread = ThreadMetadata(id=other.thread, title="Taken over", created_at=clock.now())
    await store.save_thread(thread, mine.caller)


NOT_FOUND: dict[str, Attempt] = {
    "load_thread": lambda store, mine, other: store.load_thread(other.thread, mine.caller),
    "load_item": lambda store, mine, other: store.load_item(other.thread, other.item, mine.caller),
    "load_attachment": lambda store, mine, other: store.load_attachment(other.attachment, mine.caller),
    "add_thread_item": _add_item,
    "save_item": _save_item,
}
CHANGES_NOTHING: dict[str, Attempt] = {
    "save_thread": _save_thread,
    "save_attachment": _save_attachment,
    "delete_thread": lambda store, mine, other: store.delete_thread(other.thread, mine.caller),
    "delete_thread_item": lambda store, mine, other: store.delete_thread_item(other.thread, other.item, mine.caller),
    "delete_attachment": lambda store, mine, other: store.delete_attachment(other.attachment, mine.caller),
}
"""Methods that the SDK wants to be silent where there is nothing, or that could plant a row of the same name."""


@pytest.fixture(params=["another tenant", "another user of the same tenant"])
def victim(request: pytest.FixtureRequest, world: World) -> User:
    return world.theirs.anna if request.param == "another tenant" else world.ours.ben


def test_all_twelve_methods_are_tried() -> None:
    abstract = PostgresStore.__mro__[1].__abstractmethods__
    assert NOT_FOUND.keys() | CHANGES_NOTHING.keys() | {"load_threads", "load_thread_items"} == set(abstract)


@pytest.mark.parametrize("method", NOT_FOUND)
async def test_it_is_not_found(world: World, victim: User, method: str) -> None:
    side = world.theirs if victim is world.theirs.anna else world.ours
    before = await world.rows_of(side)
    store: PostgresStore = PostgresStore(world.services.database)
    with pytest.raises(NotFoundError):
        await NOT_FOUND[method](store, world.ours.anna, victim)
    assert await world.rows_of(side) == before


@pytest.mark.parametrize("method", CHANGES_NOTHING)
async def test_it_is_not_changed(world: World, victim: User, method: str) -> None:
    store: PostgresStore = PostgresStore(world.services.database)
    thread = await store.load_thread(victim.thread, victim.caller)
    item = await store.load_item(victim.thread, victim.item, victim.caller)
    attachment = await store.load_attachment(victim.attachment, victim.caller)
    with contextlib.suppress(NotFoundError):
        await CHANGES_NOTHING[method](store, world.ours.anna, victim)
    assert await store.load_thread(victim.thread, victim.caller) == thread
    assert await store.load_item(victim.thread, victim.item, victim.caller) == item
    assert await store.load_attachment(victim.attachment, victim.caller) == attachment


async def test_lists_hold_only_ones_own(world: World, victim: User) -> None:
    store: PostgresStore = PostgresStore(world.services.database)
    # The SDK wants an empty page here, as for a thread that was never made.
    items = await store.load_thread_items(victim.thread, None, 100, "asc", world.ours.anna.caller)
    assert (items.data, items.has_more, items.after) == ([], False, None)
    page = await store.load_threads(100, None, "desc", world.ours.anna.caller)
    assert world.ours.anna.thread in [thread.id for thread in page.data]
    assert victim.thread not in [thread.id for thread in page.data]


async def test_the_index_answers_each_tenant_from_its_own_collection(world: World) -> None:
    index, theirs = world.services.knowledge.index, world.theirs
    hits = await index.search(world.ours.tenant_id, theirs.secret_word, limit=50, languages=["english"])
    assert not {hit.chunk_id for hit in hits} & set(theirs.chunks)
    recalled = await search.recall(world.services.knowledge, world.ours.tenant_id, theirs.chunks)
    assert recalled == []
    await index.delete_document(world.ours.tenant_id, theirs.ids["document_id"])
    assert await index.count(theirs.tenant_id, document_id=theirs.ids["document_id"]) > 0
