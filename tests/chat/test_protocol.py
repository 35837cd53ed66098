"""Every request of the protocol, with the SDK's gaps closed (each test names the one it is about)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.actions import Action
from chatkit.store import NotFoundError
from chatkit.types import (
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientToolCallItem,
    ClosedStatus,
    FileAttachment,
    LockedStatus,
    StructuredInputFreeform,
    StructuredInputItem,
    SyncCustomActionResponse,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    WidgetItem,
)
from chatkit.widgets import Card, Text
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.chat.events import EventEncoder, event_data, wire_json
from stonechat.chat.resume import tail
from stonechat.chat.runs import Run
from stonechat.chat.server import TenantChatKitServer
from stonechat.chat.store import PostgresStore
from stonechat.db.session import Database
from stonechat.errors import (
    AgentNotPublished,
    MalformedBody,
    NotFound,
    NotOffered,
    ThreadLocked,
    WrongItem,
)
from stonechat.identity.caller import Caller
from support.chat import Chat, assistant_message, caller_of, create, decode, hidden, spoken, thread, user_message
from support.responders import speak


async def listen(run: Run) -> list[dict[str, Any]]:
    return decode(b"".join([chunk async for chunk in tail(run)]))


async def ask(chat: Chat, caller: Caller, type_: str, **params: Any) -> Any:
    """Send a request as a client would; a stream's events, or the JSON."""
    request = chat.server.parse(json.dumps({"type": type_, "params": params}))
    if type_ in ("threads.create", "threads.add_user_message", "threads.retry_after_item", "threads.custom_action",
                 "threads.add_client_tool_output", "threads.add_structured_input"):  # fmt: skip
        return await listen(await chat.server.start(request, caller))  # type: ignore[arg-type]
    return json.loads(await chat.server.answer(request, caller))  # type: ignore[arg-type]


async def kept(chat: Chat, caller: Caller, items: int = 0) -> str:
    made = thread()
    await chat.server.store.save_thread(made, caller)
    for number in range(items):
        await chat.server.store.add_thread_item(made.id, user_message(made.id, str(number)), caller)
    return made.id


BAD = ["", "{", "null", "[]", "1", "{}", '{"type":"threads.explode","params":{}}', '{"type":"threads.list"}',
       '{"type":"items.list","params":{"thread_id":3}}', '{"type":"threads.create","params":{"input":{"content":"x"}}}',
       '{"type":"items.feedback","params":{"thread_id":"t","item_ids":["a"],"kind":"furious"}}',
       '{"type":"threads.list","params":{"order":"sideways"}}', "\xff", '{"type":"\\ud800"}', "[" * 5000]  # fmt: skip


