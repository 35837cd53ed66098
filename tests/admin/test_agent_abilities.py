"""What an agent can do, set by forms: each kind of tool whole and back, tried before it is saved, and kept from two hands."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from stonechat.accounts.secrets import open_secrets, put_secret
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat_admin.agent_tool_starts import STARTS
from support.console import Answer, Browser, ConsoleWorld, console_world
from support.console_forms import fields_of
from support.loopback import Loopback, plain, serve
from support.mcp_servers import library_server
from support.postgres import TestDatabase

JSON = {"Content-Type": "application/json"}
ORDER = {"order": {"state": "on its way", "lines": [{"name": "Tea"}]}, "margin": 40}
HTTP_TYPED = {
    "kind": "http",
    "name": "Order status",
    "description": "Looks an order up.",
    "offered_as": "My order",
    "method": "POST",
    "url": "https://shop.example/orders/{number}",
    "arguments_name": ["number", "express", "size", ""],
    "arguments_about": ["The number on the invoice", "", "", ""],
    "arguments_type": ["integer", "boolean", "string", "string"],
    "arguments_needed": ["yes", "no", "no", "yes"],
    "arguments_only": ["", "", "S, M", ""],
    "arguments_example": ["4711", "yes", "M", ""],
    "headers_name": ["X-Shop", ""],
    "headers_value": ["1", ""],
    "secret_headers_name": ["Authorization", ""],
    "secret_headers_secret": ["shop-key", ""],
    "result_name": ["", "first", ""],
    "result_path": ["order.state", "/order/lines/0/name", ""],
    "timeout_seconds": "5",
    "approval": "always",
}
HTTP_SAVED = {
    "kind": "http",
    "name": "order_status",
    "description": "Looks an order up.",
    "offered_as": "My order",
    "parameters": {
        "type": "object",
        "properties": {
            "number": {"type": "integer", "description": "The number on the invoice", "examples": [4711]},
            "express": {"type": "boolean", "examples": [True]},
            "size": {"type": "string", "enum": ["S", "M"], "examples": ["M"]},
        },
        "additionalProperties": False,
        "required": ["number"],
    },
    "method": "POST",
    "url": "https://shop.example/orders/{number}",
    "headers": {"X-Shop": "1"},
    "secret_headers": {"Authorization": "shop-key"},
    "result": {"state": "/order/state", "first": "/order/lines/0/name"},
    "timeout_seconds": 5.0,
    "approval": "always",
}
MCP_TYPED = {
    "kind": "mcp",
    "name": "tickets",
    "url": "https://tools.example/mcp",
    "secret_headers_name": ["X-Key"],
    "secret_headers_secret": ["shop-key"],
    "allowed": ["find_ticket"],
    "allowed_more": "close_ticket, find_ticket",
    "approval": "changes",
    "timeout_seconds": "9,5",
}
MCP_SAVED = {
    "kind": "mcp",
    "name": "tickets",
    "url": "https://tools.example/mcp",
    "secret_headers": {"X-Key": "shop-key"},
    "allowed": ["find_ticket", "close_ticket"],
    "approval": "changes",
    "timeout_seconds": 9.5,
}
CLIENT_TYPED = {
    "kind": "client",
    "name": "put_into_basket",
    "description": "Puts an article into the basket.",
    "arguments_name": ["article"],
    "arguments_about": [""],
    "arguments_type": ["strings"],
    "arguments_needed": ["yes"],
    "arguments_only": [""],
    "arguments_example": [""],
}
CLIENT_SAVED = {
    "kind": "client",
    "name": "put_into_basket",
    "description": "Puts an article into the basket.",
    "offered_as": "",
    "parameters": {
        "type": "object",
        "properties": {"article": {"type": "array", "items": {"type": "string"}}},
        "additionalProperties": False,
        "required": ["article"],
    },
}


@pytest.fixture(scope="module")
async def shop(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    """A console from which services on this machine may be asked."""
    folder = tmp_path_factory.mktemp("abilities")
    async with console_world(test_database.web_url, folder, outbound_allowed=("127.0.0.0/8",)) as world:
        yield world


async def make(world: ConsoleWorld, *tools: dict[str, Any], **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Wren", "tools": tools} | config)


async def tools_of(world: ConsoleWorld, agent: AgentView) -> list[dict[str, Any]]:
    async with world.services.database.tenant(world.tenant_id) as session:
        found = await agents.get_agent(session, world.actor, agent_id=agent.id)
    tools: list[dict[str, Any]] = found.draft.as_json()["tools"]
    return tools


def at(agent: AgentView, path: str = "") -> str:
    return f"/console/agents/{agent.id}/abilities{path}"


@pytest.mark.parametrize(
    ("typed", "saved"),
    [(HTTP_TYPED, HTTP_SAVED), (MCP_TYPED, MCP_SAVED), (CLIENT_TYPED, CLIENT_SAVED)],
    ids=["http", "mcp", "client"],
)
async def test_every_kind_of_tool_is_set_and_shown_again(
    world: ConsoleWorld, typed: dict[str, Any], saved: dict[str, Any]
) -> None:
    agent, editor = await make(world), await world.signed_in("editor")
    assert (await editor.page(at(agent, f"/new?kind={typed['kind']}"))).all("#agent-form")
    answer = await editor.htmx("POST", at(agent, "/new"), typed | {"revision": "1"})
    assert answer.response.headers["hx-redirect"] == at(agent)
    assert await tools_of(world, agent) == [saved]
    listed = await editor.page(at(agent))
    assert str(saved["name"]) in listed.one(f"#tool-{saved['name']}").text()
    await saving_changes_nothing(world, editor, agent, str(saved["name"]))


async def saving_changes_nothing(world: ConsoleWorld, editor: Browser, agent: AgentView, name: str) -> None:
    before = await tools_of(world, agent)
    path = at(agent, f"/tools/{name}")
    await editor.htmx("POST", path, fields_of(await editor.page(path)))
    assert await tools_of(world, agent) == before


@pytest.mark.parametrize("start", STARTS)
async def test_a_widget_begins_with_one_that_works(world: ConsoleWorld, start: str) -> None:
    agent, editor = await make(world), await world.signed_in("editor")
    typed = fields_of(await editor.page(at(agent, f"/new?kind=widget&start={start}")))
    await editor.htmx("POST", at(agent, "/new"), typed)
    assert (await tools_of(world, agent))[0]["template"] == STARTS[start].template
    await saving_changes_nothing(world, editor, agent, str(STARTS[start].values["name"]))


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "string", "minLength": 2}}},
        {"type": "object", "properties": {"a": {"type": "string", "enum": ["x, y"]}}, "additionalProperties": True},
        {"type": "object", "properties": {"a": {"type": "number", "examples": [1.5]}}, "required": ["a"]},
        {"type": "object", "properties": {"a": {"type": "integer", "examples": ["1"]}}},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "null"}}}}},
    ],
)
async def test_no_schema_is_lost_in_the_form(world: ConsoleWorld, parameters: dict[str, Any]) -> None:
    agent, editor = await make(world, CLIENT_SAVED | {"parameters": parameters}), await world.signed_in("editor")
    await saving_changes_nothing(world, editor, agent, "put_into_basket")


@pytest.mark.parametrize(
    ("wrong", "where", "sentence"),
    [
        ({"name": "!"}, "name", "begins with a letter"),
        ({"name": "hand over"}, "", "is the name of a built-in tool"),
        ({"description": ""}, "description", "what it does"),
        ({"url": "shop.example/orders"}, "url", "https://"),
        ({"url": "https://shop.example/{nothing}"}, "url", "not among the parameters"),
        ({"url": "https://{number}.example/"}, "url", "host"),
        ({"arguments_name": ["order number", "", "", ""]}, "arguments", "Row 1"),
        ({"arguments_example": ["many", "", "", ""]}, "arguments", "no value that “number” can have"),
        ({"schema": "{no"}, "schema", "line 1"),
        ({"schema": '{"type": "array"}'}, "schema", "object"),
        ({"secret_headers_secret": ["", ""]}, "secret_headers", "a secret"),
        ({"headers_name": ["Cookie", ""]}, "headers", "set by the platform"),
        ({"headers_name": ["X Shop", ""]}, "headers", "hyphens"),
        ({"result_name": ["1", "first", ""]}, "result", "small letters"),
        ({"timeout_seconds": ""}, "timeout_seconds", "from 1 to 30"),
        ({"approval": "maybe"}, "approval", "Choose one"),
    ],
)
async def test_what_is_not_valid_is_said_in_a_sentence_and_nothing_is_lost(
    world: ConsoleWorld, wrong: dict[str, Any], where: str, sentence: str
) -> None:
    agent, editor = await make(world), await world.signed_in("editor")
    typed = HTTP_TYPED | {"revision": "1", "headers_value": ["What I typed", ""]} | wrong
    answer = await editor.htmx("POST", at(agent, "/new"), typed, status=422)
    told = answer.one(f"#{where}-error") if where else answer.one("[role=alert]")
    assert sentence in told.text()
    assert "What I typed" in answer.response.text
    assert await tools_of(world, agent) == []
    plain_form = await editor.submit(at(agent, "/new"), typed, status=422)
    assert plain_form.all("main #agent-form")


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{", "not valid JSON"),
        ("[]", "begins with {"),
        ('{"type": "Window"}', "Card, ListView or Basic"),
        ('{"type": "Card", "children": []}', "no action of the type"),
    ],
)
async def test_a_template_that_is_no_widget_is_refused_in_a_sentence(
    world: ConsoleWorld, template: str, sentence: str
) -> None:
    agent, editor = await make(world, HTTP_SAVED), await world.signed_in("editor")
    typed = {"kind": "widget", "name": "card", "description": "x", "template": template, "revision": "1"}
    typed |= {"actions_type": "return.send", "actions_tool": "order_status"}
    answer = await editor.htmx("POST", at(agent, "/new"), typed, status=422)
    assert sentence in answer.text
    assert len(await tools_of(world, agent)) == 1


async def test_a_renamed_tool_is_still_what_a_button_runs_and_is_not_taken_away(world: ConsoleWorld) -> None:
    button = {"type": "Button", "label": "Go", "onClickAction": {"type": "go"}}
    widget = {
        "kind": "widget",
        "name": "card",
        "description": "x",
        "template": {"type": "Card", "children": [button]},
        "actions": {"go": "order_status"},
    }
    agent, editor = await make(world, HTTP_SAVED, widget), await world.signed_in("editor")
    typed = fields_of(await editor.page(at(agent, "/tools/order_status")))
    await editor.htmx("POST", at(agent, "/tools/order_status"), typed | {"name": "Order"})
    assert (await tools_of(world, agent))[1]["actions"] == {"go": "order"}
    refused = await editor.htmx("POST", at(agent, "/tools/order/remove"), {"revision": "2"}, status=409)
    assert refused.toast == "A button of “card” runs it. Change that first."
    await editor.submit(at(agent, "/tools/card/remove"), {"revision": "2"})
    await editor.submit(at(agent, "/tools/order/remove"), {"revision": "3"})
    assert await tools_of(world, agent) == []


async def test_the_second_of_two_editors_is_shown_what_saving_would_undo(world: ConsoleWorld) -> None:
    agent, editor = await make(world, HTTP_SAVED), await world.signed_in("editor")
    path = at(agent, "/tools/order_status")
    mine = fields_of(await editor.page(path))
    await editor.htmx("POST", path, mine | {"description": "Theirs."})
    answer = await editor.htmx("POST", path, mine | {"description": "Mine."}, status=422)
    assert "Someone else changed this agent meanwhile" in answer.one("[role=alert]").text()
    assert answer.one("#description").text(strip=True) == "Mine."
    again = fields_of(answer)
    await editor.htmx("POST", path, again)
    assert (await tools_of(world, agent))[0]["description"] == "Mine."
    await editor.htmx("POST", at(agent, "/tools/order_status/remove"), {"revision": "1"}, status=409)


async def test_asking_and_handing_over_are_switched_on(world: ConsoleWorld) -> None:
    agent, editor = await make(world), await world.signed_in("editor")
    typed = {"ask": "on", "hand_over": "on", "message": "One moment.", "waiting": "Soon.", "revision": "1"}
    answer = await editor.htmx("POST", at(agent), typed)
    assert answer.toast.startswith("Saved.")
    async with world.services.database.tenant(world.tenant_id) as session:
        draft = (await agents.get_agent(session, world.actor, agent_id=agent.id)).draft
    assert draft.ask
    assert draft.hand_over.model_dump() == {"enabled": True, "message": "One moment.", "waiting": "Soon."}
    wrong = await editor.htmx("POST", at(agent), typed | {"message": "", "revision": "2"}, status=422)
    assert "up to 500" in wrong.one("#message-error").text()


# Asking before saving


async def tried(browser: Browser, agent: AgentView, server: Loopback, **typed: Any) -> Answer:
    form = HTTP_TYPED | {"revision": "1", "url": f"{server.url}/orders/{{number}}", "secret_headers_name": []}
    form["secret_headers_secret"] = []
    return await browser.htmx("POST", at(agent, "/try"), form | typed)


async def test_trying_a_tool_shows_what_the_model_would_read(shop: ConsoleWorld) -> None:
    agent, editor = await make(shop), await shop.signed_in("editor")
    async with serve(plain(json.dumps(ORDER).encode(), headers=JSON)) as server:
        answer = await tried(editor, agent, server)
        whole = await tried(editor, agent, server, result_name=[], result_path=[])
    assert (server.requests[0].method, server.requests[0].path) == ("POST", "/orders/4711")
    assert json.loads(server.requests[0].body) == {"express": True, "size": "M"}
    read = json.loads(answer.one("pre.code").text())
    assert read["result"] == {"state": "on its way", "first": "Tea"}
    assert json.loads(whole.one("pre.code").text())["result"] == ORDER
    assert [box.attributes["value"] for box in whole.all("input[name=part]")] == [
        "/order/state",
        "/order/lines",
        "/order/lines/0/name",
        "/margin",
    ]
    assert fields_of(answer)["name"] == "Order status"
    assert await tools_of(shop, agent) == []
    kept = fields_of(whole) | {"part": ["/order/state", "/margin"], "url": "https://shop.example/{number}"}
    await editor.htmx("POST", at(agent, "/new"), kept)
    assert (await tools_of(shop, agent))[0]["result"] == {"state": "/order/state", "margin": "/margin"}


async def test_what_went_wrong_in_a_trial_is_said(shop: ConsoleWorld) -> None:
    agent, editor = await make(shop), await shop.signed_in("editor")
    async with serve(plain(b"no such order", status=404, headers={"Content-Type": "text/plain"})) as server:
        failed = await tried(editor, agent, server)
        assert "It did not work" in failed.text
        assert "404" in failed.one("pre.code").text()
        asked = len(server.requests)
        nothing = await tried(editor, agent, server, arguments_example=["", "", "", ""])
        assert "Give an example for each argument that is always needed: number." in nothing.text
        missing = await tried(editor, agent, server, secret_headers_name=["X-Key"], secret_headers_secret=["not-there"])
        assert "There is no secret called “not-there”." in missing.text
        wrong = await tried(editor, agent, server, timeout_seconds="x")
        assert "not right yet" in wrong.text
        assert wrong.all("#timeout_seconds-error")
        assert len(server.requests) == asked
    elsewhere = await tried(editor, agent, server, url="http://10.0.0.1/{number}")
    assert "It did not work" in elsewhere.text


async def test_a_trial_sends_secrets_and_shows_none(shop: ConsoleWorld) -> None:
    agent, editor, name = await make(shop), await shop.signed_in("editor"), f"k{uuid4().hex[:8]}"
    async with shop.services.database.tenant(shop.tenant_id) as session:
        await put_secret(session, shop.actor, keyring=shop.services.keyring, name=name, value="bearer abcdefgh")
    async with serve(plain(b'{"you_sent": "bearer abcdefgh"}', headers=JSON)) as server:
        headers = {"secret_headers_name": ["Authorization"], "secret_headers_secret": [name]}
        answer = await tried(editor, agent, server, result_name=[], result_path=[], **headers)
    assert server.requests[0].headers["authorization"].lower() == "bearer abcdefgh"
    assert "abcdefgh" not in answer.response.text
    assert "[hidden]" in answer.text


async def test_a_server_of_tools_is_asked_what_it_offers(shop: ConsoleWorld) -> None:
    agent, editor = await make(shop), await shop.signed_in("editor")
    async with library_server() as url:
        typed = {"kind": "mcp", "name": "", "url": url, "revision": "1", "allowed": ["gone"]}
        answer = await editor.htmx(
            "POST", at(agent, "/offers"), typed | {"timeout_seconds": "9", "approval": "changes"}
        )
    assert [box.attributes["value"] for box in answer.all("input[name=allowed]")] == [
        "find_ticket",
        "close_ticket",
        "internal_margin",
        "gone",
    ]
    assert "not offered any more" in answer.text
    assert "Finds a ticket by its number." in answer.text
    silent = typed | {"url": "http://127.0.0.1:9/mcp", "timeout_seconds": "2", "approval": "changes"}
    refused = await editor.submit(at(agent, "/offers"), silent, status=200)
    assert "could not be reached" in refused.one("main [role=status] .field-error").text()
    assert "gone" in refused.text


async def test_a_new_secret_is_kept_without_leaving_the_form(world: ConsoleWorld) -> None:
    agent, editor, name = await make(world), await world.signed_in("editor"), f"k{uuid4().hex[:8]}"
    typed = HTTP_TYPED | {"revision": "1", "secret_headers_name": ["X-Key"], "secret_headers_secret": [""]}
    new = {"new_secret_name": name, "new_secret_value": "the-value-itself"}
    answer = await editor.htmx("POST", at(agent, "/secret"), typed | new)
    assert "the-value-itself" not in answer.response.text
    sent = fields_of(answer)
    assert sent["secret_headers_secret"] == [name, ""]
    async with world.services.database.tenant(world.tenant_id) as session:
        kept = await open_secrets(session, world.tenant_id, keyring=world.services.keyring, names=[name])
    assert kept[name].value == "the-value-itself"
    twice = await editor.htmx("POST", at(agent, "/secret"), typed | new | {"new_secret_value": "another"})
    assert "There is a secret of this name already" in twice.one("#new_secret_name-error").text()
    await editor.htmx("POST", at(agent, "/new"), sent)
    assert (await tools_of(world, agent))[0]["secret_headers"] == {"X-Key": name}


async def test_only_editors_make_and_try_tools(world: ConsoleWorld) -> None:
    agent, viewer = await make(world, HTTP_SAVED), await world.signed_in("viewer")
    page = await viewer.page(at(agent, "/tools/order_status"))
    assert "disabled" in page.one("#agent-form > fieldset").attributes
    assert not page.all("[formaction]")
    for path in ("/new", "/tools/order_status", "/tools/order_status/remove", "/try", "/offers", "/secret"):
        await viewer.htmx("POST", at(agent, path), HTTP_TYPED | {"revision": "1"}, status=403)
    assert await tools_of(world, agent) == [HTTP_SAVED]
