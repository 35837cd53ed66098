"""Usage in the console: days, models and agents with their cost; the budget and own prices."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.models import Role
from stonechat.usage.ledger import ledger_entry, settle
from stonechat.usage.quota import Budget, get_budget, put_budget
from support.console import Browser, ConsoleWorld

PATH = "/console/usage"


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    """A tenant that used two models today, one without a known price."""
    tenant_id = await world.another_tenant()
    async with world.services.database.tenant(tenant_id) as session:
        for run_id, model in (("run_1", "gpt-4.1"), ("run_2", "house-model")):
            entry = ledger_entry(
                tenant_id, "usr_1", agent_id=None, provider="openai", model=model, input_tokens=900, output_tokens=100
            )
            await settle(session, tenant_id, run_id=run_id, entries=[entry])
    return tenant_id


async def someone(world: ConsoleWorld, tenant_id: UUID, role: Role) -> Browser:
    return await world.signed_in(role, tenant_id=tenant_id)


async def budget(world: ConsoleWorld, tenant_id: UUID) -> Any:
    async with world.services.database.tenant(tenant_id) as session:
        return await get_budget(session, system(tenant_id))


async def test_a_viewer_sees_days_models_and_agents(world: ConsoleWorld, tenant_id: UUID) -> None:
    viewer = await someone(world, tenant_id, "viewer")
    page = await viewer.page(PATH)
    assert page.one("#cost").text() == "$0.0026"
    assert "1,000 tokens whose price nobody knows" in page.text
    models = {row.css("td")[0].text(): row.css("td")[6].text() for row in page.all("#by-model tr")}
    assert models == {"openai/gpt-4.1": "$0.0026", "openai/house-model": "not known"}
    assert [row.css("td")[0].text() for row in page.all("#by-agent tr")] == ["None in particular"]
    assert len(page.all("#by-day tr")) == len(page.all("svg[role=img] rect")) == 1
    assert "needs the role admin" in page.text
    assert page.all("#budget-form button[type=submit]") == page.all("#price") == []
    assert (await viewer.page(f"{PATH}?days=7")).one("#cost").text() == "$0.0026"


async def test_days_without_use_teach(world: ConsoleWorld) -> None:
    viewer = await someone(world, await world.another_tenant(), "viewer")
    assert "Nothing was used in these days" in (await viewer.page(PATH)).text


async def test_the_export_is_a_file(world: ConsoleWorld, tenant_id: UUID) -> None:
    viewer = await someone(world, tenant_id, "viewer")
    answer = await viewer.http.get(f"{PATH}/export")
    assert answer.headers["content-type"].startswith("text/csv")
    assert "house-model" in answer.text


async def test_an_admin_sets_and_removes_the_budget(world: ConsoleWorld, tenant_id: UUID) -> None:
    admin = await someone(world, tenant_id, "admin")
    await admin.page(PATH)
    form = {"max_tokens": "4,000", "max_dollars": "$7.50", "message": "Call us."}
    answer = await admin.htmx("POST", f"{PATH}/budget", form)
    assert "next question" in answer.toast
    assert "2,000 of 4,000" in answer.text
    assert "$0.0026 of $7.50" in answer.text
    state = await budget(world, tenant_id)
    assert (state.max_tokens, state.max_cost_micros, state.message) == (4000, 7_500_000, "Call us.")
    assert "no budget any more" in (await admin.htmx("POST", f"{PATH}/budget", {})).toast
    assert (await budget(world, tenant_id)).max_tokens is None


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("max_tokens", "many"),
        ("max_tokens", "0"),
        ("max_tokens", "1.5"),
        ("max_dollars", "-1"),
        ("max_dollars", "NaN"),
        ("max_dollars", "7,50"),  # which was read as 750
        ("max_dollars", "9e999999"),
    ],
)
async def test_what_is_wrong_is_said_at_the_field(world: ConsoleWorld, tenant_id: UUID, field: str, wrong: str) -> None:
    admin = await someone(world, tenant_id, "admin")
    await admin.page(PATH)
    answer = await admin.htmx("POST", f"{PATH}/budget", {field: wrong}, status=422)
    assert answer.one(f"#{field}").attributes["aria-invalid"] == "true"
    assert answer.one(f"#{field}").attributes["value"] == wrong
    assert (await budget(world, tenant_id)).max_tokens is None


async def test_the_team_sees_that_the_budget_is_used_up(world: ConsoleWorld, tenant_id: UUID) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        await put_budget(session, system(tenant_id), budget=Budget(max_tokens=500))
    viewer = await someone(world, tenant_id, "viewer")
    assert "used up" in (await viewer.page(PATH)).one("#refused").text()


async def test_an_own_price_is_set_and_taken_back(world: ConsoleWorld, tenant_id: UUID) -> None:
    admin = await someone(world, tenant_id, "admin")
    await admin.page(PATH)
    price = {"name": "openai/house-model", "input_price": "0.5", "output_price": "$2"}
    await admin.htmx("POST", f"{PATH}/prices", price)
    assert "your own: $0.50 in, $2.00 out" in (await admin.page(PATH)).text
    for wrong in ("cheap", "0,40"):
        await admin.htmx("POST", f"{PATH}/prices", price | {"input_price": wrong}, status=422)
    await admin.htmx("POST", f"{PATH}/prices", {"name": "openai/house-model"})
    assert "your own: " not in (await admin.page(PATH)).text


@pytest.mark.parametrize("path", [f"{PATH}/budget", f"{PATH}/prices"])
async def test_an_editor_does_not_decide_about_money(world: ConsoleWorld, tenant_id: UUID, path: str) -> None:
    editor = await someone(world, tenant_id, "editor")
    await editor.page(PATH)
    await editor.htmx("POST", path, {"max_tokens": "1"}, status=403)