@pytest.mark.parametrize("body", BAD)
def test_a_bad_body_is_malformed(chat: Chat, body: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        chat.server.parse(body.encode("latin-1"))
    assert len(json.dumps(refused.value.problem())) < 2000


async def test_a_thread_opens_at_its_newest_page(chat: Chat, anna: Caller) -> None:
    """SDK: `threads.get_by_id` returns the oldest 20 items, hidden ones counted."""
    thread_id = await kept(chat, anna, 25)
    for _ in range(5):
        await chat.server.store.add_thread_item(thread_id, hidden(thread_id, "SECRET"), anna)
    opened = await ask(chat, anna, "threads.get_by_id", thread_id=thread_id)
    shown = [item["content"][0]["text"] for item in opened["items"]["data"]]
    assert shown == [str(number) for number in range(5, 25)]
    assert opened["items"]["has_more"]
    older = await ask(chat, anna, "items.list", thread_id=thread_id, after=opened["items"]["after"])
    assert [item["content"][0]["text"] for item in older["data"]] == ["4", "3", "2", "1", "0"]
    assert not older["has_more"]
    assert "SECRET" not in json.dumps([opened, older])


async def test_limits_are_capped(chat: Chat, anna: Caller) -> None:
    """SDK: `limit` is uncapped; clients have sent 9999."""
    thread_id = await kept(chat, anna, 101)
    assert len((await ask(chat, anna, "items.list", thread_id=thread_id, limit=9999))["data"]) == 100
    assert len((await ask(chat, anna, "items.list", thread_id=thread_id, limit=-1))["data"]) == 1
    assert len((await ask(chat, anna, "threads.list", limit=9999))["data"]) == 1


async def test_a_page_of_hidden_items_is_not_an_empty_page(chat: Chat, anna: Caller) -> None:
    """SDK: hidden items are filtered after paging."""
    thread_id = await kept(chat, anna, 1)
    for _ in range(30):
        await chat.server.store.add_thread_item(thread_id, hidden(thread_id), anna)
    page = await ask(chat, anna, "items.list", thread_id=thread_id, limit=5)
    assert (len(page["data"]), page["has_more"]) == (1, False)


NO_SUCH = {
    "threads.get_by_id": {"thread_id": "thr_no"},
    "threads.update": {"thread_id": "thr_no", "title": "x"},
    "threads.delete": {"thread_id": "thr_no"},
    "items.list": {"thread_id": "thr_no"},
    "items.feedback": {"thread_id": "thr_no", "item_ids": ["msg_no"], "kind": "positive"},
    "threads.list": {"after": "thr_no"},
    "threads.add_user_message": {
        "thread_id": "thr_no",
        "input": {
            "content": [{"type": "input_text", "text": "Hi"}],
            "attachments": [],
            "inference_options": {},
        },
    },
    "threads.create": {"input": {"content": [], "attachments": ["atc_no"], "inference_options": {}}},
    "threads.retry_after_item": {"thread_id": "thr_no", "item_id": "msg_no"},
    "threads.add_client_tool_output": {"thread_id": "thr_no", "result": 1},
    "threads.add_structured_input": {"thread_id": "thr_no", "item_id": "x", "input": {}},
}


@pytest.mark.parametrize("type_", NO_SUCH)
@pytest.mark.parametrize("whose", ["nobody's", "another user's", "another tenant's"])
async def test_what_is_not_ones_own_is_not_found_before_any_stream(
    chat: Chat, anna: Caller, make_tenant, make_agent, type_: str, whose: str
) -> None:
    """SDK: `load_thread` failing inside a stream raises after the 200, with no error event."""
    owner = anna if whose == "nobody's" else caller_of(anna.tenant_id, "usr_bob", agent_id=anna.agent_id)
    if whose == "another tenant's":
        tenant_id = await make_tenant()
        owner = caller_of(tenant_id, anna.user_id, agent_id=await make_agent(tenant_id))
    params = dict(NO_SUCH[type_])
    if owner is not anna:
        thread_id = await kept(chat, owner, 1)
        file = FileAttachment(id=ids.new_id("atc"), name="a.txt", mime_type="text/plain")
        await chat.server.store.save_attachment(file, owner)
        params = json.loads(json.dumps(params).replace("thr_no", thread_id).replace("atc_no", file.id))
    with pytest.raises(NotFound):
        await ask(chat, anna, type_, **params)
    assert chat.responder.histories == []


@pytest.mark.parametrize(
    "status", [LockedStatus(reason="The case is closed."), ClosedStatus(reason="The case is closed.")]
)
async def test_locked_and_closed_threads_refuse_with_their_reason(
    chat: Chat, anna: Caller, status: LockedStatus | ClosedStatus
) -> None:
    """SDK: `locked` and `closed` are not enforced."""
    made = thread()
    made.status = status
    await chat.server.store.save_thread(made, anna)
    message = user_message(made.id, "x")
    await chat.server.store.add_thread_item(made.id, message, anna)
    new = {"content": [{"type": "input_text", "text": "Hi"}], "attachments": [], "inference_options": {}}
    for type_, params in {
        "threads.add_user_message": {"thread_id": made.id, "input": new},
        "threads.retry_after_item": {"thread_id": made.id, "item_id": message.id},
        "threads.add_client_tool_output": {"thread_id": made.id, "result": 1},
        "threads.add_structured_input": {"thread_id": made.id, "item_id": message.id, "input": {}},
    }.items():
        with pytest.raises(ThreadLocked, match="The case is closed"):
            await ask(chat, anna, type_, **params)
    assert (await ask(chat, anna, "threads.get_by_id", thread_id=made.id))["status"]["type"] == status.type


async def test_retrying_deletes_what_followed_and_answers_again(chat: Chat, anna: Caller) -> None:
    first = await ask(chat, anna, "threads.create", **create("Why?").params.model_dump())
    thread_id, message_id = first[0]["thread"]["id"], first[1]["item"]["id"]
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["Better"])
    events = await ask(chat, anna, "threads.retry_after_item", thread_id=thread_id, item_id=message_id)
    assert spoken(events) == "Better"
    items = (await ask(chat, anna, "items.list", thread_id=thread_id, order="asc"))["data"]
    assert [item["type"] for item in items] == ["user_message", "assistant_message"]
    assert [item.type for item in chat.responder.histories[-1]] == ["user_message"]
    with pytest.raises(WrongItem):
        await ask(chat, anna, "threads.retry_after_item", thread_id=thread_id, item_id=items[1]["id"])


