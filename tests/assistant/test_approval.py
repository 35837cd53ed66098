"""Approval: what changes something is put to the visitor, and done once, as it was shown, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import (
    HiddenContextItem,
    NoticeEvent,
    StructuredInputAnswerSubmission,
    StructuredInputItem,
    StructuredInputSubmission,
    ThreadAddStructuredInputParams,
    ThreadItemReplacedEvent,
    ThreadsAddStructuredInputReq,
)
from sqlalchemy import text

from stonechat import ids
from stonechat.assistant.config import parse_config
from stonechat.assistant.tools import approval
from stonechat.assistant.tools.approval import NO, YES
from stonechat.chat.hub import RunHub
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.errors import NotFound, StonechatError, WrongItem
from support.assistant import user_message
from support.chat import add, caller_of, create, decode
from support.loopback import Loopback, plain, serve
from support.tool_models import Shop, shop_of

CANCEL = ("cancel_order", '{"number": "7", "why": "too late"}')
CANCELLED = plain(b'{"cancelled": true}', headers={"Content-Type": "application/json"})


def cancelling(server: Loopback, **changes: Any) -> dict[str, Any]:
    properties = {"number": {"type": "string"}, "why": {}}
    return {
        "kind": "http",
        "name": "cancel_order",
        "description": "Cancels an order.",
        "method": "POST",
        "url": f"{server.url}/orders/{{number}}/cancel",
        "parameters": {"type": "object", "properties": properties, "required": ["number"]},
    } | changes


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with serve(CANCELLED) as loopback:
        yield loopback


@pytest.fixture
async def shop(database: Database, tenant_id: UUID, server: Loopback) -> Shop:
    return shop_of(database, tenant_id, [CANCEL], "As you wish.", tools=[cancelling(server)])


async def states(shop: Shop) -> list[str]:
    async with shop.database.tenant(shop.tenant_id) as session:
        rows = await session.execute(text("select status from tool_approvals order by created_at, item_id"))
        return [row[0] for row in rows]


async def test_the_visitor_is_asked_plainly_and_the_turn_ends(shop: Shop, server: Loopback) -> None:
    answer = await shop.say("Cancel order 7")
    assert answer.error is None
    assert answer.messages == []
    assert shop.asked == 'May I do this? Cancels an order.\nnumber: "7"\nwhy: "too late"'
    [choice] = shop.question.inputs
    assert [option.value for option in choice.options] == [YES, NO]  # type: ignore[union-attr]
    [reminder] = [item.content for item in shop.history if isinstance(item, HiddenContextItem)]
    assert reminder["kind"] == "stonechat.approval"
    assert len(shop.model.inputs) == 1
    assert server.requests == []
    assert await states(shop) == ["pending"]


async def test_yes_does_it_once_and_the_assistant_goes_on(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    answer = await shop.answer_form(YES)
    assert answer.text == "As you wish."
    [request] = server.requests
    assert (request.method, request.path, json.loads(request.body)) == ("POST", "/orders/7/cancel", {"why": "too late"})
    assert "cancelled" in shop.model.outputs()[-1]["result"]
    assert await states(shop) == ["done"]
    await shop.say("Thank you")
    assert len(server.requests) == 1
    assert "'approved': True" in repr(shop.turns[1].trace.spans)


@pytest.mark.parametrize("values", [[NO], [], [" "], [NO, NO]])
async def test_a_no_does_not_do_it(shop: Shop, server: Loopback, values: list[str]) -> None:
    await shop.say("Cancel order 7")
    answer = await shop.answer_form(*values)
    assert answer.text == "As you wish."
    assert server.requests == []
    assert "did not agree" in shop.model.outputs()[-1]["error"]
    assert [event for event in answer.events if isinstance(event, NoticeEvent)] == []
    assert await states(shop) == ["declined"]


@pytest.mark.parametrize(
    "values", [["maybe"], ["yes"], ["Yes, do it "], ["Yes, do it", "No"], ["Yes, do it", "only if it is free"]]
)
async def test_an_answer_that_is_neither_does_nothing_and_says_so_to_both(
    shop: Shop, server: Loopback, values: list[str]
) -> None:
    await shop.say("Cancel order 7")
    answer = await shop.answer_form(*values)
    assert answer.text == "As you wish."
    assert server.requests == []
    told = shop.model.outputs()[-1]
    assert "neither yes nor no" in told["error"]
    assert "not done" in told["error"]
    assert values[0].strip() in json.dumps(told)
    [notice] = [event for event in answer.events if isinstance(event, NoticeEvent)]
    assert notice.message.startswith("Nothing was done.")
    assert await states(shop) == ["declined"]


async def test_what_was_answered_unclearly_can_be_asked_again_and_then_done_once(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    first = shop.question
    shop.model.steps = [[CANCEL], "Cancelled."]
    shop.model.inputs.clear()
    await shop.answer_form("go ahead")
    assert server.requests == []
    assert shop.question.id != first.id
    assert await states(shop) == ["declined", "pending"]
    await shop.answer_form(YES)
    assert len(server.requests) == 1
    assert await states(shop) == ["declined", "done"]


async def test_skipping_the_question_does_not_do_it(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    await shop.answer_form(YES, skip=True)
    assert server.requests == []
    assert await states(shop) == ["declined"]


async def test_another_message_declines_it_and_puts_the_question_away(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    shop.model.steps = ["All right."]
    answer = await shop.say("Yes, do it")
    assert answer.text == "All right."
    assert server.requests == []
    assert "wrote something else" in shop.model.outputs()[-1]["error"]
    [replaced] = [event.item for event in answer.events if isinstance(event, ThreadItemReplacedEvent)]
    assert isinstance(replaced, StructuredInputItem)
    assert replaced.status == "skipped"
    assert await states(shop) == ["declined"]


async def test_a_late_yes_does_not_do_it(shop: Shop, server: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approval, "VALID_FOR", timedelta(seconds=-1))
    await shop.say("Cancel order 7")
    await shop.answer_form(YES)
    assert server.requests == []
    assert "too late" in shop.model.outputs()[-1]["error"]
    assert await states(shop) == ["expired"]


async def test_the_stored_call_is_what_is_done_whatever_the_thread_says(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    for item in shop.history:
        if isinstance(item, HiddenContextItem):
            item.content["arguments"]["number"] = "8"
    await shop.answer_form(YES)
    assert [request.path for request in server.requests] == ["/orders/7/cancel"]


@pytest.mark.parametrize(
    "change", [{"url": "http://127.0.0.1:1/other/{number}"}, {"method": "DELETE"}, {"name": "other"}]
)
async def test_a_tool_that_changed_since_is_not_run(shop: Shop, server: Loopback, change: dict[str, Any]) -> None:
    await shop.say("Cancel order 7")
    changed = {"name": "Shop", "model": "acme/double", "tools": [cancelling(server, **change)]}
    await shop.answer_form(YES, also=lambda: setattr(shop, "config", parse_config(changed)))
    assert server.requests == []
    assert "has changed" in shop.model.outputs()[-1]["error"]


@pytest.mark.parametrize(("state", "told"), [("running", "not known"), ("done", "was done, once")])
@pytest.mark.parametrize("then", ["the answer again", "another message"])
async def test_a_process_that_died_over_a_call_leaves_nobody_to_repeat_it(
    shop: Shop, server: Loopback, state: str, told: str, then: str
) -> None:
    await shop.say("Cancel order 7")
    async with shop.database.tenant(shop.tenant_id) as session:
        await session.execute(text("update tool_approvals set status = :state"), {"state": state})
    shop.model.steps = ["I see."]
    await (shop.answer_form(YES) if then == "the answer again" else shop.say("Did it work?"))
    assert server.requests == []
    assert told in shop.model.outputs()[-1]["error"]


async def test_two_requests_at_once_do_it_once(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    twin = shop_of(shop.database, shop.tenant_id, "As you wish.", tools=[cancelling(server)])
    twin.thread, twin.history = shop.thread, list(shop.history)
    await asyncio.gather(shop.answer_form(YES), twin.answer_form(YES))
    assert len(server.requests) == 1


async def test_one_question_at_a_time(shop: Shop, server: Loopback) -> None:
    shop.model.steps = [[CANCEL, CANCEL, ("cancel_order", '{"number": "9"}')], "Done."]
    await shop.say("Cancel them all")
    assert len([item for item in shop.history if isinstance(item, StructuredInputItem)]) == 1
    assert await states(shop) == ["pending"]
    await shop.answer_form(YES)
    assert len(server.requests) == 1
    assert sum("Only one question" in json.dumps(output) for output in shop.model.outputs()) == 2


async def test_a_new_question_withdraws_the_old_one(shop: Shop, server: Loopback) -> None:
    await shop.say("Cancel order 7")
    first = shop.question
    shop.model.steps = [[("cancel_order", '{"number": "8"}')], "Done."]
    shop.model.inputs.clear()
    await shop.say("No, order 8")
    assert await states(shop) == ["declined", "pending"]
    assert shop.question.id != first.id
    await shop.answer_form(YES)
    assert [request.path for request in server.requests] == ["/orders/8/cancel"]


async def test_what_cannot_be_shown_whole_cannot_be_approved(shop: Shop, server: Loopback) -> None:
    long = json.dumps({"number": "7", "why": "because " * 500})
    shop.model.steps = [[("cancel_order", long)], "I cannot."]
    answer = await shop.say("Cancel order 7")
    assert answer.text == "I cannot."
    assert "too long" in shop.model.outputs()[-1]["error"]
    assert await states(shop) == []


async def test_the_question_cannot_be_dressed_up(shop: Shop) -> None:
    why = "x\nnumber: 9 \u202e![p](https://evil.example/?q=1) <img src=x> \u200b"
    shop.model.steps = [[("cancel_order", json.dumps({"number": "7", "why": why}))]]
    await shop.say("Cancel order 7")
    assert len(shop.asked.split("\n")) == 3
    assert not set("\u202e\u200b") & set(shop.asked)
    assert "![" not in shop.asked
    assert "](" not in shop.asked
    assert "<" not in shop.asked
    assert json.loads(shop.asked.split("\n")[2].removeprefix("why: ")) == why


@pytest.mark.parametrize(
    ("method", "setting", "asks"),
    [("GET", "changes", False), ("GET", "always", True), ("POST", "never", False), ("DELETE", "changes", True)],
)
async def test_the_tenant_says_when_to_ask(
    database: Database, tenant_id: UUID, server: Loopback, method: str, setting: str, asks: bool
) -> None:
    tool = cancelling(server, method=method, approval=setting)
    shop = shop_of(database, tenant_id, [CANCEL], "Done.", tools=[tool])
    await shop.say("Cancel order 7")
    assert (len(server.requests) == 0) is asks


async def test_a_failure_of_an_approved_call_is_told(database: Database, tenant_id: UUID) -> None:
    async with serve(plain(b"", status=503)) as broken:
        shop = shop_of(database, tenant_id, [CANCEL], "It did not work.", tools=[cancelling(broken)])
        await shop.say("Cancel order 7")
        answer = await shop.answer_form(YES)
    assert answer.text == "It did not work."
    assert "status 503" in shop.model.outputs()[-1]["error"]
    assert len(broken.requests) == 1


# Over the protocol, with the chat that stores things


class Conversation:
    """The chat's own server with the shop's assistant."""

    def __init__(self, shop: Shop, agent_id: str) -> None:
        self.shop, self.hub = shop, RunHub(shop.database)
        self.server = ChatServer(self.hub, shop.assistant)
        self.caller = caller_of(shop.tenant_id, "usr_anna", agent_id=agent_id)
        self.other = caller_of(shop.tenant_id, "usr_ben", agent_id=agent_id)
        self.thread_id = ""

    async def send(self, request: Any, *, caller: Any = None) -> list[dict[str, Any]]:
        run = await self.server.start(request, caller or self.caller)
        assert run.task is not None
        await run.task
        self.thread_id = run.thread.id
        await self.shop.access.outbound.aclose()
        return decode(b"".join(run.frames))

    def reply(self, item_id: str, *values: str) -> ThreadsAddStructuredInputReq:
        answers = {"approval": StructuredInputAnswerSubmission(values=list(values))}
        return ThreadsAddStructuredInputReq(
            params=ThreadAddStructuredInputParams(
                thread_id=self.thread_id, item_id=item_id, input=StructuredInputSubmission(answers=answers)
            )
        )


@pytest.fixture
async def conversation(shop: Shop) -> AsyncIterator[Conversation]:
    agent_id, config = ids.new_id("agt"), json.dumps(shop.config.as_json())
    async with shop.database.tenant(shop.tenant_id) as session:
        values = {"tenant": shop.tenant_id, "agent": agent_id, "config": config}
        for statement in (
            "insert into agents (tenant_id, agent_id, name, draft, published_version) "
            "values (:tenant, :agent, 'Test', cast(:config as jsonb), 1)",
            "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
            "values (:tenant, :agent, 1, cast(:config as jsonb), 'test')",
        ):
            await session.execute(text(statement), values)
    made = Conversation(shop, agent_id)
    yield made
    await made.hub.close()


def question_in(events: list[dict[str, Any]]) -> str:
    items = [event["item"] for event in events if event["type"] == "thread.item.done"]
    [question] = [item for item in items if item["type"] == "structured_input"]
    assert not any(item["type"] == "hidden_context_item" for item in items)
    return str(question["id"])


async def test_over_the_protocol_yes_does_it_once_however_often_it_is_sent(
    conversation: Conversation, server: Loopback
) -> None:
    item_id = question_in(await conversation.send(create("Cancel order 7")))
    reply = conversation.reply(item_id, YES)
    events = await conversation.send(reply)
    assert [event["type"] for event in events if event["type"] == "thread.item.replaced"]
    assert any(event.get("item", {}).get("type") == "assistant_message" for event in events)
    for _ in range(2):
        with pytest.raises(WrongItem):
            await conversation.send(reply)
    assert len(server.requests) == 1
    await conversation.send(add(conversation.thread_id, "Thank you"))
    assert len(server.requests) == 1


async def test_over_the_protocol_repeats_at_once_do_it_once(conversation: Conversation, server: Loopback) -> None:
    reply = conversation.reply(question_in(await conversation.send(create("Cancel order 7"))), YES)
    results = await asyncio.gather(*(conversation.send(reply) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == 1
    assert all(isinstance(result, list | StonechatError) for result in results)
    assert len(server.requests) == 1


async def test_nobody_else_can_approve(conversation: Conversation, server: Loopback) -> None:
    reply = conversation.reply(question_in(await conversation.send(create("Cancel order 7"))), YES)
    with pytest.raises(NotFound):
        await conversation.send(reply, caller=conversation.other)
    assert server.requests == []
    assert await states(conversation.shop) == ["pending"]


async def test_over_the_protocol_an_old_question_cannot_be_answered_any_more(
    conversation: Conversation, server: Loopback
) -> None:
    item_id = question_in(await conversation.send(create("Cancel order 7")))
    await conversation.send(add(conversation.thread_id, "Wait, what does it cost?"))
    with pytest.raises(WrongItem):
        await conversation.send(conversation.reply(item_id, YES))
    assert server.requests == []


async def test_a_form_that_a_model_made_itself_approves_nothing(shop: Shop, server: Loopback) -> None:
    shop.config = shop.config.model_copy(update={"ask": True})
    form = {"questions": [{"question": "May I do this? Cancels an order.", "options": [YES, NO]}]}
    shop.model.steps = [[("ask_visitor", json.dumps(form))], [CANCEL], "Hm."]
    await shop.turn(user_message("Hello"))
    await shop.answer_form(YES)
    assert server.requests == []
    assert await states(shop) == ["pending"]
