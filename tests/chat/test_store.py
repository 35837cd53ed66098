"""The store keeps what it is given, in order, and shows it to its owner only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from chatkit.store import NotFoundError
from chatkit.types import (
    ClosedStatus,
    CustomTask,
    FileAttachment,
    LockedStatus,
    ThreadItem,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import Card, DynamicWidgetRoot, Text
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.chat.store import MAX_PAGE, PostgresStore
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists
from stonechat.identity.caller import Caller
from support.chat import assistant_message, caller_of, hidden, thread, user_message


@pytest.fixture
def store(database: Database) -> PostgresStore:
    return PostgresStore(database)


@pytest.fixture
def anna(tenant_id: UUID) -> Caller:
    return caller_of(tenant_id, agent_id=None)  # type: ignore[arg-type]


async def filled(store: PostgresStore, caller: Caller, texts: list[str]) -> tuple[str, list[ThreadItem]]:
    kept = thread()
    await store.save_thread(kept, caller)
    items = [user_message(kept.id, each) for each in texts]
    for item in items:
        await store.add_thread_item(kept.id, item, caller)
    return kept.id, items


async def test_a_thread_comes_back_as_it_was_saved(store: PostgresStore, anna: Caller) -> None:
    kept = thread(title="Opening hours")
    kept.metadata = {"shop": {"id": 7, "tags": ["a", None]}}
    kept.allowed_image_domains = ["images.example"]
    kept.status = LockedStatus(reason="Because")
    await store.save_thread(kept, anna)
    assert await store.load_thread(kept.id, anna) == kept
    kept.title, kept.status, kept.metadata = None, ClosedStatus(), {}
    await store.save_thread(kept, anna)
    assert await store.load_thread(kept.id, anna) == kept


async def test_items_come_back_in_the_order_of_adding_whatever_their_clocks_say(
    store: PostgresStore, anna: Caller
) -> None:
    moment = clock.now()
    kept = thread()
    await store.save_thread(kept, anna)
    items = [user_message(kept.id, str(n), at=moment - timedelta(seconds=n % 3)) for n in range(7)]
    for item in items:
        await store.add_thread_item(kept.id, item, anna)
    up = await store.load_thread_items(kept.id, None, 10, "asc", anna)
    down = await store.load_thread_items(kept.id, None, 10, "desc", anna)
    assert up.data == items
    assert down.data == items[::-1]


async def test_naive_times_come_back_naive(store: PostgresStore, anna: Caller) -> None:
    kept = thread()
    await store.save_thread(kept, anna)
    item = user_message(kept.id, "hi", at=datetime.now())  # noqa: DTZ005  what the SDK itself makes
    await store.add_thread_item(kept.id, item, anna)
    assert await store.load_item(kept.id, item.id, anna) == item


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_neither_skip_nor_repeat(store: PostgresStore, anna: Caller, order: str) -> None:
    thread_id, items = await filled(store, anna, [str(n) for n in range(7)])
    seen: list[str] = []
    after = None
    while True:
        page = await store.load_thread_items(thread_id, after, 3, order, anna)
        seen += [item.id for item in page.data]
        assert page.has_more == (page.after is not None)
        if not page.has_more:
            break
        after = page.after
    expected = [item.id for item in items]
    assert seen == (expected if order == "asc" else expected[::-1])


async def test_threads_page_by_age(store: PostgresStore, anna: Caller) -> None:
    made = [thread(title=str(n)) for n in range(5)]
    for each in made:
        await store.save_thread(each, anna)
    first = await store.load_threads(2, None, "desc", anna)
    second = await store.load_threads(2, first.after, "desc", anna)
    rest = await store.load_threads(10, made[0].id, "asc", anna)
    assert [each.title for each in first.data + second.data] == ["4", "3", "2", "1"]
    assert second.has_more
    assert [each.title for each in rest.data] == ["1", "2", "3", "4"]
    assert (rest.has_more, rest.after) == (False, None)


async def test_a_page_has_a_limit(store: PostgresStore, anna: Caller) -> None:
    thread_id, _ = await filled(store, anna, ["x"] * (MAX_PAGE + 1))
    page = await store.load_thread_items(thread_id, None, 9999, "asc", anna)
    assert len(page.data) == MAX_PAGE
    assert page.has_more
    assert len((await store.load_thread_items(thread_id, None, -1, "asc", anna)).data) == 1


async def test_an_unknown_cursor_is_not_found(store: PostgresStore, anna: Caller) -> None:
    thread_id, _ = await filled(store, anna, ["x"])
    with pytest.raises(NotFoundError):
        await store.load_thread_items(thread_id, "msg_missing", 10, "asc", anna)
    with pytest.raises(NotFoundError):
        await store.load_threads(10, "thr_missing", "asc", anna)


async def test_hidden_items_neither_appear_nor_shorten_a_page(store: PostgresStore, anna: Caller) -> None:
    thread_id, items = await filled(store, anna, ["first"])
    for _ in range(25):
        await store.add_thread_item(thread_id, hidden(thread_id), anna)
    last = assistant_message(thread_id, "last")
    await store.add_thread_item(thread_id, last, anna)
    page = await store.load_visible_items(thread_id, None, 2, "desc", anna)
    assert page.data == [last, items[0]]
    assert not page.has_more
    assert len((await store.load_thread_items(thread_id, None, 100, "asc", anna)).data) == 27


async def test_an_item_is_added_once(store: PostgresStore, anna: Caller) -> None:
    thread_id, [item] = await filled(store, anna, ["first"])
    with pytest.raises(AlreadyExists):
        await store.add_thread_item(thread_id, user_message(thread_id, "other", item_id=item.id), anna)
    assert await store.load_item(thread_id, item.id, anna) == item


async def test_a_workflow_may_be_added_again(store: PostgresStore, anna: Caller) -> None:
    thread_id, [message] = await filled(store, anna, ["first"])
    flow = WorkflowItem(
        id="wf_1", thread_id=thread_id, created_at=clock.now(), workflow=Workflow(type="custom", tasks=[])
    )
    await store.add_thread_item(thread_id, flow, anna)
    flow.workflow.tasks.append(CustomTask(title="Looked it up"))
    await store.add_thread_item(thread_id, flow, anna)
    assert await store.load_item(thread_id, "wf_1", anna) == flow
    with pytest.raises(AlreadyExists):
        await store.add_thread_item(thread_id, flow.model_copy(update={"id": message.id}), anna)


async def test_saving_an_item_replaces_it_where_it_stands(store: PostgresStore, anna: Caller) -> None:
    thread_id, [first, second] = await filled(store, anna, ["first", "second"])
    changed = assistant_message(thread_id, "changed", item_id=first.id)
    await store.save_item(thread_id, changed, anna)
    new = assistant_message(thread_id, "new")
    await store.save_item(thread_id, new, anna)
    page = await store.load_thread_items(thread_id, None, 10, "asc", anna)
    assert page.data == [changed, second, new]


async def test_what_is_deleted_is_gone(store: PostgresStore, anna: Caller) -> None:
    thread_id, [first, second] = await filled(store, anna, ["first", "second"])
    await store.delete_thread_item(thread_id, first.id, anna)
    await store.delete_thread_item(thread_id, first.id, anna)
    assert (await store.load_thread_items(thread_id, None, 10, "asc", anna)).data == [second]
    await store.delete_thread(thread_id, anna)
    await store.delete_thread(thread_id, anna)
    with pytest.raises(NotFoundError):
        await store.load_thread(thread_id, anna)
    assert (await store.load_thread_items(thread_id, None, 10, "asc", anna)).data == []


async def test_attachments(store: PostgresStore, anna: Caller) -> None:
    file = FileAttachment(id=ids.new_id("atc"), name="a.txt", mime_type="text/plain", metadata={"from": "test"})
    await store.save_attachment(file, anna)
    assert await store.load_attachment(file.id, anna) == file
    moved = file.model_copy(update={"thread_id": "thr_1"})
    await store.save_attachment(moved, anna)
    assert await store.load_attachment(file.id, anna) == moved
    await store.delete_attachment(file.id, anna)
    with pytest.raises(NotFoundError):
        await store.load_attachment(file.id, anna)


async def test_properties_of_a_widget_that_the_sdk_does_not_know_survive(store: PostgresStore, anna: Caller) -> None:
    thread_id, _ = await filled(store, anna, [])
    raw = {"type": "Card", "glow": {"hue": 3}, "children": [{"type": "Text", "value": "Hi", "sparkle": True}]}
    item = WidgetItem(
        id="wid_1", thread_id=thread_id, created_at=clock.now(), widget=DynamicWidgetRoot.model_validate(raw)
    )
    await store.add_thread_item(thread_id, item, anna)
    loaded = await store.load_item(thread_id, "wid_1", anna)
    assert json.loads(loaded.model_dump_json(exclude_none=True))["widget"] == raw


async def test_a_plain_widget_comes_back_as_the_class_it_was(store: PostgresStore, anna: Caller) -> None:
    thread_id, _ = await filled(store, anna, [])
    item = WidgetItem(id="wid_1", thread_id=thread_id, created_at=clock.now(), widget=Card(children=[Text(value="Hi")]))
    await store.add_thread_item(thread_id, item, anna)
    assert await store.load_item(thread_id, "wid_1", anna) == item


@pytest.mark.parametrize(
    "words",
    [
        "a\x00b",
        "\x00",
        "line\nbreak \u2028 emoji 🎉",
        "\ud83c\udf89".encode("utf-16", "surrogatepass").decode("utf-16"),
    ],
)
async def test_text_survives_whatever_it_holds(store: PostgresStore, anna: Caller, words: str) -> None:
    thread_id, [item] = await filled(store, anna, [words])
    assert await store.load_item(thread_id, item.id, anna) == item
    titled = thread(thread_id, title=f"T{words}")
    await store.save_thread(titled, anna)
    assert (await store.load_thread(thread_id, anna)).title == f"T{words}".replace("\x00", "")


@pytest.mark.parametrize("strange", ["", "x" * 129, "a\x00b", "a\nb", "../..", "'; drop table threads; --", "🎉"])
async def test_strange_ids_are_not_found(store: PostgresStore, anna: Caller, strange: str) -> None:
    thread_id, _ = await filled(store, anna, [])
    with pytest.raises(NotFoundError):
        await store.load_thread(strange, anna)
    with pytest.raises(NotFoundError):
        await store.load_item(thread_id, strange, anna)
    with pytest.raises(NotFoundError):
        await store.load_attachment(strange, anna)


async def test_times_without_a_zone_are_kept_as_instants(
    store: PostgresStore, anna: Caller, database: Database
) -> None:
    thread_id, _ = await filled(store, anna, [])
    naive = datetime.now()  # noqa: DTZ005
    item = user_message(thread_id, "hi", at=naive)
    await store.add_thread_item(thread_id, item, anna)
    async with database.tenant(anna.tenant_id) as session:
        at = await session.scalar(text("select created_at from thread_items where item_id = :id"), {"id": item.id})
    assert at == naive.astimezone(UTC)


def test_generated_ids_say_what_they_name(store: PostgresStore, anna: Caller) -> None:
    kept = thread()
    kinds = {"message": "msg", "tool_call": "tc", "workflow": "wf", "task": "tsk", "attachment": "atc"}
    for kind, prefix in kinds.items():
        assert store.generate_item_id(kind, kept, anna).startswith(f"{prefix}_")  # type: ignore[arg-type]
    assert store.generate_thread_id(anna).startswith("thr_")
    assert len({store.generate_thread_id(anna) for _ in range(10_000)}) == 10_000


Intrusion = Callable[[PostgresStore, Caller, str, str, str], Awaitable[object]]

NOT_FOUND: dict[str, Intrusion] = {
    "load_thread": lambda s, c, t, _i, _a: s.load_thread(t, c),
    "save_thread": lambda s, c, t, _i, _a: s.save_thread(thread(t, title="mine now"), c),
    "load_item": lambda s, c, t, i, _a: s.load_item(t, i, c),
    "add_thread_item": lambda s, c, t, _i, _a: s.add_thread_item(t, user_message(t, "intruder"), c),
    "save_item": lambda s, c, t, i, _a: s.save_item(t, user_message(t, "intruder", item_id=i), c),
    "load_thread_items after": lambda s, c, t, i, _a: s.load_thread_items(t, i, 10, "asc", c),
    "load_threads after": lambda s, c, t, _i, _a: s.load_threads(10, t, "asc", c),
    "load_attachment": lambda s, c, _t, _i, a: s.load_attachment(a, c),
    "save_attachment": lambda s, c, _t, _i, a: s.save_attachment(FileAttachment(id=a, name="x", mime_type="a/b"), c),
}


@pytest.mark.parametrize("verb", NOT_FOUND)
async def test_another_user_of_the_tenant_finds_nothing(store: PostgresStore, anna: Caller, verb: str) -> None:
    await _intrude(store, anna, caller_of(anna.tenant_id, "usr_bob", agent_id=None), verb)  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", [verb for verb in NOT_FOUND if verb not in ("save_thread", "save_attachment")])
async def test_another_tenant_finds_nothing(store: PostgresStore, anna: Caller, make_tenant, verb: str) -> None:
    await _intrude(store, anna, caller_of(await make_tenant(), anna.user_id, agent_id=None), verb)  # type: ignore[arg-type]


async def _intrude(store: PostgresStore, owner: Caller, intruder: Caller, verb: str) -> None:
    thread_id, [item] = await filled(store, owner, ["mine"])
    attachment = FileAttachment(id=ids.new_id("atc"), name="a.txt", mime_type="text/plain")
    await store.save_attachment(attachment, owner)
    before = await store.load_thread(thread_id, owner)
    with pytest.raises(NotFoundError):
        await NOT_FOUND[verb](store, intruder, thread_id, item.id, attachment.id)
    assert await store.load_thread(thread_id, owner) == before
    assert (await store.load_thread_items(thread_id, None, 10, "asc", owner)).data == [item]
    assert await store.load_attachment(attachment.id, owner) == attachment


async def test_the_same_ids_in_two_tenants_are_two_threads(store: PostgresStore, anna: Caller, make_tenant) -> None:
    other = caller_of(await make_tenant(), anna.user_id, agent_id=None)  # type: ignore[arg-type]
    await store.save_thread(thread("thr_same", title="anna's"), anna)
    await store.save_thread(thread("thr_same", title="other's"), other)
    assert (await store.load_thread("thr_same", anna)).title == "anna's"
    assert (await store.load_thread("thr_same", other)).title == "other's"


@pytest.mark.parametrize("same_tenant", [True, False])
async def test_deleting_and_listing_reach_only_ones_own(
    store: PostgresStore, anna: Caller, make_tenant, same_tenant: bool
) -> None:
    thread_id, [item] = await filled(store, anna, ["mine"])
    attachment = FileAttachment(id=ids.new_id("atc"), name="a.txt", mime_type="text/plain")
    await store.save_attachment(attachment, anna)
    other = caller_of(anna.tenant_id if same_tenant else await make_tenant(), "usr_bob", agent_id=None)  # type: ignore[arg-type]
    await store.delete_thread_item(thread_id, item.id, other)
    await store.delete_thread(thread_id, other)
    await store.delete_attachment(attachment.id, other)
    assert (await store.load_threads(10, None, "asc", other)).data == []
    assert (await store.load_thread_items(thread_id, None, 10, "asc", other)).data == []
    assert (await store.load_visible_items(thread_id, None, 10, "asc", other)).data == []
    assert (await store.load_thread_items(thread_id, None, 10, "asc", anna)).data == [item]
    assert await store.load_attachment(attachment.id, anna) == attachment