async def test_a_client_tool_gives_its_output_once(chat: Chat, anna: Caller) -> None:
    thread_id = await kept(chat, anna, 1)
    call = ClientToolCallItem(
        id="tc_1", thread_id=thread_id, created_at=clock.now(), call_id="c1", name="cart", arguments={}
    )
    await chat.server.store.add_thread_item(thread_id, call, anna)
    await chat.server.store.add_thread_item(thread_id, hidden(thread_id), anna)
    events = await ask(chat, anna, "threads.add_client_tool_output", thread_id=thread_id, result={"items": 2})
    assert spoken(events) == "Hello, world"
    stored = await chat.server.store.load_item(thread_id, "tc_1", anna)
    assert isinstance(stored, ClientToolCallItem)
    assert (stored.status, stored.output) == ("completed", {"items": 2})
    assert any(item == stored for item in chat.responder.histories[-1])
    with pytest.raises(WrongItem):
        await ask(chat, anna, "threads.add_client_tool_output", thread_id=thread_id, result={"items": 3})


async def test_a_form_is_filled_in_once(chat: Chat, anna: Caller) -> None:
    thread_id = await kept(chat, anna, 1)
    form = StructuredInputItem(
        id="si_1",
        thread_id=thread_id,
        created_at=clock.now(),
        inputs=[StructuredInputFreeform(id="size", question="Which size?")],
    )
    await chat.server.store.add_thread_item(thread_id, form, anna)
    answers = {"answers": {"size": {"values": ["42"]}}}
    events = await ask(chat, anna, "threads.add_structured_input", thread_id=thread_id, item_id="si_1", input=answers)
    replaced = next(event["item"] for event in events if event["type"] == "thread.item.replaced")
    assert replaced["inputs"][0]["answer"]["values"] == ["42"]
    assert spoken(events) == "Hello, world"
    with pytest.raises(WrongItem):
        await ask(chat, anna, "threads.add_structured_input", thread_id=thread_id, item_id="si_1", input=answers)


async def test_feedback_is_for_items_that_exist_and_knows_the_version(
    chat: Chat, anna: Caller, database: Database
) -> None:
    """SDK: feedback ids are not checked."""
    events = await ask(chat, anna, "threads.create", **create().params.model_dump())
    thread_id = events[0]["thread"]["id"]
    answer = next(event["item"]["id"] for event in events if event["type"] == "thread.item.added")
    secret = hidden(thread_id)
    await chat.server.store.add_thread_item(thread_id, secret, anna)
    for wrong in (["msg_no"], [answer, "msg_no"], [secret.id], []):
        with pytest.raises(NotFound):
            await ask(chat, anna, "items.feedback", thread_id=thread_id, item_ids=wrong, kind="positive")
    for kind in ("positive", "negative"):
        assert await ask(chat, anna, "items.feedback", thread_id=thread_id, item_ids=[answer], kind=kind) == {}
    async with database.tenant(anna.tenant_id) as session:
        rows = (await session.execute(text("select item_id, kind, agent_version from feedback"))).all()
    assert rows == [(answer, "negative", 1)]


async def test_renaming_and_deleting(chat: Chat, anna: Caller) -> None:
    thread_id = await kept(chat, anna, 2)
    assert (await ask(chat, anna, "threads.update", thread_id=thread_id, title="N" * 500))["title"] == "N" * 200
    assert await ask(chat, anna, "threads.delete", thread_id=thread_id) == {}
    with pytest.raises(NotFound):
        await ask(chat, anna, "threads.get_by_id", thread_id=thread_id)


OFFERED_LATER = {
    "attachments.create": {"name": "a.txt", "size": 1, "mime_type": "text/plain"},
    "attachments.delete": {"attachment_id": "atc_1"},
    "input.transcribe": {"audio_base64": "aGk=", "mime_type": "audio/webm"},
    "threads.custom_action": {"thread_id": "thr_1", "action": {"type": "buy"}},
    "threads.sync_custom_action": {"thread_id": "thr_1", "action": {"type": "buy"}},
}


@pytest.mark.parametrize("type_", OFFERED_LATER)
async def test_what_an_assistant_does_not_offer_it_says(chat: Chat, anna: Caller, type_: str) -> None:
    params = OFFERED_LATER[type_]
    if "thread_id" in params:
        with pytest.raises(NotFound):
            await ask(chat, anna, type_, **params)
        params = params | {"thread_id": await kept(chat, anna, 1)}
    with pytest.raises(NotOffered):
        await ask(chat, anna, type_, **params)


async def test_an_agent_that_is_not_published_answers_nobody(chat: Chat, anna: Caller, database: Database) -> None:
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(text("update agents set published_version = null"))
    with pytest.raises(AgentNotPublished):
        await chat.server.start(create(), anna)
    assert (await ask(chat, anna, "threads.list"))["data"] == []


