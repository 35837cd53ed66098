"""What operators do to a tenant: each is done at once, told to whom it concerns, and written down on both sides."""

from __future__ import annotations

import ast
import importlib
import json
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import text

import stonechat
from stonechat.accounts.tenants import create_tenant
from stonechat.api.dependencies import Services
from stonechat.billing.dunning import grace
from stonechat.billing.stripe_provider import TAX
from stonechat.jobs import GiveUp, enqueue
from stonechat.operator.deletion import delete_due_tenants
from stonechat.operator.settings import OFFERED
from stonechat.operator.tasks import job_handlers
from stonechat.plans.platform_settings import LAPSED_PLAN, get_setting, list_settings
from support.api import message
from support.console import Browser, ConsoleWorld
from support.furnishing import ORIGIN, Furniture, furniture
from support.identity import PLATFORM
from support.jobs import running, until
from support.operators import at_desk, press


async def entries(services: Services, tenant_id: UUID) -> list[tuple[str, str]]:
    """Kinds of actors and actions of the tenant's own log, oldest first."""
    async with services.database.tenant(tenant_id) as session:
        rows = await session.execute(
            text("select actor_kind, action from audit_log where tenant_id = :id order by occurred_at, audit_id"),
            {"id": tenant_id},
        )
        return [tuple(row) for row in rows]


async def done_to(desk: Browser, tenant_id: UUID) -> list[str]:
    async with desk.world.services.database.platform() as session:
        rows = await session.scalars(
            text("select action from operator_audit where tenant_id = :id order by audit_id"), {"id": tenant_id}
        )
        return list(rows)


class Visitor:
    """Somebody on a site of a furnished tenant."""

    def __init__(self, things: Furniture, key: str, token: str) -> None:
        self.api, self.key, self.token = things.api, key, token

    @classmethod
    async def of(cls, things: Furniture) -> Visitor:
        key = str((await things._domain_key(await things._agent_id({})))["key"])
        opened = await things.api.post(
            f"{PLATFORM}/v1/sessions", json={"domain_key": key}, headers={"Origin": ORIGIN, "Authorization": ""}
        )
        assert opened.status_code == 200, opened.text
        return cls(things, key, opened.json()["token"])

    async def ask(self) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Origin": ORIGIN}
        return await self.api.post(f"{PLATFORM}/chatkit", json=message("How long?"), headers=headers)

    async def open(self) -> httpx.Response:
        return await self.api.post(
            f"{PLATFORM}/v1/sessions", json={"domain_key": self.key}, headers={"Origin": ORIGIN, "Authorization": ""}
        )


