"""What the console says of OpenAI's front end: what it needs, and where it did not come."""

from __future__ import annotations

from typing import Any, Literal

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.embed.stock import StockReason
from stonechat.identity.caller import Caller
from stonechat.identity.domain_keys import DomainKeyView, NewDomainKey, create_domain_key
from support.console import ConsoleWorld


async def furnish(
    world: ConsoleWorld, renderer: Literal["stonechat", "chatkit"] = "chatkit", openai: str | None = "domain_pk_1"
) -> tuple[AgentView, DomainKeyView]:
    config: dict[str, Any] = {"name": "Wren", "renderer": renderer}
    async with world.services.database.tenant(world.tenant_id) as session:
        agent = await agents.create_agent(session, world.actor, config=config)
        new = NewDomainKey(name="Shop", origins=["https://shop.example"], openai_domain_key=openai)
        return agent, await create_domain_key(session, world.actor, agent_id=agent.id, new=new)


async def trouble(world: ConsoleWorld, key: DomainKeyView, visitor: str, reason: StockReason = "refused") -> None:
    caller = Caller(tenant_id=world.tenant_id, user_id=visitor, agent_id=key.agent_id, domain_key_id=key.id)
    await world.services.stock_troubles.note(caller, reason=reason)


async def test_look_and_install_say_how_often_it_did_not_come(world: ConsoleWorld) -> None:
    agent, key = await furnish(world)
    viewer = await world.signed_in("viewer")
    assert "no visitor was left without it" in (await viewer.page(f"/console/agents/{agent.id}/look")).text
    for visitor, reason in (("usr_a", "refused"), ("usr_a", "timeout"), ("usr_b", "timeout")):
        await trouble(world, key, visitor, reason)  # type: ignore[arg-type]
    look = await viewer.page(f"/console/agents/{agent.id}/look")
    assert "did not come for 2 visits" in look.one("[data-trouble]").text()
    install = await viewer.page(f"/console/install?agent={agent.id}")
    said = install.one("[data-trouble]").text()
    assert "did not come for 2 visits" in said
    assert "could not be loaded" in said
    assert "within 5 seconds" in said


async def test_a_key_without_openais_is_named(world: ConsoleWorld) -> None:
    agent, _ = await furnish(world, openai=None)
    editor = await world.signed_in("editor")
    assert "Shop" in (await editor.page(f"/console/agents/{agent.id}/look")).one("[data-keyless]").text()
    assert (
        "no OpenAI domain key" in (await editor.page(f"/console/install?agent={agent.id}")).one("[data-keyless]").text()
    )


async def test_nothing_is_said_of_it_where_our_own_is_shown(world: ConsoleWorld) -> None:
    agent, key = await furnish(world, "stonechat")
    await trouble(world, key, "usr_a")
    viewer = await world.signed_in("viewer")
    for path in (f"/console/agents/{agent.id}/look", f"/console/install?agent={agent.id}"):
        assert (await viewer.page(path)).all("[data-trouble], [data-keyless]") == []


async def test_a_renderer_that_is_none_is_refused(world: ConsoleWorld) -> None:
    agent, _ = await furnish(world)
    editor = await world.signed_in("editor")
    answer = await editor.htmx(
        "POST", f"/console/agents/{agent.id}/look", {"renderer": "netscape", "revision": "1"}, status=422
    )
    assert "Choose one of these." in answer.text
