"""What happens when nothing is left, in the console."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.plans.overrides import add_override
from stonechat.usage.allowance import Steps, allowance_state, get_steps, put_overage, put_steps, refresh_allowance
from stonechat.usage.ledger import ledger_entry, settle
from support.allowances import on_plan
from support.assistant import add_provider
from support.billing import use
from support.console import ConsoleWorld
from support.identity import PLATFORM

PATH = "/console/usage/end"


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


async def steps_of(world: ConsoleWorld, tenant_id: UUID) -> Steps:
    async with world.services.database.tenant(tenant_id) as session:
        return await get_steps(session, system(tenant_id))


async def test_an_admin_orders_the_steps(world: ConsoleWorld, tenant_id: UUID) -> None:
    await add_provider(world.services.database, tenant_id, name="openai", kind="openai")
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    page = await admin.page(PATH)
    assert page.all("#plan-head") == [], "nothing is bounded, so nothing is said about a plan"
    assert "None. Visitors are asked" in (await admin.htmx("GET", f"{PATH}/contacts")).text
    form = {
        "first": "approved_answers",
        "second": "cheaper_model",
        "fourth": "ask_email",
        "cheaper_model": " openai/gpt-4.1-nano ",
        "email_request": "Ihre E-Mail, bitte?",
    }
    answer = await admin.htmx("POST", f"{PATH}/steps", form)
    assert "next question" in answer.toast
    assert await steps_of(world, tenant_id) == Steps(
        steps=("approved_answers", "cheaper_model", "ask_email", "message"),
        cheaper_model="openai/gpt-4.1-nano",
        email_request="Ihre E-Mail, bitte?",
    )
    page = await admin.page(PATH)
    chosen = {
        place: page.one(f"#{place} option[selected]").attributes["value"] for place in ("first", "second", "third")
    }
    assert chosen == {"first": "approved_answers", "second": "cheaper_model", "third": "ask_email"}


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"first": "ask_email", "second": "ask_email"}, "Choose each step once."),
        ({"first": "cheaper_model"}, "Say which model"),
        ({"first": "cheaper_model", "cheaper_model": "nano"}, "provider/model"),
        ({"first": "cheaper_model", "cheaper_model": "nobody/nano"}, "no model provider called “nobody”"),
        ({"first": "give_up"}, "none of the steps"),
        ({"first": "ask_email", "email_request": "x" * 501}, "at most 500"),
    ],
)
async def test_odd_steps_are_refused_kindly(
    world: ConsoleWorld, tenant_id: UUID, form: dict[str, str], message: str
) -> None:
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    await admin.page(PATH)
    answer = await admin.htmx("POST", f"{PATH}/steps", form, status=422)
    assert message in answer.text
    assert await steps_of(world, tenant_id) == Steps()


async def test_a_viewer_sees_how_far_the_plan_is_used_and_who_left_an_address(
    world: ConsoleWorld, tenant_id: UUID
) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        await add_override(
            session, tenant_id, field="included_tokens", value=1000, reason="A test.", expires_at=None, by="a test"
        )
        await refresh_allowance(session, tenant_id)
        entry = ledger_entry(
            tenant_id, "usr_1", agent_id="agt_1", provider="openai", model="gpt-4.1", input_tokens=1200
        )
        await settle(session, tenant_id, run_id="run_1", entries=[entry])
        values = {"tenant": tenant_id}
        await session.execute(
            text(
                "insert into threads (tenant_id, thread_id, user_id, created_at) values (:tenant, 'thr_1', 'usr_1', now())"
            ),
            values,
        )
        await session.execute(
            text(
                "insert into thread_contacts (tenant_id, thread_id, user_id, agent_id, email, left_at) "
                "values (:tenant, 'thr_1', 'usr_1', 'agt_1', 'anna@example.com', now())"
            ),
            values,
        )
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page(PATH)
    assert "1,200 of 1,000" in page.text
    assert "used up" in page.one("#over").text()
    part = page.one(f'[hx-get="{PATH}/contacts"]')
    assert part.attributes["hx-trigger"] == "load"
    assert "anna@example.com" in (await viewer.htmx("GET", f"{PATH}/contacts")).one("#contacts").text()
    assert "anna@example.com" in (await viewer.page(f"{PATH}/contacts")).one("main #contacts").text()
    assert "needs the role admin" in page.text
    assert page.all("#steps-form button[type=submit]") == []
    assert (await viewer.htmx("POST", f"{PATH}/steps", {"first": "ask_email"}, status=403)).status == 403


async def test_what_cannot_be_done_any_more_is_said(world: ConsoleWorld, tenant_id: UUID) -> None:
    chosen = Steps(steps=("hand_over", "cheaper_model"), cheaper_model="nobody/small")
    async with world.services.database.tenant(tenant_id) as session:
        await put_steps(session, system(tenant_id), steps=chosen)
        await add_override(
            session, tenant_id, field="hand_over", value=False, reason="A test.", expires_at=None, by="a test"
        )
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    told = [notice.text() for notice in (await viewer.page(PATH)).all("#steps-form [role=status]")]
    assert len(told) == 2
    assert "not part of your plan, Self-hosted: that step is skipped" in told[0]
    assert "no model provider for nobody/small" in told[1]


async def test_without_the_script_a_refused_form_is_a_page_that_keeps_what_was_typed(
    world: ConsoleWorld, tenant_id: UUID
) -> None:
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    headers = {"Referer": f"{PLATFORM}{PATH}"}
    form = {"first": "cheaper_model", "cheaper_model": "nano"}
    page = await admin.submit(f"{PATH}/steps", form, status=422, headers=headers)
    assert "Something is not right yet" in page.one("h1").text()
    assert "provider/model" in page.one("#cheaper_model-error").text()
    assert page.one("#cheaper_model").attributes["value"] == "nano"
    assert page.one(f'main a[href="{PATH}"].btn').text() == "Back to the page"
    async with world.services.database.tenant(tenant_id) as session:
        await add_override(
            session, tenant_id, field="hand_over", value=False, reason="A test.", expires_at=None, by="a test"
        )
    refused = await admin.submit(f"{PATH}/steps", {"first": "hand_over"}, status=422)
    assert "is not part of your plan" in refused.one("#first-error").text()
    saved = await admin.submit(f"{PATH}/steps", {"first": "ask_email"})
    assert saved.response.headers["location"] == PATH


async def test_the_page_asks_little_of_a_tenant_that_goes_on_for_money(world: ConsoleWorld, tenant_id: UUID) -> None:
    database, actor = world.services.database, system(tenant_id)
    await on_plan(database, tenant_id, "pro")
    chosen = Steps(steps=("hand_over", "cheaper_model", "ask_email"), cheaper_model="nobody/small")
    async with database.tenant(tenant_id) as session:
        await put_overage(session, actor, opt_in=True, spend_cap_micros=10_000_000)
        await put_steps(session, actor, steps=chosen)
        included = (await allowance_state(session, tenant_id)).included.tokens
    assert included is not None
    await use(database, tenant_id, tokens=included)
    await use(database, tenant_id, tokens=1234)
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page(PATH)  # which counts what it asks
    assert "1,234 tokens are charged so far" in page.one("#over").text()
    assert "no model provider for nobody/small" in page.text
    admin = await world.signed_in("admin", tenant_id=tenant_id)
    billing = await admin.page("/console/billing")
    assert "your agents go on, for" in billing.one("main [role=status]").text()
