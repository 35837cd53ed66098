"""Break-glass: what tenants and visitors wrote is read under a grant alone, which the tenant sees, may demand and can end."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stonechat import clock
from stonechat.errors import Conflict, OperatorSignInNeeded
from stonechat.operator import support as grants
from stonechat.operator.audit import of_tenant
from stonechat.operator.models import OperatorAuditRow
from support.api import message
from support.console import Browser, ConsoleWorld
from support.furnishing import Furniture, furniture
from support.identity import PLATFORM
from support.operator_routes import operator_pages
from support.operators import at_desk, make_operator, press


async def ask(desk: Browser, tenant_id: UUID, **more: str) -> str:
    """The id of a grant just asked for."""
    form = {"reason": "The widget shows nothing", "minutes": "60", "access": "read", **more}
    await press(desk, f"/operator/tenants/{tenant_id}/grants", form)
    async with desk.world.services.database.tenant(tenant_id) as session:
        return (await grants.list_grants(session, tenant_id))[0].id


async def secret_of(things: Furniture) -> tuple[str, str]:
    """A word that stands in a conversation, a document and an agent's instructions, and the conversation's id."""
    word = "quincemarmalade"
    await things._post("/agents", {"name": "Robin", "model": "extractive", "instructions": f"Never say {word}."})
    uploaded = await things.api.post("/knowledge/documents", files={"file": (f"{word}.md", f"# {word}".encode())})
    assert uploaded.status_code == 202
    return word, await things._conversation(f"Where is the {word}?")


async def test_without_a_grant_no_page_tells_what_people_wrote(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Discreet")
    desk = await at_desk(world)
    async with furniture(world, tenant_id) as things:
        word, thread = await secret_of(things)
    read = 0
    for path in operator_pages(world.app, tenant_id):
        answer = await desk.request("GET", path)
        assert answer.status in (200, 303, 422), f"{path}: {answer.status}"
        assert word not in answer.response.text, path
        assert thread not in answer.response.text, path
        read += 1
    assert read > 20
    for path in ("/console", "/console/conversations", f"/console/conversations/{thread}"):
        answer = await desk.page(path, status=303)
        assert answer.response.headers["location"].startswith("/console/login")


async def test_a_grant_opens_the_tenants_console_for_reading_and_is_seen(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Helped")
    desk, owner = await at_desk(world), await world.signed_in("owner", tenant_id=tenant_id)
    async with furniture(world, tenant_id) as things:
        word, thread = await secret_of(things)
        without = await desk.htmx("POST", f"/operator/tenants/{tenant_id}/grants", {"reason": ""}, status=422)
        assert "the tenant reads it" in without.text
        grant = await ask(desk, tenant_id)
        await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
        page = await desk.page(f"/console/conversations/{thread}")
        assert word in page.text
        assert "You look at Helped as an operator, for reading" in page.one(".room-band").text()
        agent = await things._agent_id({})
        refused = await desk.htmx("POST", f"/console/agents/{agent}/publish", {}, status=403)
        assert "for reading only" in refused.toast
        await desk.page("/console/members")
        await desk.page("/console/audit-log", status=403)  # a viewer's rights
    async with furniture(world, await world.another_tenant()) as elsewhere:
        _, theirs = await secret_of(elsewhere)
        await desk.page(f"/console/conversations/{theirs}", status=404)
    log = (await owner.page("/console/audit-log?about=support")).text
    assert "began to look in here: “The widget shows nothing”" in log
    assert f"looked at /console/conversations/{thread}" in log
    listed = await owner.page("/console/support")
    assert "The widget shows nothing" in listed.text
    await owner.submit(f"/console/support/{grant}/end", {})
    over = await desk.page("/console/conversations", status=303)
    assert over.response.headers["location"] == f"/operator/tenants/{tenant_id}?grant=over"
    assert "is over" in (await desk.page(over.response.headers["location"])).text


async def test_a_look_that_failed_first_is_written_down_all_the_same(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Watchful")
    desk, owner = await at_desk(world), await world.signed_in("owner", tenant_id=tenant_id)
    grant = await ask(desk, tenant_id)
    await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
    await desk.page(f"/console/conversations?q={'x' * 5000}", status=422)
    assert "looked at" not in (await owner.page("/console/audit-log?about=support")).text
    await desk.page("/console/conversations")
    assert "looked at /console/conversations" in (await owner.page("/console/audit-log?about=support")).text


async def test_a_tenant_that_demands_it_is_asked_first(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Careful")
    desk = await at_desk(world)
    owner, editor = (
        await world.signed_in("owner", tenant_id=tenant_id),
        await world.signed_in("editor", tenant_id=tenant_id),
    )
    await owner.submit("/console/support/consent", {"needed": "yes"})
    grant = await ask(desk, tenant_id)
    await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter", status=404)
    await editor.submit(f"/console/support/{grant}/agree", {}, status=403)
    await owner.submit(f"/console/support/{grant}/agree", {})
    await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
    await desk.page("/console/conversations")
    refused = await ask(desk, tenant_id)
    await owner.submit(f"/console/support/{refused}/end", {})
    await press(desk, f"/operator/tenants/{tenant_id}/grants/{refused}/enter", status=404)


async def test_a_grant_is_its_operators_own_and_ends_by_itself(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await world.another_tenant("Looked at")
    desk, other = await at_desk(world), await at_desk(world)
    grant = await ask(desk, tenant_id, minutes="15")
    await press(other, f"/operator/tenants/{tenant_id}/grants/{grant}/enter", status=404)
    await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
    await desk.page("/console")
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=16))
    await desk.page("/console/conversations", status=303)


async def test_a_grant_to_change_makes_an_editor_and_no_more(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Repaired")
    operator = await make_operator(world)
    desk = await at_desk(world, operator)
    async with furniture(world, tenant_id) as things:
        await things._agent_id({})
        grant = await ask(desk, tenant_id, access="write")
        await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
        question = {"question": "When do you open?", "answer": "At nine."}
        await desk.htmx("POST", "/console/knowledge/questions", question)
        await desk.htmx("POST", "/console/api-keys", {"name": "x", "scopes": "admin"}, status=403)
        await desk.htmx("POST", "/console/support/consent", {"needed": "no"}, status=403)
    await press(desk, "/operator/support/leave")
    gone = await desk.page("/console", status=303)
    assert gone.response.headers["location"].startswith("/console/login")


async def preview_of(desk: Browser, agent: str) -> tuple[str, int]:
    """A playground's token, and for how many seconds it is good."""
    opened = await desk.htmx("POST", f"/console/agents/{agent}/playground/session")
    told = opened.response.json()
    return told["token"], told["seconds"]


