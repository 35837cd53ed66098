"""`/api/v1/usage`, over HTTP."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.api import usage
from stonechat.api.dependencies import Services
from stonechat.billing.webhooks import SYNC_JOB
from stonechat.usage.ledger import ledger_entry, settle
from support.billing import waiting_jobs
from support.postgres import TestDatabase
from support.visitors import build_app, client_of, running_services


@pytest.fixture(scope="module")
async def services(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path_factory.mktemp("usage")) as opened:
        yield opened


async def key_of(services: Services, tenant_id: UUID, scope: Any) -> dict[str, str]:
    async with services.database.tenant(tenant_id) as session:
        _, key = await create_api_key(session, system(tenant_id), name=scope, scopes=[scope])
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def api(services: Services, tenant_id: UUID) -> AsyncIterator[httpx.AsyncClient]:
    """As an administrator of a tenant that asked two models."""
    async with services.database.tenant(tenant_id) as session:
        for run_id, model in (("run_1", "gpt-4.1"), ("run_2", "=cmd()")):
            entry = ledger_entry(
                tenant_id,
                "usr_1",
                agent_id="agt_1",
                provider="openai",
                model=model,
                input_tokens=900,
                output_tokens=100,
            )
            await settle(session, tenant_id, run_id=run_id, entries=[entry])
    app = build_app(services)
    app.include_router(usage.router, prefix="/api/v1")
    async with client_of(app) as opened:
        opened.headers.update(await key_of(services, tenant_id, "admin"))
        yield opened


async def test_usage_is_told_by_day_agent_and_model(api: httpx.AsyncClient) -> None:
    days = (await api.get("/api/v1/usage")).json()
    assert (days["currency"], days["group_by"], len(days["data"])) == ("USD", "day", 1)
    assert days["total"] | {"answers": 2, "cost_micros": 2600, "unpriced_tokens": 1000} == days["total"]
    models = (await api.get("/api/v1/usage", params={"group_by": "model"})).json()["data"]
    assert {row["model"]: row["cost_micros"] for row in models} == {"gpt-4.1": 2600, "=cmd()": 0}
    agents = (await api.get("/api/v1/usage", params={"group_by": "agent"})).json()["data"]
    assert [(row["agent_id"], row["input_tokens"]) for row in agents] == [("agt_1", 1800)]
    nothing = (await api.get("/api/v1/usage", params={"start": "2020-01-01", "end": "2020-02-01"})).json()
    assert (nothing["data"], nothing["total"]["answers"]) == ([], 0)


@pytest.mark.parametrize("group_by", ["day", "agent", "model", "all"])
async def test_usage_comes_in_pages_that_neither_skip_nor_repeat(
    api: httpx.AsyncClient, services: Services, tenant_id: UUID, group_by: str
) -> None:
    async with services.database.tenant(tenant_id) as session:
        for number in range(7):
            entry = ledger_entry(
                tenant_id, "usr_1", agent_id=f"agt_{number % 4}", provider="openai", model=f"gpt-{number % 3}",
                input_tokens=100, output_tokens=number % 2,
            )  # fmt: skip
            object.__setattr__(entry, "occurred_at", entry.occurred_at - timedelta(days=number % 5))
            await settle(session, tenant_id, run_id=f"run_p{number}", entries=[entry])
    params: dict[str, Any] = {"group_by": group_by}
    whole = (await api.get("/api/v1/usage", params=params)).json()
    assert whole["next_cursor"] is None, "without a limit everything comes at once, as ever"
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/api/v1/usage", params=params | {"limit": 2} | cursor)).json()
        assert page["total"] == whole["total"]
        found += page["data"]
        if page["next_cursor"] is None:
            break
        assert len(page["data"]) == 2
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole["data"]
    assert len(found) >= 4
    other = "agent" if group_by == "day" else "day"
    wrong = await api.get("/api/v1/usage", params={"group_by": other, "limit": 2} | cursor)
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_cursor")


@pytest.mark.parametrize(
    "params",
    [
        {"start": "2026-02-01", "end": "2026-01-01"},
        {"start": "2020-01-01"},
        {"end": "0001-01-01"},
        {"end": "9999-12-31"},
        {"start": "soon"},
        {"group_by": "person"},
    ],
)
async def test_odd_days_are_refused_kindly(api: httpx.AsyncClient, params: dict[str, str]) -> None:
    assert (await api.get("/api/v1/usage", params=params)).status_code == 422


async def test_an_export_is_a_table_that_calculates_nothing(api: httpx.AsyncClient) -> None:
    answer = await api.get("/api/v1/usage/export")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {row["model"]: row["cost_micros"] for row in rows} == {"gpt-4.1": "2600", "'=cmd()": "0"}


async def test_a_budget_is_set_used_and_removed(api: httpx.AsyncClient) -> None:
    none = (await api.get("/api/v1/usage/budget")).json()
    assert (none["max_tokens"], none["used_tokens"], none["used_cost_micros"]) == (None, 2000, 2600)
    put = await api.put("/api/v1/usage/budget", json={"max_tokens": 5000, "message": " Back in December. "})
    assert put.json() | {"max_tokens": 5000, "used_tokens": 2000, "message": "Back in December."} == put.json()
    assert (await api.get("/api/v1/usage/budget")).json() == put.json()
    removed = (await api.put("/api/v1/usage/budget", json={})).json()
    assert (removed["max_tokens"], removed["message"]) == (None, None)
    log = (await api.get("/api/v1/usage/budget")).json()
    assert log == removed


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": 0},
        {"max_cost_micros": 10**18},
        {"max_tokens": 1, "message": ""},
        {"max_tokens": 1, "message": "\x00"},
    ],
)
async def test_an_odd_budget_is_refused_kindly(api: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert (await api.put("/api/v1/usage/budget", json=body)).status_code == 422


async def test_own_prices_hold_from_then_on(api: httpx.AsyncClient, services: Services, tenant_id: UUID) -> None:
    price = {"provider": "openai", "model": "=cmd()", "input": "1.5", "output": 3, "cached": 0.25}
    put = await api.put("/api/v1/usage/prices", json={"prices": [price]})
    assert put.json()["prices"] == [price | {"input": "1.5", "output": "3", "cached": "0.25"}]
    assert put.json()["list_version"].startswith("list:20")
    async with services.database.tenant(tenant_id) as session:
        entry = ledger_entry(
            tenant_id,
            "usr_1",
            agent_id="agt_1",
            provider="openai",
            model="=cmd()",
            input_tokens=1000,
            cached_tokens=400,
            output_tokens=10,
        )
        assert entry.cost_micros is None
        await settle(session, tenant_id, run_id="run_3", entries=[entry])
    models = (await api.get("/api/v1/usage", params={"group_by": "model"})).json()["data"]
    # 600 at 1.50, 400 at 0.25 and 10 at 3 dollars a million; what was there before keeps having no price.
    assert {row["model"]: (row["cost_micros"], row["unpriced_tokens"]) for row in models} == {
        "gpt-4.1": (2600, 0),
        "=cmd()": (900 + 100 + 30, 1000),
    }
    twice = await api.put("/api/v1/usage/prices", json={"prices": [price, price]})
    assert twice.status_code == 422
    assert (await api.put("/api/v1/usage/prices", json={"prices": []})).json()["prices"] == []


@pytest.mark.parametrize(("scope", "reads", "writes"), [("read", 200, 403), ("write", 200, 403), ("admin", 200, 200)])
async def test_money_is_the_administrators(
    api: httpx.AsyncClient, services: Services, tenant_id: UUID, scope: str, reads: int, writes: int
) -> None:
    api.headers.update(await key_of(services, tenant_id, scope))
    for path in ("", "/export", "/budget", "/prices", "/allowance", "/steps", "/contacts"):
        assert (await api.get(f"/api/v1/usage{path}")).status_code == reads
    assert (await api.put("/api/v1/usage/budget", json={"max_tokens": 10})).status_code == writes
    assert (await api.put("/api/v1/usage/prices", json={"prices": []})).status_code == writes
    assert (await api.put("/api/v1/usage/overage", json={"opt_in": False})).status_code == writes
    assert (await api.put("/api/v1/usage/steps", json={})).status_code == writes


async def test_what_the_plan_includes_is_told_and_its_end_is_the_tenants_to_shape(api: httpx.AsyncClient) -> None:
    state = (await api.get("/api/v1/usage/allowance")).json()
    assert (state["included"], state["used"], state["over"]) == (
        {"messages": None, "tokens": None},
        {"messages": 2, "tokens": 2000},
        None,
    )
    put = await api.put("/api/v1/usage/overage", json={"opt_in": True, "spend_cap_micros": 5_000_000})
    assert (put.json()["overage"]["opt_in"], put.json()["overage"]["active"]) == (True, False), "nothing is offered"
    steps = {"steps": ["approved_answers", "hand_over", "message"]}
    assert (await api.put("/api/v1/usage/steps", json=steps)).json()["steps"] == steps["steps"]
    assert (await api.get("/api/v1/usage/steps")).json() == (await api.get("/api/v1/usage/allowance")).json()["steps"]
    assert (await api.get("/api/v1/usage/contacts")).json() == {"data": [], "next_cursor": None}


async def test_a_cheaper_model_whose_provider_is_not_there_is_refused_by_name(api: httpx.AsyncClient) -> None:
    chosen = {"steps": ["cheaper_model"], "cheaper_model": "nobody/small"}
    refused = await api.put("/api/v1/usage/steps", json=chosen)
    assert (refused.status_code, refused.json()["code"]) == (422, "model_unknown")
    assert "called “nobody”" in refused.json()["detail"]
    assert [fault["field"] for fault in refused.json()["errors"]] == ["cheaper_model"]
    assert (await api.get("/api/v1/usage/steps")).json()["cheaper_model"] is None
    assert (await api.put("/api/v1/usage/steps", json=chosen | {"cheaper_model": "extractive"})).is_success


async def test_overage_is_told_to_who_charges_for_it(
    api: httpx.AsyncClient, services: Services, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await api.put("/api/v1/usage/overage", json={"opt_in": True})).is_success
    assert await waiting_jobs(services.database, tenant_id, SYNC_JOB) == 0, "nothing is sold here"
    monkeypatch.setattr(services.billing, "gateway", object())
    assert (await api.put("/api/v1/usage/overage", json={"opt_in": True})).is_success
    assert await waiting_jobs(services.database, tenant_id, SYNC_JOB) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("overage", {"opt_in": True, "spend_cap_micros": -1}),
        ("overage", {"opt_in": True, "spend_cap_micros": 10**18}),
        ("overage", {}),
        ("steps", {"steps": ["message", "ask_email"]}),
        ("steps", {"steps": ["ask_email", "ask_email"]}),
        ("steps", {"steps": ["cheaper_model"]}),
        ("steps", {"steps": ["give_up"]}),
        ("steps", {"email_request": "\x00"}),
    ],
)
async def test_odd_ends_are_refused_kindly(api: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    assert (await api.put(f"/api/v1/usage/{path}", json=body)).status_code == 422


async def test_addresses_that_visitors_left_come_in_pages(
    api: httpx.AsyncClient, services: Services, tenant_id: UUID
) -> None:
    async with services.database.tenant(tenant_id) as session:
        for number in range(5):
            values = {"tenant": tenant_id, "thread": f"thr_{number}"}
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at) "
                    "values (:tenant, :thread, 'usr_1', now())"
                ),
                values,
            )
            await session.execute(
                text(
                    "insert into thread_contacts (tenant_id, thread_id, user_id, agent_id, email, left_at) "
                    "values (:tenant, :thread, 'usr_1', 'agt_1', :thread || '@example.com', now())"
                ),
                values,
            )
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(3):
        params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await api.get("/api/v1/usage/contacts", params=params)).json()
        seen += [one["conversation_id"] for one in page["data"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == ([f"thr_{number}" for number in reversed(range(5))], None)
    assert (await api.get("/api/v1/usage/contacts", params={"cursor": "x"})).status_code == 400