async def test_a_suspended_tenants_visitors_are_told_at_once_in_an_open_chat_too(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Fern & Co")
    member = await world.signed_in("owner", tenant_id=tenant_id)
    async with furniture(world, tenant_id) as things:
        visitor = await Visitor.of(things)
        assert (await visitor.ask()).status_code == 200
        without = await press(desk, f"/operator/tenants/{tenant_id}/suspend", {"reason": " "}, status=422)
        assert "Say why" in without.text
        assert (await visitor.ask()).status_code == 200, "no reason, no suspension"
        await press(desk, f"/operator/tenants/{tenant_id}/suspend", {"reason": "Sends spam"})
        # Time enough for what is known for half a second: the list is read anew, and no clock is waited for.
        monkeypatch.setattr(world.services.suspensions, "_read_at", float("-inf"))
        for answer in (await visitor.ask(), await visitor.open()):
            assert answer.status_code == 403
            assert answer.json()["code"] == "tenant_suspended"
            assert "spam" not in answer.text
            assert "paused at the moment" in answer.json()["detail"]
        frame = await things.api.get(f"{PLATFORM}/embed/frame", params={"k": visitor.key})
        assert frame.status_code == 200
        assert '"code":"tenant_suspended"' in frame.text
        assert "This account is suspended." in (await member.page("/console")).text
        page = await desk.page(f"/operator/tenants/{tenant_id}")
        assert "Sends spam" in page.text
        assert not page.all('[commandfor="suspend"]')
        await press(desk, f"/operator/tenants/{tenant_id}/resume", {"reason": "They apologised"})
        monkeypatch.setattr(world.services.suspensions, "_read_at", float("-inf"))
        assert (await visitor.ask()).status_code == 200
        await member.page("/console")
    assert ("operator", "tenant.suspend") in await entries(world.services, tenant_id)
    assert ("operator", "tenant.resume") in await entries(world.services, tenant_id)
    assert await done_to(desk, tenant_id) == ["tenant.suspend", "tenant.resume"]
    log = await member.page("/console/audit-log")
    assert "Whoever runs this installation suspended the account: “Sends spam”" in log.text


async def test_an_exception_holds_at_once_and_is_explained(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Bounded")
    path = f"/operator/tenants/{tenant_id}"
    await press(desk, f"{path}/plan", {"plan_key": "free", "trial_days": "0", "reason": "They asked for it"})
    assert "Agents Free: 1." in (await desk.page(path)).one("#explain").text(separator=" ")
    wrong = await desk.htmx(
        "POST", f"{path}/overrides", {"field": "agents", "value": "many", "reason": "x"}, status=422
    )
    assert "Write a whole number" in wrong.text
    await press(
        desk, f"{path}/overrides", {"field": "agents", "value": "7", "reason": "A fair", "expires_at": "2099-01-01"}
    )
    page = await desk.page(path)
    line = next(row for row in page.all("#explain tr") if row.text().startswith("Agents"))
    assert "7" in line.text()
    assert "A fair" in line.text()
    async with furniture(world, tenant_id) as things:
        for _ in range(2):  # the plan alone has room for one
            await things._agent_id({})
    form = line.css_first("form")
    assert form is not None
    await press(desk, form.attributes["action"] or "")
    assert "A fair" not in (await desk.page(path)).one("#explain").text()
    assert ("operator", "plan.override") in await entries(world.services, tenant_id)


async def test_notes_are_between_operators(world: ConsoleWorld) -> None:
    desk, other = await at_desk(world), await at_desk(world)
    path = f"/operator/tenants/{world.tenant_id}"
    await press(desk, f"{path}/notes", {"text": "Calls on Mondays."})
    page = await other.page(path)
    assert "Calls on Mondays." in page.text
    remove = page.one('form[action*="/notes/"][action$="/remove"]').attributes["action"] or ""
    await press(other, remove)
    assert "Calls on Mondays." not in (await desk.page(path)).text
    await press(other, remove, status=404)


async def test_a_deletion_is_told_can_be_called_off_and_is_done(world: ConsoleWorld) -> None:
    services, desk = world.services, await at_desk(world)
    tenant_id, kept = await world.another_tenant("Short-lived"), await world.another_tenant("Kept")
    for each in (tenant_id, kept):
        await press(desk, f"/operator/tenants/{each}/deletion", {"reason": "Closed", "days": "7"})
    await press(desk, f"/operator/tenants/{kept}/deletion/cancel")
    member = await world.signed_in("owner", tenant_id=tenant_id)
    assert "This workspace will be deleted on" in (await member.page("/console")).text
    async with furniture(world, tenant_id) as things:
        made = await things.make(["agent_id", "document_id", "thread_id", "secret_id"])
        assert made
    assert await delete_due_tenants(services.database, services.knowledge, services.billing) == 0
    async with services.database.platform() as session:
        await session.execute(
            text("update tenant_deletions set due_at = now() - interval '1 minute' where tenant_id = :id"),
            {"id": tenant_id},
        )
    assert await delete_due_tenants(services.database, services.knowledge, services.billing) == 1
    assert await delete_due_tenants(services.database, services.knowledge, services.billing) == 0
    async with services.database.platform() as session:
        tables = await session.scalars(
            text("""select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
                    and a.attname = 'tenant_id' where c.relkind in ('r', 'p') and not c.relispartition and c.relrowsecurity""")
        )
        left = {
            table
            for table in list(tables)
            if await session.scalar(text(f"select count(*) from {table} where tenant_id = :id"), {"id": tenant_id})
        }
        assert left <= {"audit_log", "usage_ledger", "usage_days", "usage_rollups"}, left
        assert await session.scalar(text("select name from tenants where tenant_id = :id"), {"id": kept}) == "Kept"
    await member.page("/console", status=303)


async def test_billing_hears_of_a_suspension(world: ConsoleWorld) -> None:
    told: list[tuple[UUID, bool]] = []

    class Billing:
        async def suspended(self, tenant_id: UUID, *, suspended: bool) -> None:
            told.append((tenant_id, suspended))

    desk, tenant_id = await at_desk(world), await world.another_tenant()
    await press(desk, f"/operator/tenants/{tenant_id}/suspend", {"reason": "x"})
    handler = job_handlers(world.services.database, Billing())["operator.suspension"]  # type: ignore[arg-type]
    await handler(tenant_id, {})
    assert told == [(tenant_id, True)]


async def test_a_job_that_was_given_up_is_tried_again(world: ConsoleWorld) -> None:
    services, desk = world.services, await at_desk(world)
    url, kind = services.settings.direct_database_url, f"test.{uuid4().hex[:8]}"
    assert url is not None
    attempts: list[dict[str, object]] = []

    async def handler(_tenant_id: UUID, payload: dict[str, object]) -> None:
        attempts.append(payload)
        if len(attempts) == 1:
            raise GiveUp("KeyError: the marzipan of the visitor")

    async with services.database.tenant(world.tenant_id) as session:
        await session.execute(text("select 1"))
        await enqueue(session, world.tenant_id, kind, {"question": "marzipan"})

    async def given_up() -> bool:
        return len((await desk.page(f"/operator/jobs?kind={kind}")).all("#jobs form")) == 1

    async with running(url, {kind: handler}):
        await until(given_up)
        page = await desk.page(f"/operator/jobs?kind={kind}")
        said = "It failed with KeyError. Look into the tenant to read all of it. Mend the cause, then try it again."
        assert said in page.text
        assert "marzipan" not in page.response.text, "what people wrote is told under a grant alone"
        assert "marzipan" not in (await desk.page("/operator/jobs/export")).response.text
        again = page.one("#jobs form").attributes["action"] or ""
        await press(desk, again)

        async def done() -> bool:
            return len(attempts) == 2

        await until(done)
    assert json.dumps(attempts[0]) == json.dumps(attempts[1])
    await press(desk, again, status=404)


async def test_announcements_stand_in_every_console(world: ConsoleWorld) -> None:
    desk, member = await at_desk(world), await world.signed_in("viewer")
    wrong = await desk.htmx("POST", "/operator/announcements", {"title": "", "kind": "info"}, status=422)
    assert "A title has" in wrong.text
    title = f"Maintenance {uuid4().hex[:6]}"
    await press(desk, "/operator/announcements", {"title": title, "kind": "warning", "body": "From six to seven."})
    later = f"Later {uuid4().hex[:6]}"
    await press(desk, "/operator/announcements", {"title": later, "kind": "info", "starts_at": "2035-01-01T06:00"})
    world.services.bulletin.forget()
    page = await member.page("/console")
    assert title in page.one(".notice-warning").text()
    assert later not in page.text
    rows = (await desk.page("/operator/announcements")).all("tr")
    (row,) = (row for row in rows if title in row.text())
    withdraw = row.css_first('form[action$="/withdraw"]')
    assert withdraw is not None
    await press(desk, withdraw.attributes["action"] or "")
    world.services.bulletin.forget()
    assert title not in (await member.page("/console")).text


async def test_a_flag_closes_a_part_of_the_platform_but_not_for_all(world: ConsoleWorld) -> None:
    desk, other = await at_desk(world), await world.another_tenant("Not closed")
    flags = world.services.flags
    await press(desk, "/operator/flags/publishing", {"is_on": "off", "except_tenants": str(other)})
    try:
        flags.forget()
        async with furniture(world, world.tenant_id) as things, furniture(world, other) as elsewhere:
            agent = await things._post("/agents", {"name": "Robin", "model": "extractive"})
            refused = await things.api.post(f"/agents/{agent['id']}/publish", json={})
            assert (refused.status_code, refused.json()["code"]) == (503, "switched_off")
            await elsewhere._agent_id({})
    finally:
        await press(desk, "/operator/flags/publishing", {"is_on": "on"})
        flags.forget()
    assert await flags.is_on("publishing", world.tenant_id)
    await press(desk, "/operator/flags/no_such_flag", {"is_on": "off"}, status=404)


async def test_a_plan_is_published_replayed_and_retired(world: ConsoleWorld) -> None:
    desk = await at_desk(world)
    key = f"p{uuid4().hex[:8]}"
    form = {"key": key, "name": "Special", "price": "12.50", "currency": "usd", "interval": "month", "agents": "x"}
    wrong = await desk.htmx("POST", "/operator/plans", form, status=422)
    assert "Write a whole number" in wrong.text
    await press(desk, "/operator/plans", form | {"agents": "4", "features": "web_sources"})
    page = await desk.page("/operator/plans")
    assert "$12.50" in page.one(f"#plan-{key}").text()
    replay = await desk.page(f"/operator/replay?on={key}")
    assert "Special" in replay.text
    await press(desk, f"/operator/plans/{key}/retire")
    assert not (await desk.page("/operator/plans")).all(f"#plan-{key}")


async def test_settings_hold_and_are_written_down(world: ConsoleWorld) -> None:
    desk, nothing = await at_desk(world), dict.fromkeys(OFFERED, "")
    await desk.htmx("POST", "/operator/settings", {"default_plan": "no_such"}, status=422)
    chosen = {"default_plan": "free", "billing": "manual", "grace_days": "0", "billing_tax": "on"}
    await press(desk, "/operator/settings", nothing | chosen)
    try:
        made = await create_tenant(world.services.database, name="New one", owner_email=f"{uuid4().hex}@example.com")
        assert "Plan Free" in (await desk.page(f"/operator/tenants/{made.tenant_id}")).one("#rights").text(
            separator=" "
        )
        async with world.services.database.tenant(world.tenant_id) as session:
            assert await grace(session) == timedelta(0)
            assert await get_setting(session, TAX) is True
        page = await desk.page("/operator/settings")
        assert page.one("#grace_days").attributes["value"] == "0"
        assert "checked" in page.one("#billing_tax").attributes
    finally:
        await press(desk, "/operator/settings", nothing)
    async with world.services.database.platform() as session:
        assert await list_settings(session) == {}
    log = await desk.page(f"/operator/audit?action=setting&email={desk.email}")
    assert "setting.change" in log.text


@pytest.mark.parametrize("days", ["91", "-1", "a week", "7.5", "٧", "0007"])
async def test_days_of_grace_are_a_number_that_billing_takes(world: ConsoleWorld, days: str) -> None:
    answer = await (await at_desk(world)).htmx("POST", "/operator/settings", {"grace_days": days}, status=422)
    assert "Write a number of days from 0 to 90" in answer.text


def test_the_page_offers_every_setting_that_code_reads() -> None:
    """`get_setting` is given a constant wherever it is called; `DEFAULT_PLAN` and `LAPSED_PLAN` are read in SQL, too."""
    read: set[str] = set()
    for path in Path(stonechat.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        named = [call.args[1] for call in calls if ast.unparse(call.func) == "get_setting" and len(call.args) == 2]
        if named:
            module = ".".join(("stonechat", *path.relative_to(Path(stonechat.__file__).parent).with_suffix("").parts))
            read |= {getattr(importlib.import_module(module), ast.unparse(name)) for name in named}
    assert len(read) >= 4
    assert read | {LAPSED_PLAN} == set(OFFERED)


async def test_mails_are_listed_with_what_became_of_them(world: ConsoleWorld) -> None:
    desk, member = await at_desk(world), await world.signed_in("admin")
    email = f"invited-{uuid4().hex[:8]}@example.com"
    await member.htmx("POST", "/console/invitations", {"email": email, "role": "viewer"})
    page = await desk.page(f"/operator/mail?recipient={email}")
    assert "waits" in page.one("#mails").text()
    assert email in (await desk.page("/operator/mail/export")).response.text
