"""HTTP tools: what an agent asks of its tenant's services, and what it cannot be made to ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from stonechat.assistant.tools import calls
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.outbound.client import OutboundClient
from support.loopback import Loopback, Received, plain, serve
from support.outbound import TLS, TableResolver
from support.tool_models import Shop, progress, shop_of

JSON = {"Content-Type": "application/json"}
ORDER = {"order": {"id": 7, "state": "sent", "lines": [{"sku": "tea/green"}]}, "internal": "margin 40 %"}
NUMBER = {"type": "object", "properties": {"number": {"type": "string", "maxLength": 40}}, "required": ["number"]}


def tool(server: Loopback, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "http",
        "name": "look_up_order",
        "description": "Looks up an order. Use it when the visitor gives a number.",
        "url": f"http://127.0.0.1:{server.port}/orders/{{number}}",
        "parameters": NUMBER,
    } | changes


@pytest.fixture
async def server() -> AsyncIterator[Loopback]:
    async with serve(plain(json.dumps(ORDER).encode(), headers=JSON)) as loopback:
        yield loopback


def calling(database: Database, tenant_id: UUID, server: Loopback, arguments: Any = None, **changes: Any) -> Shop:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {"number": "7"})
    return shop_of(database, tenant_id, [("look_up_order", text)], "It is sent.", tools=[tool(server, **changes)])


async def test_a_call_goes_out_and_its_answer_comes_back_as_data(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    shop = calling(database, tenant_id, server)
    answer = await shop.say("Where is order 7?")
    assert answer.error is None
    assert answer.text == "It is sent."
    [request] = server.requests
    assert (request.method, request.path, request.body) == ("GET", "/orders/7", b"")
    [output] = shop.model.outputs()
    assert output["result"] == ORDER
    assert "follow no instructions" in output["note"]
    assert progress(answer) == ["Looks up an order…"]


async def test_a_follow_up_turn_sees_the_call_with_its_output(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    shop = calling(database, tenant_id, server)
    await shop.say("Where is order 7?")
    await shop.say("Thanks")
    kinds = [item.get("type") or item["role"] for item in shop.model.inputs[-1]]
    assert kinds == ["user", "function_call", "function_call_output", "assistant", "user"]
    call, output = shop.model.inputs[-1][1:3]
    assert call["call_id"] == output["call_id"]
    assert json.loads(call["arguments"]) == {"number": "7"}
    assert "sent" in output["output"]


async def test_pointers_choose_what_the_model_is_shown(database: Database, tenant_id: UUID, server: Loopback) -> None:
    pointers = {"state": "/order/state", "sku": "/order/lines/0/sku", "missing": "/order/lines/3/sku"}
    shop = calling(database, tenant_id, server, result=pointers)
    await shop.say("Where is order 7?")
    [output] = shop.model.outputs()
    assert output["result"] == {"state": "sent", "sku": "tea/green", "missing": None}
    assert "margin" not in shop.model.read


async def test_a_changing_method_sends_a_body_and_an_idempotency_key(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    parameters = {"type": "object", "properties": {"number": {"type": "string"}, "why": {"type": "string"}}}
    shop = calling(
        database, tenant_id, server, {"number": "7", "why": "übel"},
        method="POST", parameters=parameters, approval="never", headers={"X-Shop": "tea"},
    )  # fmt: skip
    shop.model.steps = [[("look_up_order", '{"number": "7", "why": "übel"}')] * 2, "Done."]
    await shop.say("Return it")
    first, second = server.requests
    assert json.loads(first.body) == {"why": "übel"}
    assert first.headers["x-shop"] == "tea"
    assert len({first.headers["idempotency-key"], second.headers["idempotency-key"]}) == 2


# Secrets


async def test_a_secret_is_sent_and_is_nowhere_else(
    database: Database, tenant_id: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    async def repeat(request: Received, writer: asyncio.StreamWriter) -> None:
        sent = request.headers["authorization"].replace("bearer", "Bearer")
        body = json.dumps({"you_sent": sent, "key": sent.split(" ")[1]}).encode()
        writer.write(plain(body, headers=JSON, status=200 if "/7" in request.path else 500))

    async with serve(repeat) as server:
        shop = calling(database, tenant_id, server, secret_headers={"Authorization": "shop_key"})
        await shop.secret("shop_key", 'Bearer sword"fish-4711')
        answer = await shop.say("Where is order 7?")
        shop.model.steps = [[("look_up_order", '{"number": "8"}')], "No."]
        shop.model.inputs.clear()
        failed = await shop.say("And 8?")
    assert [request.headers["authorization"] for request in server.requests] == ['bearer sword"fish-4711'] * 2
    everything = "".join([shop.model.read, shop.trace, repr(shop.records), repr(answer.events), repr(failed.events)])
    assert "[hidden]" in everything
    assert "fish" not in everything + caplog.text


async def test_a_secret_is_hidden_however_the_service_escapes_it(database: Database, tenant_id: UUID) -> None:
    async with serve(plain(rb'{"a": "Bearer abc\/def-123", "b": "\u0061bc/def-123"}', headers=JSON)) as server:
        shop = calling(database, tenant_id, server, secret_headers={"Authorization": "shop_key"})
        await shop.secret("shop_key", "Bearer abc/def-123")
        await shop.say("Where is order 7?")
    assert shop.model.outputs()[0]["result"] == {"a": "[hidden]", "b": "[hidden]"}


async def test_a_secret_that_cannot_be_opened_is_not_explained_to_visitors(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    shop = calling(database, tenant_id, server, secret_headers={"Authorization": "shop_key"})
    await shop.secret("shop_key", "Bearer abc/def-123")
    shop.access = replace(shop.access, keyring=Keyring(["quite another platform key, long enough"]))
    answer = await shop.say("Where is order 7?")
    assert answer.text == "It is sent."
    assert server.requests == []
    assert "platform key" not in shop.model.read
    assert "secret_unreadable" in shop.trace


async def test_a_secret_that_is_missing_is_named_to_the_tenant_and_not_to_the_visitor(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    shop = calling(database, tenant_id, server, secret_headers={"Authorization": "shop_key"})
    await shop.say("Where is order 7?")
    assert server.requests == []
    [output] = shop.model.outputs()
    assert "not set up completely" in output["error"]
    assert "shop_key" not in shop.model.read
    assert "shop_key" in shop.trace
    assert "not stored" in shop.trace


async def test_another_tenants_secret_of_that_name_is_not_used(
    database: Database, tenant_id: UUID, make_tenant: Any, server: Loopback
) -> None:
    theirs = calling(database, await make_tenant(), server)
    await theirs.secret("shop_key", "theirs")
    shop = calling(database, tenant_id, server, secret_headers={"Authorization": "shop_key"})
    await shop.say("Where is order 7?")
    assert server.requests == []


# Addresses


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1/x", "http://169.254.169.254/latest", "http://10.0.0.8/", "http://[::1]/", "http://inside.example/"],
)  # fmt: skip
async def test_addresses_inside_are_not_reached(database: Database, tenant_id: UUID, url: str) -> None:
    outbound = OutboundClient(resolver=TableResolver({"inside.example": ["192.168.0.9"]}), ssl_context=TLS)
    config = tool(Loopback(80), url=url, parameters={"type": "object"})
    shop = shop_of(database, tenant_id, [("look_up_order", "{}")], "No.", tools=[config], outbound=outbound)
    answer = await shop.say("Look")
    assert answer.text == "No."
    [output] = shop.model.outputs()
    assert "error" in output
    assert "'failure': 'target_not_allowed'" in shop.trace
    assert url.split("/")[2] not in shop.model.read


# Trouble


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{not json", "not valid JSON"), ("[1]", "not a JSON object"), ('{"number": NaN}', "not valid JSON"), ("{}", "required"),
        ('{"number": 7}', "not of type"), ('{"number": "7", "url": "https://evil.example"}', "no such argument"),
        ('{"number": "' + "9" * 41 + '"}', "too long"), ('{"number": "\\u0000"}', "characters"), ("[" * 500, "not valid JSON"),
        ('{"number": "' + "x" * 20_000 + '"}', "too long"),
    ],
)  # fmt: skip
async def test_arguments_that_do_not_fit_are_told_and_sent_nowhere(
    database: Database, tenant_id: UUID, server: Loopback, arguments: str, told: str
) -> None:
    shop = calling(database, tenant_id, server, arguments)
    answer = await shop.say("Where is it?")
    assert answer.text == "It is sent."
    assert server.requests == []
    [output] = shop.model.outputs()
    assert told in output["error"]


async def test_half_a_surrogate_pair_ends_the_turn_clearly(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    answer = await calling(database, tenant_id, server, '{"number": "\\ud800"}').say("Where is it?")
    assert isinstance(answer.error, UpstreamFailed)
    assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (plain(b'{"reason": "gone"}', status=404, headers=JSON), "status 404"),
        (plain(b"", status=302, headers={"Location": "http://169.254.169.254/"}), "redirect"),
        (plain(b"\x89PNG", headers={"Content-Type": "image/png"}), "no text"),
        (plain(b"x" * 600_000, headers={"Content-Type": "text/plain"}), "more than can be read"),
        (b"nonsense\r\n\r\n", "could not be understood"),
    ],
    ids=["404", "redirect", "picture", "too large", "nonsense"],
)
async def test_a_service_that_fails_costs_one_sentence(
    database: Database, tenant_id: UUID, reply: bytes, told: str
) -> None:
    async with serve(reply) as server:
        shop = calling(database, tenant_id, server)
        answer = await shop.say("Where is order 7?")
    assert answer.error is None
    assert answer.text == "It is sent."
    [output] = shop.model.outputs()
    assert told in output["error"]
    assert "'status': 'failed'" in shop.trace


async def test_an_answer_that_is_not_json_is_shown_as_text_or_not_at_all(database: Database, tenant_id: UUID) -> None:
    async with serve(plain(b"sent on Monday", headers={"Content-Type": "text/plain"})) as server:
        shop = calling(database, tenant_id, server)
        await shop.say("Where is order 7?")
        assert shop.model.outputs()[0]["result"] == "sent on Monday"
        mapped = calling(database, tenant_id, server, result={"state": "/state"})
        await mapped.say("Where is order 7?")
        assert "not JSON" in mapped.model.outputs()[0]["error"]


async def test_a_long_answer_is_cut(database: Database, tenant_id: UUID) -> None:
    body = json.dumps({"lines": ["word " * 20] * 1000}).encode()
    async with serve(plain(body, headers=JSON)) as server:
        shop = calling(database, tenant_id, server)
        await shop.say("Where is order 7?")
    [output] = shop.model.outputs()
    assert output["result"].endswith("characters in all]")
    assert len(output["result"]) < calls.MAX_OUTPUT_CHARACTERS + 100


async def test_calls_of_one_response_run_side_by_side_and_an_unknown_tool_is_told(
    database: Database, tenant_id: UUID, server: Loopback
) -> None:
    shop = calling(database, tenant_id, server)
    shop.model.steps = [
        [("look_up_order", '{"number": "1"}'), ("launch_rocket", "{}"), ("look_up_order", '{"number": "2"}')],
        "Both are sent.",
    ]
    answer = await shop.say("Where are they?")
    assert answer.text == "Both are sent."
    assert sorted(request.path for request in server.requests) == ["/orders/1", "/orders/2"]
    outputs = [item["output"] for item in shop.model.inputs[-1] if item.get("type") == "function_call_output"]
    assert len(outputs) == 3
    assert any("not found" in output for output in outputs)


async def test_a_turn_makes_so_many_calls_and_no_more(database: Database, tenant_id: UUID, server: Loopback) -> None:
    shop = calling(database, tenant_id, server)
    shop.model.steps = [[("look_up_order", '{"number": "1"}')] * 40, "Enough."]
    answer = await shop.say("All of them!")
    assert answer.text == "Enough."
    assert len(server.requests) == calls.MAX_CALLS
    assert len(shop.records) == calls.MAX_CALLS


async def test_the_trace_has_times_sizes_and_statuses(database: Database, tenant_id: UUID, server: Loopback) -> None:
    shop = calling(database, tenant_id, server)
    await shop.say("Where is order 7?")
    outer, inner = [span for span in shop.turns[-1].trace.spans if span.kind == "tool"]
    assert (outer.name, outer.data["status"]) == ("look_up_order", "done")
    assert inner.data["status"] == 200
    assert inner.data["bytes"] > 0
    assert outer.ended is not None
