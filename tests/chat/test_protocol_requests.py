"""Every request of the protocol over HTTP, through the whole application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
from chatkit import types
from chatkit.types import ClientToolCallItem, StructuredInputFreeform, StructuredInputItem, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from sqlalchemy import text

from stonechat import clock
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase
from support.responders import Gate, speak

CARD = {
    "type": "Card",
    "children": [{"type": "Button", "label": "Buy", "onClickAction": {"type": "buy", "payload": {"id": 7}}}],
}
SHOW = {"kind": "widget", "name": "show", "description": "Shows it.", "template": CARD}
UNION = {
    kind.model_fields["type"].default
    for union in (types.StreamingReq, types.NonStreamingReq)
    for kind in get_args(union)
}


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with open_platform(test_database, tmp_path_factory.mktemp("platform")) as opened:
        opened.script()
        yield opened


@pytest.fixture(scope="module")
async def agent(platform: Platform) -> str:
    return await platform.agent(tools=[SHOW], attachments={"enabled": True})


@pytest.fixture
def visitor(platform: Platform, agent: str) -> Visitor:
    platform.script()
    return platform.visitor(agent)


async def conversation(visitor: Visitor) -> str:
    return str((await visitor.say("Hello"))[0]["thread"]["id"])


async def put(visitor: Visitor, item: Any) -> None:
    await visitor.platform.services.chat.store.add_thread_item(item.thread_id, item, visitor.caller)


def answered(events: list[dict[str, Any]]) -> bool:
    done = [event["item"] for event in of_type(events, "thread.item.done")]
    return done[-1]["type"] == "assistant_message" and done[-1]["content"][0]["text"] == "Hello, world"


async def create(visitor: Visitor) -> None:
    events = await visitor.say("Hello")
    assert events[0]["type"] == "thread.created"
    assert answered(events)


async def add_user_message(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    assert answered(await visitor.say("More", thread))
    assert [item["type"] for item in await visitor.items(thread)] == ["user_message", "assistant_message"] * 2


async def add_client_tool_output(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    call = ClientToolCallItem(
        id="ctc_1", thread_id=thread, created_at=clock.now(), call_id="c", name="cart", arguments={}
    )
    await put(visitor, call)
    assert answered(await visitor.events("threads.add_client_tool_output", thread_id=thread, result={"n": 2}))
    stored = (await visitor.items(thread))[2]
    assert (stored["status"], stored["output"]) == ("completed", {"n": 2})
    assert await visitor.refused("threads.add_client_tool_output", thread_id=thread, result=1) == (409, "wrong_item")


async def add_structured_input(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    question = StructuredInputFreeform(id="q", question="Which size?")
    await put(visitor, StructuredInputItem(id="sti_1", thread_id=thread, created_at=clock.now(), inputs=[question]))
    given = {"answers": {"q": {"values": ["42"]}, "unknown": {"values": ["x"]}}}
    params = {"thread_id": thread, "item_id": "sti_1"}
    too_much = {"answers": {"q": {"values": ["x"] * 1000}}}
    assert await visitor.refused("threads.add_structured_input", **params, input=too_much) == (422, "invalid_input")
    assert answered(await visitor.events("threads.add_structured_input", **params, input=given))
    stored = (await visitor.items(thread))[2]
    assert (stored["status"], stored["inputs"][0]["answer"]["values"]) == ("answered", ["42"])


async def retry_after_item(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    message, answer = await visitor.items(thread)
    await visitor.say("More", thread)
    assert answered(await visitor.events("threads.retry_after_item", thread_id=thread, item_id=message["id"]))
    left = await visitor.items(thread)
    assert [item["type"] for item in left] == ["user_message", "assistant_message"]
    assert left[1]["id"] != answer["id"]


async def custom_action(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    await put(visitor, WidgetItem(id="wdg_1", thread_id=thread, created_at=clock.now(), widget=parsed(CARD)))
    params = {"thread_id": thread, "item_id": "wdg_1"}
    assert answered(
        await visitor.events("threads.custom_action", **params, action={"type": "buy", "payload": {"id": 7}})
    )
    for wrong in ({"type": "sell", "payload": {"id": 7}}, {"type": "buy", "payload": {"id": 8}}, {"type": "buy"}):
        assert await visitor.refused("threads.custom_action", **params, action=wrong) == (409, "wrong_item")


async def sync_custom_action(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    await put(visitor, WidgetItem(id="wdg_1", thread_id=thread, created_at=clock.now(), widget=parsed(CARD)))
    params = {"thread_id": thread, "item_id": "wdg_1"}
    # No tool is behind it, so there is no new widget; the model will know of it.
    assert (
        await visitor.json("threads.sync_custom_action", **params, action={"type": "buy", "payload": {"id": 7}}) == {}
    )
    responder = visitor.platform.script()
    await visitor.say("And?", thread)
    assert any("buy" in str(getattr(item, "content", "")) for item in responder.histories[-1])
    assert await visitor.refused("threads.sync_custom_action", **params, action={"type": "x"}) == (409, "wrong_item")


async def get_by_id(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    found = await visitor.json("threads.get_by_id", thread_id=thread)
    assert found["title"] == "Hello"
    assert [item["type"] for item in found["items"]["data"]] == ["user_message", "assistant_message"]


async def list_threads(visitor: Visitor) -> None:
    made = [await conversation(visitor) for _ in range(3)]
    page = await visitor.json("threads.list", limit=2)
    rest = await visitor.json("threads.list", limit=2, after=page["after"])
    assert [each["id"] for each in page["data"] + rest["data"]] == made[::-1]


async def update(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    assert (await visitor.json("threads.update", thread_id=thread, title="New"))["title"] == "New"
    await visitor.say("More", thread)
    assert (await visitor.json("threads.get_by_id", thread_id=thread))["title"] == "New"


async def delete(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    assert await visitor.json("threads.delete", thread_id=thread) == {}
    assert await visitor.refused("threads.get_by_id", thread_id=thread) == (404, "not_found")


async def list_items(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    page = await visitor.json("items.list", thread_id=thread, order="asc", limit=1)
    rest = await visitor.json("items.list", thread_id=thread, order="asc", after=page["after"])
    assert [item["type"] for item in page["data"] + rest["data"]] == ["user_message", "assistant_message"]


async def feedback(visitor: Visitor) -> None:
    thread = await conversation(visitor)
    question, answer = await visitor.items(thread)
    params = {"thread_id": thread, "kind": "negative"}
    assert await visitor.json("items.feedback", **params, item_ids=[answer["id"]]) == {}
    for wrong, status, code in (
        ([question["id"]], 409, "wrong_item"),
        ([answer["id"], question["id"]], 409, "wrong_item"),
        (["msg_no"], 404, "not_found"),
    ):
        assert await visitor.refused("items.feedback", **params, item_ids=wrong) == (status, code)
    async with visitor.platform.services.database.tenant(visitor.caller.tenant_id) as session:
        found = await session.execute(
            text("select item_id, kind, agent_version from feedback where thread_id = :thread"), {"thread": thread}
        )
        assert found.all() == [(answer["id"], "negative", 1)]


async def create_attachment(visitor: Visitor) -> None:
    made = await visitor.json("attachments.create", name="a.txt", size=5, mime_type="text/plain")
    assert made["upload_descriptor"]["method"] == "PUT"


async def delete_attachment(visitor: Visitor) -> None:
    made = await visitor.json("attachments.create", name="a.txt", size=5, mime_type="text/plain")
    assert await visitor.json("attachments.delete", attachment_id=made["id"]) == {}


async def transcribe(visitor: Visitor) -> None:
    params = {"audio_base64": "aGk=", "mime_type": "audio/webm"}
    assert await visitor.refused("input.transcribe", **params) == (409, "not_offered")
    for not_base64 in ("aGk", "🎤"):
        garbled = params | {"audio_base64": not_base64}
        assert await visitor.refused("input.transcribe", **garbled) == (422, "invalid_input")


REQUESTS = {
    "threads.create": create,
    "threads.add_user_message": add_user_message,
    "threads.add_client_tool_output": add_client_tool_output,
    "threads.add_structured_input": add_structured_input,
    "threads.retry_after_item": retry_after_item,
    "threads.custom_action": custom_action,
    "threads.sync_custom_action": sync_custom_action,
    "threads.get_by_id": get_by_id,
    "threads.list": list_threads,
    "threads.update": update,
    "threads.delete": delete,
    "items.list": list_items,
    "items.feedback": feedback,
    "attachments.create": create_attachment,
    "attachments.delete": delete_attachment,
    "input.transcribe": transcribe,
}


def parsed(raw: dict[str, Any]) -> DynamicWidgetRoot:
    return DynamicWidgetRoot.model_validate(raw)


def test_no_request_is_left_out() -> None:
    assert set(REQUESTS) == UNION


@pytest.mark.parametrize("type_", REQUESTS)
async def test_the_request(visitor: Visitor, type_: str) -> None:
    await REQUESTS[type_](visitor)


async def test_forty_messages_at_once_leave_questions_and_answers_in_turn(platform: Platform, visitor: Visitor) -> None:
    thread = await conversation(visitor)
    platform.script(lambda made, new_id: speak(made, new_id("message"), ["a", "b"], pause=_breathe))
    answers = await asyncio.gather(*(visitor.send(**visitor.message(f"Message {n}", thread)) for n in range(40)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} <= {"thread_busy"}
    taken = sum(answer.status_code == 200 for answer in answers)
    assert taken >= 1
    items = await visitor.items(thread)
    assert [item["type"] for item in items] == ["user_message", "assistant_message"] * (taken + 1)


async def _breathe(_number: int) -> None:
    await asyncio.sleep(0)


async def test_a_message_withdraws_what_waited_for_the_visitor(platform: Platform, visitor: Visitor) -> None:
    thread = await conversation(visitor)
    made: dict[str, Any] = {"thread_id": thread, "created_at": clock.now()}
    await put(visitor, ClientToolCallItem(id="ctc_1", call_id="c", name="cart", arguments={}, **made))
    await put(visitor, StructuredInputItem(id="sti_1", inputs=[StructuredInputFreeform(id="q", question="?")], **made))
    responder = platform.script()
    events = await visitor.say("Never mind", thread)
    assert [event["item_id"] for event in of_type(events, "thread.item.removed")] == ["ctc_1"]
    assert [event["item"]["status"] for event in of_type(events, "thread.item.replaced")] == ["skipped"]
    left = await visitor.items(thread)
    assert [item["type"] for item in left] == ["user_message", "assistant_message", "structured_input", "user_message", "assistant_message"]  # fmt: skip
    assert left[2]["status"] == "skipped"
    assert [item.type for item in responder.histories[-1]] == ["user_message", "assistant_message", "structured_input", "user_message"]  # fmt: skip
    assert await visitor.refused("threads.add_client_tool_output", thread_id=thread, result=1) == (409, "wrong_item")


async def test_one_visitor_sees_with_each_agent_what_was_said_to_it(platform: Platform, agent: str) -> None:
    other = await platform.agent(name="Wren")
    anna, elsewhere = platform.visitor(agent, "usr_anna"), platform.visitor(other, "usr_anna")
    platform.script()
    answer = await anna.send(**anna.message("Hello"), headers={"Stonechat-Stream": "resumable"})
    run, thread = answer.headers["stonechat-run"], (await anna.json("threads.list"))["data"][0]["id"]
    item = (await anna.items(thread))[1]["id"]
    theirs = await conversation(elsewhere)
    assert [each["id"] for each in (await elsewhere.json("threads.list"))["data"]] == [theirs]
    for type_, params in {
        "threads.get_by_id": {},
        "items.list": {},
        "threads.update": {"title": "x"},
        "threads.delete": {},
        "items.feedback": {"item_ids": [item], "kind": "positive"},
        "threads.retry_after_item": {"item_id": item},
        "threads.add_user_message": {"input": anna.message("x")["input"]},
    }.items():
        assert await elsewhere.refused(type_, thread_id=thread, **params) == (404, "not_found"), type_
    events = await platform.http.get(
        f"/chatkit/runs/{run}/events", headers={"Authorization": f"Bearer {elsewhere.token}"}
    )
    assert events.status_code == 404
    assert [each["id"] for each in (await anna.json("threads.list"))["data"]] == [thread]


@pytest.mark.parametrize("chosen", [{"model": "acme/other"}, {"tool_choice": {"id": "show"}}])
async def test_what_the_agent_does_not_offer_cannot_be_chosen(visitor: Visitor, chosen: dict[str, Any]) -> None:
    """`show` is a tool of the agent, but not one that visitors may choose."""
    assert await visitor.refused(**visitor.message("Hello", **chosen)) == (422, "invalid_input")
    assert (await visitor.json("threads.list"))["data"] == []


@pytest.mark.parametrize("result", [{"big": "x" * 70_000}])
async def test_the_output_of_a_client_tool_is_bounded(visitor: Visitor, result: Any) -> None:
    thread = await conversation(visitor)
    call = ClientToolCallItem(id="c1", thread_id=thread, created_at=clock.now(), call_id="c", name="t", arguments={})
    await put(visitor, call)
    refused = await visitor.refused("threads.add_client_tool_output", thread_id=thread, result=result)
    assert refused == (422, "invalid_input")
    assert (await visitor.items(thread))[-1]["status"] == "pending"


async def test_a_lock_that_came_while_an_answer_was_written_stays(platform: Platform, visitor: Visitor) -> None:
    """Ending a first answer names the thread; that must not open it again, nor rename it."""
    gate = Gate(free=1)
    platform.script(lambda made, new_id: speak(made, new_id("message"), ["one ", "two"], pause=gate))
    asking = asyncio.create_task(visitor.say("Hello"))
    while not (threads := (await visitor.json("threads.list"))["data"]):
        await asyncio.sleep(0.01)
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await session.execute(
            text("""update threads set status = '{"type": "locked", "reason": "R"}', title = 'Mine'
                    where thread_id = :thread"""),
            {"thread": threads[0]["id"]},
        )
    gate.let(1)
    await asking
    found = await visitor.json("threads.get_by_id", thread_id=threads[0]["id"])
    assert (found["status"], found["title"]) == ({"type": "locked", "reason": "R"}, "Mine")


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "input_text", "text": "?"}] * 501,
        [{"type": "input_tag", "id": "t", "text": "tag", "data": {"all": "x" * 64_000}}],
    ],
)
async def test_a_message_hides_no_more_than_anybody_writes(visitor: Visitor, content: list[dict[str, Any]]) -> None:
    message = {"content": content, "attachments": [], "inference_options": {}}
    assert await visitor.refused("threads.create", input=message) == (422, "invalid_input")
    message["content"] = [{"type": "input_tag", "id": "t", "text": "tag", "data": {"all": "x" * 60_000}}]
    assert (await visitor.send("threads.create", input=message)).status_code == 200