async def test_a_preview_ends_with_the_look_that_it_was_opened_under(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id = await world.another_tenant("Tried out")
    desk, owner = await at_desk(world), await world.signed_in("owner", tenant_id=tenant_id)

    async def ask_agent(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await things.api.post(f"{PLATFORM}/chatkit", json=message("How long?"), headers=headers)
        return answer.status_code

    async with furniture(world, tenant_id) as things:
        agent = await things._agent_id({})
        grant = await ask(desk, tenant_id, minutes="15", access="write")
        await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant}/enter")
        start = clock.now()
        monkeypatch.setattr(clock, "now", lambda: start + timedelta(minutes=10))
        token, seconds = await preview_of(desk, agent)
        assert 0 < seconds <= 5 * 60
        assert await ask_agent(token) == 200
        monkeypatch.setattr(clock, "now", lambda: start + timedelta(minutes=16))
        assert await ask_agent(token) == 401
        monkeypatch.undo()
        token, _ = await preview_of(desk, agent)
        assert await ask_agent(token) == 200
        await owner.submit(f"/console/support/{grant}/end", {})
        assert await ask_agent(token) == 401, "the tenant ended it early"
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("/v1/me/export", "/chatkit/sources?thread=t&item=i&index=0"):
            assert (await things.api.get(f"{PLATFORM}{path}", headers=headers)).status_code == 401, path


async def test_the_looks_of_an_operator_end_with_the_operators_rights(world: ConsoleWorld) -> None:
    open_in, waits_in = await world.another_tenant("Open"), await world.another_tenant("Waits")
    leaving = await make_operator(world)
    desk, other = await at_desk(world, leaving), await at_desk(world)
    owner = await world.signed_in("owner", tenant_id=waits_in)
    await owner.submit("/console/support/consent", {"needed": "yes"})
    asked = {tenant_id: await ask(desk, tenant_id) for tenant_id in (open_in, waits_in)}
    kept = await ask(other, open_in)
    await press(other, f"/operator/operators/{leaving.operator_id}/disable")
    for tenant_id, grant in asked.items():
        async with world.services.database.tenant(tenant_id) as session:
            states = {each.id: each.state for each in await grants.list_grants(session, tenant_id)}
        assert states[grant] == "over"
        assert states.get(kept, "open") == "open"
    await owner.submit(f"/console/support/{asked[waits_in]}/agree", {}, status=409)
    assert "support.end" in {row.action for row in await audit_of(world, open_in)}
    async with world.services.database.platform() as session:
        with pytest.raises(OperatorSignInNeeded):
            await grants.ask_for_grant(
                session, leaving, open_in, database=world.services.database, reason="Once more", minutes=15
            )


async def audit_of(world: ConsoleWorld, tenant_id: UUID) -> list[OperatorAuditRow]:
    async with world.services.database.platform() as session:
        return list(await of_tenant(session, tenant_id, limit=20))


async def test_looks_asked_for_at_once_stay_within_their_number(world: ConsoleWorld) -> None:
    tenant_id, operator, database = (
        await world.another_tenant("Beset"),
        await make_operator(world),
        world.services.database,
    )

    async def ask_once(number: int) -> bool:
        try:
            async with database.platform() as session:
                await grants.ask_for_grant(
                    session, operator, tenant_id, database=database, reason=f"Look {number}", minutes=15
                )
        except Conflict:
            return False
        return True

    for number in range(grants.MAX_OPEN - 1):
        assert await ask_once(number)
    together = await asyncio.gather(*(ask_once(number) for number in range(4)))
    assert sum(together) == 1


@pytest.mark.parametrize("table", ["operators", "operator_sessions", "operator_audit", "operator_notes", "mail_log"])
async def test_the_application_cannot_read_what_is_the_operators_own(world: ConsoleWorld, table: str) -> None:
    for session_of in (world.services.database.directory, lambda: world.services.database.tenant(world.tenant_id)):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with session_of() as session:
                await session.execute(text(f"select 1 from {table} limit 1"))


@pytest.mark.parametrize(
    "statement",
    [
        "update tenants set status = 'suspended'",
        "delete from threads",
        "insert into support_grants (tenant_id, grant_id) values (gen_random_uuid(), 'x')",
        "update operator_audit set action = 'nothing'",
        "delete from operator_audit",
    ],
)
async def test_operators_write_nothing_of_tenants_and_change_no_log(world: ConsoleWorld, statement: str) -> None:
    with pytest.raises(DBAPIError, match="permission denied"):
        async with world.services.database.platform() as session:
            await session.execute(text(statement))
