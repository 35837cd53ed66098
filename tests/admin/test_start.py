"""The start page: what is done is read off what is there, and the next step is one click away."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.accounts.models import Role
from stonechat.assistant.agents import create_agent, patch_draft, publish_agent
from stonechat.identity.domain_keys import NewDomainKey, create_domain_key
from stonechat.knowledge.models import Document
from stonechat.usage.ledger import ledger_entry, settle
from support.console import Answer, Browser, ConsoleWorld

PATH = "/console"
STEPS = ["Say what it knows", "Test an answer", "Choose the look", "Install it", "Go live"]


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


@pytest.fixture
async def owner(world: ConsoleWorld, tenant_id: UUID) -> Browser:
    return await world.signed_in("owner", tenant_id=tenant_id)


def done(page: Answer) -> list[str]:
    """The titles of the steps that are ticked."""
    return [
        item.css("h3")[0].text(strip=True) for item in page.all("main ol > li") if "Done:" in item.text(separator=" ")
    ]


def following(page: Answer) -> str:
    return page.one("li[aria-current=step] h3").text(strip=True)


async def add_document(world: ConsoleWorld, tenant_id: UUID, **values: Any) -> None:
    row = {
        "document_id": ids.new_id("doc"),
        "title": "Guide",
        "media_type": "text/plain",
        "bytes": 1,
        "sha256": bytes(32),
        "status": "ready",
        **values,
    }
    async with world.services.database.tenant(tenant_id) as session:
        session.add(Document(tenant_id=tenant_id, **row))


async def add_conversation(world: ConsoleWorld, tenant_id: UUID, title: str = "Do you ship?") -> None:
    async with world.services.database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "insert into threads (tenant_id, thread_id, user_id, title, created_at) "
                "values (:tenant, :thread, 'usr_1', :title, now())"
            ),
            {"tenant": tenant_id, "thread": ids.new_id("thr"), "title": title},
        )


async def test_a_new_tenant_begins_at_the_beginning(owner: Browser) -> None:
    page = await owner.page(PATH)
    assert [step.text(strip=True) for step in page.all("main ol h3")] == STEPS
    assert done(page) == []
    assert following(page) == "Say what it knows"
    assert page.one("svg[role=img][aria-label]").attributes["aria-label"] == "0 of 5 steps are done"
    assert page.one("main .btn-primary").attributes["href"] == "/console/knowledge"
    assert "Nobody asked anything yet" in page.text


async def test_each_step_is_ticked_by_what_is_there(world: ConsoleWorld, tenant_id: UUID, owner: Browser) -> None:
    actor, database = system(tenant_id), world.services.database
    await add_document(world, tenant_id, status="pending")
    assert done(await owner.page(PATH)) == [], "a document that is not ready answers nothing"
    await add_document(world, tenant_id)
    assert done(await owner.page(PATH)) == STEPS[:1]

    async with database.tenant(tenant_id) as session:
        agent = await create_agent(session, actor, config={"name": "Robin"})
    page = await owner.page(PATH)
    assert page.one("main .btn-primary").attributes["href"] == f"/console/agents/{agent.id}"
    await add_conversation(world, tenant_id)
    page = await owner.page(PATH)
    assert done(page) == STEPS[:2]
    assert page.one("main .btn-primary").attributes["href"] == f"/console/agents/{agent.id}/look"
    assert "Do you ship?" in page.text

    async with database.tenant(tenant_id) as session:
        await patch_draft(session, actor, agent_id=agent.id, patch={"theme": {"accent": "#00aa00"}})
    assert done(await owner.page(PATH)) == STEPS[:3]

    async with database.tenant(tenant_id) as session:
        new = NewDomainKey(name="Shop", origins=["https://shop.example"])
        key = await create_domain_key(session, actor, agent_id=agent.id, new=new)
    assert following(await owner.page(PATH)) == "Install it"
    await see(world, tenant_id, key.id, "http://localhost:3000")
    page = await owner.page(PATH)
    assert done(page) == STEPS[:4]
    assert page.one("main .btn-primary").attributes["href"] == f"/console/agents/{agent.id}/publish"

    async with database.tenant(tenant_id) as session:
        await publish_agent(session, actor, agent_id=agent.id, settings=world.services.settings)
    assert following(await owner.page(PATH)) == "Go live", "one's own computer is not the real site"
    await see(world, tenant_id, key.id, "https://shop.example")
    page = await owner.page(PATH)
    assert done(page) == STEPS
    assert "agent is live" in page.text
    assert page.all("li[aria-current=step]") == []


async def see(world: ConsoleWorld, tenant_id: UUID, key_id: str, origin: str) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        await session.execute(
            text("update domain_keys set last_seen_at = now(), last_seen_origin = :origin where domain_key_id = :key"),
            {"origin": origin, "key": key_id},
        )


async def test_a_second_version_counts_as_a_look_that_was_chosen(
    world: ConsoleWorld, tenant_id: UUID, owner: Browser
) -> None:
    actor, database = system(tenant_id), world.services.database
    async with database.tenant(tenant_id) as session:
        agent = await create_agent(session, actor, config={"name": "Robin"})
        await publish_agent(session, actor, agent_id=agent.id, settings=world.services.settings)
    assert done(await owner.page(PATH)) == []
    async with database.tenant(tenant_id) as session:
        await patch_draft(session, actor, agent_id=agent.id, patch={"greeting": "Ahoy"})
        await publish_agent(session, actor, agent_id=agent.id, settings=world.services.settings)
    assert done(await owner.page(PATH)) == ["Choose the look"]


async def test_what_failed_is_shown_with_its_reason(world: ConsoleWorld, tenant_id: UUID, owner: Browser) -> None:
    for number in range(7):
        reason = "This document is protected by a password."
        await add_document(world, tenant_id, title=f"Locked {number}", status="failed", error=reason)
    page = await owner.page(PATH)
    assert "7 documents could not be read" in page.text
    assert "protected by a password" in page.text
    assert len(page.all("section[aria-labelledby=failed-head] li")) == 5
    assert (
        page.one("section[aria-labelledby=failed-head] h2 + a").attributes["href"] == "/console/knowledge?status=failed"
    )


async def test_the_week_is_drawn_and_told(world: ConsoleWorld, tenant_id: UUID, owner: Browser) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        for number in range(3):
            entry = ledger_entry(tenant_id, "usr_1", agent_id=None, provider="extractive", model="extractive")
            await settle(session, tenant_id, run_id=f"run_{number}", entries=[entry])
    page = await owner.page(PATH)
    today = f"{clock.now():%A}"
    assert f"{today}: 3." in page.one("#week-about").text()
    bars = page.all("section[aria-labelledby=week-head] rect")
    assert [float(bar.attributes["height"] or 0) for bar in bars] == [2.0] * 6 + [96.0]
    last = page.all("section[aria-labelledby=week-head] tbody tr")[-1]
    assert [cell.text(strip=True) for cell in last.css("td")] == ["3", "1"]


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
async def test_everybody_may_see_it(world: ConsoleWorld, role: Role) -> None:
    person = await world.signed_in(role)
    assert (await person.page(PATH)).one("h1").text(strip=True) == f"Good to see you, {role.title()}"


async def test_nothing_of_another_tenant_is_told(world: ConsoleWorld, tenant_id: UUID, owner: Browser) -> None:
    other = await world.another_tenant()
    await add_document(world, other, status="failed", title="Unspoken plan", error="No.")
    await add_conversation(world, other, title="Unspoken question")
    page = await owner.page(PATH)
    assert "Unspoken" not in page.text
    assert done(page) == []
