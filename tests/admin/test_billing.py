"""The plan and what it costs, in the console: seen by everybody, changed by admins, and silent where nothing is sold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.assistant.agents import create_agent
from stonechat.billing.provider import ChangeLine, ChangePreview
from stonechat.errors import BillingOff, UpstreamTimedOut
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.usage.allowance import allowance_state, refresh_allowance
from stonechat.usage.ledger import ledger_entry, settle
from support.console import ConsoleWorld
from support.furnishing import furniture
from support.plans import OPERATOR, platform_put_back, set_platform

PATH = "/console/billing"


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


async def on(world: ConsoleWorld, tenant_id: UUID, plan: str = "pro", **changed: Any) -> None:
    values: dict[str, Any] = {
        "provider": "stripe",
        "status": "active",
        "period_start": clock.now() - timedelta(days=10),
        "period_end": clock.now() + timedelta(days=20),
    }
    async with world.services.database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key=plan, **values | changed)
        await refresh_allowance(session, tenant_id)


async def used(world: ConsoleWorld, tenant_id: UUID, agent_id: str | None, answers: int, tokens: int = 1000) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        for number in range(answers):
            entry = ledger_entry(
                tenant_id,
                "usr_1",
                agent_id=agent_id,
                provider="openai",
                model="m",
                input_tokens=tokens,
                output_tokens=0,
            )
            await settle(session, tenant_id, run_id=f"run_{agent_id}_{number}", entries=[entry])


class Paid:
    """Stands in for what asks Stripe: notes what was asked, answers as told."""

    gateway = object()

    def __init__(self, preview: ChangePreview | Exception | None = None) -> None:
        self.preview, self.asked = preview, []  # type: ignore[var-annotated]

    def __getattr__(self, verb: str) -> Any:
        async def ask(_who: Any, *details: Any, **options: Any) -> Any:
            self.asked.append((verb, *details, *options.values()))
            if verb == "preview_change" and isinstance(self.preview, Exception):
                raise self.preview
            return self.preview if verb == "preview_change" else f"https://pay.example/{verb}"

        return ask


@pytest.fixture
async def paid(world: ConsoleWorld) -> AsyncIterator[Paid]:
    stand_in = Paid()
    real = world.app.state.services
    world.app.state.services = replace(real, billing=stand_in)
    yield stand_in
    world.app.state.services = real


async def test_where_nothing_is_sold_nothing_speaks_of_money(world: ConsoleWorld, tenant_id: UUID) -> None:
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    start = await owner.page("/console")
    assert PATH not in start.text
    assert "Everything is on" in (await owner.page(PATH)).text
    assert "Self-hosted" in (await owner.page("/console/plan")).text


async def test_with_a_default_plan_everybody_sees_the_page(world: ConsoleWorld, tenant_id: UUID) -> None:
    database = world.services.database
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    async with platform_put_back(database):
        await set_platform(database, default_plan="free")
        page = await viewer.page(PATH)
    assert page.one("#plan-head").text() == "Free"
    assert page.all(f'nav a[href="{PATH}"]')
    assert "by hand here" in page.text


async def test_what_is_used_and_where_it_leads(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        robin = await create_agent(session, system(tenant_id), config={"name": "Robin"})
    await on(world, tenant_id, "starter")
    await used(world, tenant_id, robin.id, 3)
    await used(world, tenant_id, None, 1)
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page(PATH)
    assert "4 of 2,000" in " ".join(page.one("section:nth-of-type(2)").text().split())
    assert "At this pace about" in page.text
    assert page.all("#overage-form") == page.all("#end") == []
    period = await viewer.htmx("GET", f"{PATH}/usage")
    assert {rect.text() for rect in period.all("rect title")} >= {f"{clock.now().date()}, Robin: 3"}
    assert period.all("rect.fill-base-300")
    assert [cell.text() for cell in period.all("tbody td")] == ["3", "1"]


async def test_plans_are_compared_and_a_change_says_first_what_it_changes(
    world: ConsoleWorld, tenant_id: UUID, paid: Paid
) -> None:
    await on(world, tenant_id, "pro")
    async with world.services.database.tenant(tenant_id) as session:
        for number in range(4):
            await create_agent(session, system(tenant_id), config={"name": f"Agent {number}"})
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    plans = await admin.page(f"{PATH}/plans")
    assert [head.text() for head in plans.all("main li h2")] == ["Free", "Starter", "Pro", "Business"]
    change = await admin.page(f"{PATH}/change?plan=starter")
    rows = {row.css("td")[0].text(): row.css("td")[2].text().split() for row in change.all("tbody tr")}
    assert rows["Agents"] == ["Less:", "3"]
    assert "You have 4 agents, and Starter includes 3" in change.text
    assert paid.asked == []
    paid.preview = ChangePreview("downgrade", "pro", "starter", "usd", 0, 0, 2900, clock.now() + timedelta(days=20))
    cost = await admin.htmx("GET", f"{PATH}/change/cost?plan=starter")
    assert "Nothing now" in cost.text
    assert cost.one("button[type=submit]").text() == "Change at the period’s end"
    await admin.page(f"{PATH}/change?plan=self_hosted", status=404)


async def test_an_upgrade_names_its_lines_and_is_made(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    await on(world, tenant_id, "starter")
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    lines = (ChangeLine("Unused time on Starter", -1900), ChangeLine("Pro", 6500))
    paid.preview = ChangePreview("upgrade", "starter", "pro", "usd", 4600, 0, 9900, None, lines)
    cost = await admin.htmx("GET", f"{PATH}/change/cost?plan=pro")
    assert cost.one("#due-now").text() == "$46.00"
    assert "-$19" in cost.text
    done = await admin.htmx("POST", f"{PATH}/change", {"plan": "pro"})
    assert done.response.headers["hx-redirect"] == PATH
    assert paid.asked[-1] == ("change_plan", "pro")


async def test_a_first_plan_is_chosen_at_checkout(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    sent = await admin.htmx("POST", f"{PATH}/change", {"plan": "pro"})
    assert sent.response.headers["hx-redirect"] == "https://pay.example/checkout"
    assert paid.asked[-1][:2] == ("checkout", "pro")
    plain = await admin.submit(f"{PATH}/change", {"plan": "pro"}, status=200)
    assert plain.one("main a.btn").attributes["href"] == "https://pay.example/checkout"
    back = await admin.page(f"{PATH}/returned?billing=returned", status=303)
    assert (back.response.headers["location"], paid.asked[-1][0]) == (PATH, "come_back")


async def test_whoever_is_paid_may_be_out_of_reach(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    await on(world, tenant_id)
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    for trouble in (UpstreamTimedOut("Stripe did not answer in time."), BillingOff("Not this way.")):
        paid.preview = trouble
        cost = await admin.htmx("GET", f"{PATH}/change/cost?plan=business")
        assert str(trouble) in cost.text
        assert not cost.all("button[type=submit]")


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"status": "past_due", "grace_until": clock.now() + timedelta(days=3)}, "warning", "did not go through"),
        ({"status": "unpaid"}, "error", "suspended because a payment is open"),
        ({"cancel_at": clock.now() + timedelta(days=3)}, "info", "Your plan ends on"),
        ({"status": "trialing", "trial_ends_at": clock.now() + timedelta(days=2)}, "info", "Your trial ends on"),
    ],
)
async def test_what_is_owed_stands_above_every_page(
    world: ConsoleWorld, tenant_id: UUID, changed: dict[str, Any], kind: str, words: str, paid: Paid
) -> None:
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    await on(world, tenant_id, **changed)
    for path in ("/console", "/console/agents", PATH, f"{PATH}/plans"):
        banner = (await viewer.page(path)).one("#billing-notice")
        assert words in banner.text()
        assert f"notice-{kind}" in (banner.attributes["class"] or "")


async def test_ending_offers_the_data_first(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    await on(world, tenant_id)
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    page = await admin.page(PATH)
    offered = [link.attributes["href"] for link in page.all("#end-plan a")]
    assert offered == [f"{PATH}/conversations.jsonl", "/console/usage/export?days=366"]
    await admin.htmx("POST", f"{PATH}/cancel")
    assert paid.asked[-1] == ("cancel", True)
    await on(world, tenant_id, cancel_at=clock.now() + timedelta(days=20))
    kept = await admin.page(PATH)
    assert not kept.all("#end")
    await admin.htmx("POST", f"{PATH}/resume")
    assert paid.asked[-1] == ("resume",)


async def test_conversations_are_taken_along(world: ConsoleWorld, tenant_id: UUID) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        for number in range(60):
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at) values (:tenant, :id, 'usr_1', now())"
                ),
                {"tenant": tenant_id, "id": f"thr_{number}"},
            )
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    file = await admin.http.get(f"{PATH}/conversations.jsonl")
    assert file.text.count("\n") == 60
    assert '"id":"thr_59"' in file.text.splitlines()[0]


async def test_a_cap_bounds_what_goes_beyond_the_plan(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    await on(world, tenant_id, "pro")
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    assert "$2.00 for a million tokens" in (await admin.page(PATH)).one("#overage-form").text()
    for unclear in ("a lot", "7,50"):
        await admin.htmx("POST", f"{PATH}/overage", {"opt_in": "on", "cap": unclear}, status=422)
    saved = await admin.htmx("POST", f"{PATH}/overage", {"opt_in": "on", "cap": "25"})
    assert saved.one("[name=cap]").attributes["value"] == "25"
    assert paid.asked[-1] == ("overage_changed",)
    async with world.services.database.tenant(tenant_id) as session:
        overage = (await allowance_state(session, tenant_id)).overage
    assert (overage.active, overage.spend_cap_micros) == (True, 25_000_000)


async def test_the_explainer_shows_plan_exception_and_what_holds(world: ConsoleWorld, tenant_id: UUID) -> None:
    await on(world, tenant_id, "starter")
    async with world.services.database.tenant(tenant_id) as session:
        await add_override(
            session, tenant_id, field="agents", value=None, reason="A <b>pilot</b>.", expires_at=None, by=OPERATOR
        )
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page("/console/plan")
    rows = {
        row.css("td")[0].text(): [cell.text().strip() for cell in row.css("td")[1:]] for row in page.all("tbody tr")
    }
    assert rows["Agents"] == ["3", "no boundA <b>pilot</b>.", "no bound"]
    assert rows["Tools of MCP servers"] == ["not included", "", "not included"]


async def test_who_has_reached_a_bound_is_shown_the_way(world: ConsoleWorld, tenant_id: UUID, paid: Paid) -> None:
    editor = await world.signed_in("editor", tenant_id=tenant_id)
    await on(world, tenant_id, "free")
    async with world.services.database.tenant(tenant_id) as session:
        await create_agent(session, system(tenant_id), config={"name": "The only one"})
    refused = await editor.htmx("POST", "/console/agents", {"name": "One more"}, status=403)
    assert "includes 1 agent, and there is 1" in refused.toast
    page = await editor.submit("/console/agents", {"name": "One more"}, status=403)
    assert page.one("main a.btn-primary").attributes["href"] == f"{PATH}/plans"


async def test_invoices_by_hand_are_listed_and_read(world: ConsoleWorld, tenant_id: UUID) -> None:
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    assert "There are none yet" in (await admin.htmx("GET", f"{PATH}/invoices")).text
    async with furniture(world, tenant_id) as things:
        made = [(await things.make(["invoice_id"]))["invoice_id"] for _ in range(14)]
    first = await admin.htmx("GET", f"{PATH}/invoices")
    assert len(first.all("#invoice-rows a.row-link")) == 12
    more = first.one("tr.load-more a").attributes["href"] or ""
    rest = await admin.htmx("GET", more)
    assert len(rest.all("a.row-link")) == 2
    page = await admin.page(f"{PATH}/invoices/{made[0]}")
    assert (page.one("#invoice-total").text(), page.all("tbody td")[0].text()) == ("$99.00", "Pro")
    await admin.page(f"{PATH}/invoices/inv_none", status=404)