def test_deltas_by_concatenation_say_what_the_model_would() -> None:
    encoder = EventEncoder("run_1")
    for delta in ["plain", 'quo"te\\', "\n\t\x00\x1f", "ä🎉\u2028", ""]:
        update = AssistantMessageContentPartTextDelta(content_index=2, delta=delta)
        event = ThreadItemUpdatedEvent(item_id='m"1', update=update)
        frame = encoder.text_delta(7, 'm"1', 2, delta)
        assert frame.startswith(b"id: run_1:7\ndata: ")
        assert frame.count(b"\n") == 3
        assert event_data(frame) == json.loads(wire_json(event))


# The SDK's own entry, for those who build on it


class Speaking(TenantChatKitServer[Caller]):
    async def respond(self, thread, input_user_message, context) -> AsyncIterator[Any]:
        for wrap in (ThreadItemAddedEvent, ThreadItemDoneEvent, ThreadItemReplacedEvent):
            yield wrap(item=hidden(thread.id, "SECRET"))
        yield ThreadItemDoneEvent(item=assistant_message(thread.id, "said"))

    async def action(self, thread, action: Action[str, Any], sender, context) -> AsyncIterator[Any]:
        yield ThreadItemDoneEvent(item=assistant_message(thread.id, f"did {action.type}"))

    async def sync_action(self, thread, action, sender, context) -> SyncCustomActionResponse:
        return SyncCustomActionResponse(updated_item=sender)


async def test_process_refuses_before_its_stream_and_leaks_nothing(database: Database, anna: Caller) -> None:
    """SDK: bad JSON raises `ValidationError`; hidden items leak if streamed as `added` or `replaced`."""
    server = Speaking(PostgresStore(database))
    with pytest.raises(MalformedBody):
        await server.process(b"{", anna)
    with pytest.raises(NotFoundError):
        await server.process(json.dumps({"type": "threads.retry_after_item",
                                         "params": {"thread_id": "x", "item_id": "y"}}), anna)  # fmt: skip
    result = await server.process(create().model_dump_json(), anna)
    stream = b"".join([chunk async for chunk in result])  # type: ignore[union-attr]
    assert b"SECRET" not in stream
    assert spoken(decode(stream)) == "said"


async def test_actions_of_widgets_reach_a_server_that_offers_them(database: Database, anna: Caller) -> None:
    server = Speaking(PostgresStore(database))
    made = thread()
    await server.store.save_thread(made, anna)
    widget = WidgetItem(id="wid_1", thread_id=made.id, created_at=clock.now(), widget=Card(children=[Text(value="x")]))
    await server.store.add_thread_item(made.id, widget, anna)
    params = {"thread_id": made.id, "item_id": "wid_1", "action": {"type": "buy"}}
    result = await server.process(json.dumps({"type": "threads.custom_action", "params": params}), anna)
    assert spoken(decode(b"".join([chunk async for chunk in result]))) == "did buy"  # type: ignore[union-attr]
    answer = await server.process(json.dumps({"type": "threads.sync_custom_action", "params": params}), anna)
    assert json.loads(answer.json)["updated_item"]["id"] == "wid_1"  # type: ignore[union-attr]
    other = user_message(made.id, "x")
    await server.store.add_thread_item(made.id, other, anna)
    with pytest.raises(WrongItem):
        await server.process(
            json.dumps({"type": "threads.custom_action", "params": params | {"item_id": other.id}}), anna
        )


async def test_process_keeps_the_partial_answer_of_who_hangs_up(database: Database, anna: Caller) -> None:
    """SDK: hanging up cancels inside a cancelled scope, and the hook's own saves are cancelled too."""
    import anyio

    class Slow(TenantChatKitServer[Caller]):
        async def respond(self, thread, input_user_message, context) -> AsyncIterator[Any]:
            async def pause(number: int) -> None:
                if number:
                    await asyncio.sleep(30)

            async for event in speak(thread, "msg_half", ["half", "never"], pause=pause):
                yield event

    server = Slow(PostgresStore(database))
    result = await server.process(create().model_dump_json(), anna)
    heard = b""
    with anyio.CancelScope() as scope:
        async for chunk in result:  # type: ignore[union-attr]
            heard += chunk
            if b"half" in chunk and b"text_delta" in chunk:
                scope.cancel()
    thread_id = decode(heard)[0]["thread"]["id"]
    item = await server.store.load_item(thread_id, "msg_half", anna)
    assert isinstance(item, AssistantMessageItem)
    assert item.content[0].text == "half"
