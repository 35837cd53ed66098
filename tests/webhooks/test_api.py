"""`/api/v1/webhook-endpoints`, as customers' scripts use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from stonechat import clock
from stonechat.accounts.actor import Scope, system
from stonechat.accounts.api_keys import create_api_key
from stonechat.accounts.audit import list_audit
from stonechat.db.session import Database
from stonechat.errors import InvalidInput
from stonechat.plans.entitlements import entitlements
from stonechat.plans.overrides import add_override
from stonechat.webhooks.endpoints import MAX_ENDPOINTS
from support.console import ConsoleWorld, console_world
from support.loopback import plain, serve
from support.postgres import TestDatabase
from support.webhooks import Hooks, at

BASE = "http://platform.example/api/v1"
E = "/webhook-endpoints"
URL = "https://shop.example/hooks"


@pytest.fixture(scope="module")
async def world(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    folder = tmp_path_factory.mktemp("webhooks")
    options = {"configured_ip_requests_per_minute": 1_000_000, "outbound_allowed": ("127.0.0.0/8",)}
    async with console_world(test_database.web_url, folder, **options) as world:
        yield world


async def api_of(world: ConsoleWorld, tenant_id: UUID, *scopes: Scope) -> httpx.AsyncClient:
    async with world.services.database.tenant(tenant_id) as session:
        _, secret = await create_api_key(session, system(tenant_id), name="test", scopes=list(scopes))
    transport = httpx.ASGITransport(app=world.app, client=("203.0.113.9", 1))
    return httpx.AsyncClient(transport=transport, base_url=BASE, headers={"Authorization": f"Bearer {secret}"})


@pytest.fixture
async def api(world: ConsoleWorld, tenant_id: UUID) -> AsyncIterator[httpx.AsyncClient]:
    async with await api_of(world, tenant_id, "admin") as client:
        yield client


async def test_an_endpoint_from_its_creation_to_its_end(
    api: httpx.AsyncClient, database: Database, tenant_id: UUID
) -> None:
    answer = await api.post(E, json={"url": URL, "description": "Orders", "events": ["document.ready"]})
    assert answer.status_code == 201
    made = answer.json()
    assert made["secret"].startswith("whsec_")
    path = f"{E}/{made['id']}"
    shown = (await api.get(path)).json()
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert (await api.get(E)).json() == {"data": [shown], "next_cursor": None}
    changed = (await api.patch(path, json={"events": None, "enabled": False})).json()
    assert (changed["events"], changed["enabled"], changed["disabled_reason"]) == (None, False, "by_hand")
    assert changed["description"] == "Orders"
    rotated = (await api.post(f"{path}/rotate-secret")).json()
    assert rotated["secret"] not in ("", made["secret"])
    assert rotated["old_secret_until"] is not None
    assert (await api.delete(path)).status_code == 204
    assert (await api.get(path)).status_code == 404
    async with database.tenant(tenant_id) as session:
        log = await list_audit(session, system(tenant_id), action="webhook_endpoint")
    assert [entry.action.partition(".")[2] for entry in log.data] == ["delete", "rotate_secret", "change", "create"]
    assert made["secret"] not in log.model_dump_json()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "ftp://shop.example"}, "url"),
        ({"url": "https://name:word@shop.example"}, "url"),
        ({"url": "https://shop.example:22/"}, None),
        ({"url": ""}, "url"),
        ({"url": "https://shop.example/" + "x" * 3000}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["no.such"]}, "events"),
        ({"url": URL, "events": ["webhook.test"]}, "events"),
        ({"url": URL, "description": "x" * 301}, "description"),
        ({"url": URL, "description": "two\nlines"}, "description"),
        ({"url": URL, "secret": "mine"}, "secret"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence(
    api: httpx.AsyncClient, body: dict[str, object], field: str | None
) -> None:
    answer = await api.post(E, json=body)
    if field is None:  # where an operator lets requests into a network of their own, any port is allowed
        assert answer.status_code == 201
        return
    assert answer.status_code == 422
    assert field in str(answer.json()["errors"])


async def test_in_production_only_https_will_do(
    api: httpx.AsyncClient, world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await api.post(E, json={"url": "http://shop.example/"})).status_code == 201
    monkeypatch.setattr(type(world.services.settings), "is_production", property(lambda _: True))
    answer = await api.post(E, json={"url": "http://shop.example/"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_a_tenant_has_room_for_twenty(api: httpx.AsyncClient) -> None:
    for _ in range(MAX_ENDPOINTS):
        assert (await api.post(E, json={"url": URL})).status_code == 201
    assert (await api.post(E, json={"url": URL})).status_code == 409
    page = (await api.get(E, params={"limit": 15})).json()
    rest = (await api.get(E, params={"limit": 15, "cursor": page["next_cursor"]})).json()
    assert (len(page["data"]), len(rest["data"]), rest["next_cursor"]) == (15, 5, None)


async def test_a_plan_says_how_many_and_no_two_at_once_are_both_the_last(
    world: ConsoleWorld, api: httpx.AsyncClient, tenant_id: UUID
) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        await add_override(
            session, tenant_id, field="webhook_endpoints", value=2, reason="Small.", expires_at=None, by="opr_test"
        )
    answers = await asyncio.gather(*(api.post(E, json={"url": URL}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 201, 403, 403, 403]
    refused = next(answer.json() for answer in answers if answer.status_code == 403)
    assert (refused["code"], refused["limit"], refused["included"]) == ("plan_limit", "webhook_endpoints", 2)
    assert "2 webhook endpoints" in refused["detail"]
    async with world.services.database.tenant(tenant_id) as session:
        line = next(line for line in (await entitlements(session, tenant_id)).explain if line.override_id)
    assert line.label == "Webhook endpoints"
    with pytest.raises(InvalidInput):
        async with world.services.database.tenant(tenant_id) as session:
            await add_override(
                session, tenant_id, field="webhook_endpoints", value=21, reason="x", expires_at=None, by="opr_test"
            )


async def test_no_two_at_once_are_both_the_twentieth(api: httpx.AsyncClient) -> None:
    for _ in range(MAX_ENDPOINTS - 1):
        assert (await api.post(E, json={"url": URL})).status_code == 201
    answers = await asyncio.gather(*(api.post(E, json={"url": URL}) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_to_read_takes_less_than_to_change(world: ConsoleWorld, api: httpx.AsyncClient, tenant_id: UUID) -> None:
    made = (await api.post(E, json={"url": URL})).json()["id"]
    async with await api_of(world, tenant_id, "write") as writer:
        assert (await writer.get(E)).status_code == 200
        assert (await writer.post(f"{E}/{made}/test")).status_code == 200
        for method, path, body in (
            ("POST", E, {"url": URL}),
            ("PATCH", f"{E}/{made}", {"enabled": False}),
            ("POST", f"{E}/{made}/rotate-secret", {}),
            ("DELETE", f"{E}/{made}", None),
        ):
            assert (await writer.request(method, path, json=body)).json()["code"] == "scope_missing"
    async with await api_of(world, tenant_id, "read") as reader:
        assert (await reader.post(f"{E}/{made}/test")).json()["code"] == "scope_missing"


async def test_a_test_is_sent_and_its_answer_shown(api: httpx.AsyncClient, hooks: Hooks) -> None:
    async with serve(plain(b"hello")) as receiver:
        made = (await api.post(E, json={"url": at(receiver.port), "events": ["document.ready"]})).json()["id"]
        sent = (await api.post(f"{E}/{made}/test")).json()
        assert (sent["type"], sent["status"]) == ("webhook.test", "queued")
        await hooks.deliver(made)
        assert b'"webhook.test"' in receiver.requests[0].body
    shown = (await api.get(f"{E}/{made}/deliveries/{sent['id']}")).json()
    assert (shown["status"], shown["response"], shown["last_status"]) == ("delivered", "hello", 200)
    assert shown["body"].encode() == receiver.requests[0].body


async def test_what_failed_is_sent_again_one_by_one_or_all_at_once(api: httpx.AsyncClient, hooks: Hooks) -> None:
    async with serve(plain(status=410)) as receiver:
        made = (await api.post(E, json={"url": at(receiver.port)})).json()["id"]
        events = [await hooks.happen() for _ in range(3)]
        await hooks.deliver(made)
    failed = (await api.get(f"{E}/{made}/deliveries", params={"status": "failed", "limit": 2})).json()
    assert [each["event_id"] for each in failed["data"]] == [events[2], events[1]]
    rest = (
        await api.get(f"{E}/{made}/deliveries", params={"status": "failed", "cursor": failed["next_cursor"]})
    ).json()
    assert [each["event_id"] for each in rest["data"]] == [events[0]]
    first = rest["data"][0]["id"]
    since = {"since": (clock.now() - timedelta(hours=1)).isoformat()}
    for path, body in (
        (f"{E}/{made}/deliveries/{first}/replay", None),
        (f"{E}/{made}/replay", since),
        (f"{E}/{made}/test", None),
    ):
        refused = await api.post(path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "conflict"), "it is switched off"
    async with serve(plain()) as receiver:
        await api.patch(f"{E}/{made}", json={"enabled": True, "url": at(receiver.port)})
        again = (await api.post(f"{E}/{made}/deliveries/{first}/replay")).json()
        assert (again["status"], again["attempts"]) == ("queued", 0)
        assert (await api.post(f"{E}/{made}/replay", json=since)).json() == {"replayed": 2, "more": False}
        await hooks.deliver(made)
        assert {request.headers["webhook-id"] for request in receiver.requests} == set(events)
    later = {"since": (clock.now() + timedelta(hours=1)).isoformat()}
    assert (await api.post(f"{E}/{made}/replay", json=later)).json() == {"replayed": 0, "more": False}


async def test_all_that_failed_is_replayed_in_bounded_portions(
    api: httpx.AsyncClient, hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stonechat.webhooks.deliveries.MAX_REPLAYED", 2)
    made = (await api.post(E, json={"url": URL})).json()["id"]
    for _ in range(3):
        await hooks.happen()
    await api.patch(f"{E}/{made}", json={"enabled": False})
    await api.patch(f"{E}/{made}", json={"enabled": True})
    since = {"since": "2020-01-01T00:00:00Z"}
    assert (await api.post(f"{E}/{made}/replay", json=since)).json() == {"replayed": 2, "more": True}
    assert (await api.post(f"{E}/{made}/replay", json=since)).json() == {"replayed": 1, "more": False}
