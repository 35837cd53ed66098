"""The audit log in the console: sentences, filters, pages, for admins only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Role
from stonechat.assistant.agents import create_agent, delete_agent
from stonechat_admin import deeds
from support.console import ConsoleWorld

PATH = "/console/audit-log"


async def test_it_tells_who_did_what(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant()
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    actor = world.actor_of(owner, "owner")
    mine = type(actor)(tenant_id, "person", owner.person_id, actor.scopes)
    async with world.services.database.tenant(tenant_id) as session:
        robin = await create_agent(session, mine, config={"name": "Robin"})
        gone = await create_agent(session, system(tenant_id), config={"name": "Wren"})
        await delete_agent(session, system(tenant_id), agent_id=gone.id)
        await record_audit(session, mine, "spaceship.launch", subject_id="x")
    page = await owner.page(PATH)
    rows = [" ".join(row.text(separator=" ").split()) for row in page.all("#audit-entries tr")]
    assert rows[0].startswith("Owner Person launch: spaceship")
    assert rows[1].startswith("Stonechat deleted an agent")
    assert rows[3].startswith("Owner Person made the agent “Robin”")
    assert robin.id not in page.text

    mine_only = await owner.page(f"{PATH}?person={owner.person_id}&about=agent")
    assert len(mine_only.all("#audit-entries tr")) == 1
    assert mine_only.one("#about option[selected]").attributes["value"] == "agent"
    nothing = await owner.page(f"{PATH}?about=conversation")
    assert "Nothing like that happened" in nothing.text


async def test_older_entries_are_loaded_without_skipping(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant()
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    async with world.services.database.tenant(tenant_id) as session:
        for number in range(60):
            await record_audit(session, system(tenant_id), "agent.publish", detail={"version": number})
    page = await owner.page(f"{PATH}?about=agent")
    first = [row.id for row in page.all("#audit-entries tr[id]")]
    more = page.one("tr.load-more a").attributes["hx-get"] or ""
    assert "about=agent" in more
    following = await owner.htmx("GET", more)
    second = re.findall(r'<tr id="(\w+)"', following.response.text)
    assert (len(first), len(second)) == (50, 10)
    assert not set(first) & set(second)
    assert "load-more" not in following.response.text
    whole = await owner.page(more)
    assert whole.one("h1").text(strip=True) == "Audit log", "without scripts the link opens a page"


async def test_a_made_up_cursor_is_refused(world: ConsoleWorld) -> None:
    owner = await world.signed_in("owner")
    await owner.page(f"{PATH}?cursor=nonsense", status=400)


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_others_are_refused(world: ConsoleWorld, role: Role) -> None:
    other = await world.signed_in(role)
    page = await other.page(PATH, status=403)
    assert "needs the role admin" in page.text


async def test_nobody_reads_another_tenants_log(world: ConsoleWorld) -> None:
    async with world.services.database.tenant(world.tenant_id) as session:
        await create_agent(session, world.actor, config={"name": "Secretbird"})
    stranger = await world.signed_in("owner", tenant_id=await world.another_tenant())
    ours = await world.signed_in("owner")
    assert "Secretbird" in (await ours.page(f"{PATH}?about=agent")).text
    assert "Secretbird" not in (await stranger.page(PATH)).text
    assert "Nothing like that" in (await stranger.page(f"{PATH}?person={ours.person_id}")).text


def test_every_action_that_is_recorded_has_its_sentence() -> None:
    house = Path(deeds.__file__).parents[2] / "platform" / "stonechat"
    recorded = set()
    for path in house.rglob("*.py"):
        for call in re.findall(r"record_audit\((.*?)\)\n", path.read_text(encoding="utf-8"), re.DOTALL):
            recorded |= set(re.findall(r'"([a-z_]+\.[a-z_]+)"', call))
    assert len(recorded) > 20
    assert recorded - set(deeds._SENTENCES) == set()
    assert {action.partition(".")[0] for action in recorded} <= set(deeds.NOUNS)
