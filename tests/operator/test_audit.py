"""Nothing that operators do is left out of their log: every form of the room is sent once, with success, and leaves a line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.models import BillingEventRow, InvoiceRow, KeptInvoiceRow, MeterRow
from stonechat.jobs import enqueue
from stonechat.operator import sign_in
from stonechat.webhooks.deliveries import send_test_event
from stonechat.webhooks.endpoints import EndpointFields, create_endpoint
from support.console import Browser, ConsoleWorld
from support.operator_routes import operator_routes
from support.operators import PASSWORD, at_desk, code_of, make_operator, press

REASON = {"reason": "A test of the log"}
Prepare = Callable[["Deeds"], Awaitable[tuple[dict[str, str], dict[str, str]]]]
"""Makes what a form is about; returns what goes into the path, and the form."""


class Deeds:
    """What has to be there before each form of the room can be sent, by the path of the form."""

    def __init__(self, world: ConsoleWorld, desk: Browser, tenant_id: UUID) -> None:
        self.world, self.desk, self.tenant_id = world, desk, tenant_id
        self.at = f"/operator/tenants/{tenant_id}"

    async def own(self, statement: str) -> str:
        """One value of the platform's or the tenant's, newest."""
        async with self.world.services.database.platform() as session:
            return str(await session.scalar(text(statement), {"tenant": self.tenant_id}))

    async def nothing(self) -> tuple[dict[str, str], dict[str, str]]:
        return {}, REASON

    async def suspended(self) -> tuple[dict[str, str], dict[str, str]]:
        await press(self.desk, f"{self.at}/suspend", REASON)
        return {}, REASON

    async def note(self) -> tuple[dict[str, str], dict[str, str]]:
        await press(self.desk, f"{self.at}/notes", {"text": "To be removed"})
        return {"note_id": await self.own("select max(note_id) from operator_notes where tenant_id = :tenant")}, {}

    async def override(self) -> tuple[dict[str, str], dict[str, str]]:
        await press(self.desk, f"{self.at}/overrides", REASON | {"field": "agents", "value": "7"})
        return {
            "override_id": await self.own("select max(override_id) from plan_overrides where tenant_id = :tenant")
        }, {}

    async def invoice(self) -> tuple[dict[str, str], dict[str, str]]:
        async with self.world.services.database.tenant(self.tenant_id) as session:
            session.add(
                InvoiceRow(
                    tenant_id=self.tenant_id, invoice_id="inv_audit", provider="manual", number="1", status="open",
                    currency="usd", total_cents=900, tax_cents=0, due_cents=900, paid_cents=0, lines=[],
                    created_at=clock.now(),
                )
            )  # fmt: skip
        return {"invoice_id": "inv_audit"}, {}

    async def kept(self) -> tuple[dict[str, str], dict[str, str]]:
        long_ago = clock.now() - timedelta(days=400)
        async with self.world.services.database.platform() as session:
            session.add(
                KeptInvoiceRow(
                    tenant_id=self.tenant_id, invoice_id="inv_kept", provider="manual", number="1", status="open",
                    currency="usd", total_cents=900, tax_cents=0, paid_cents=0, billed_name="Logged", lines=[],
                    created_at=long_ago, kept_at=long_ago,
                )
            )  # fmt: skip
        return {"invoice_id": "inv_kept"}, {}

    async def late(self) -> tuple[dict[str, str], dict[str, str]]:
        began = clock.now() - timedelta(days=40)
        async with self.world.services.database.tenant(self.tenant_id) as session:
            session.add(
                MeterRow(
                    tenant_id=self.tenant_id, slice_start=began, slice_end=began + timedelta(hours=1), seq=1, tokens=1_000,
                    meter=METER_EVENT, identifier=f"{self.tenant_id}-1", customer_id="cus", state="expired",
                    next_attempt_at=began,
                )
            )  # fmt: skip
        return {}, REASON | {"how": "waive"}

    async def deletion(self) -> tuple[dict[str, str], dict[str, str]]:
        await press(self.desk, f"{self.at}/deletion", REASON | {"days": "7"})
        return {}, {}

    async def job(self) -> tuple[dict[str, str], dict[str, str]]:
        kind = f"test.{uuid4().hex[:8]}"
        async with self.world.services.database.tenant(self.tenant_id) as session:
            await enqueue(session, self.tenant_id, kind, {})
            await session.execute(
                text("update jobs.pgqueuer set status = 'failed' where entrypoint = :kind"), {"kind": kind}
            )
        return {"job_id": await self.own("select max(id) from jobs.pgqueuer where status = 'failed'")}, {}

    async def event(self) -> tuple[dict[str, str], dict[str, str]]:
        event_id, now = f"evt_{uuid4().hex}", clock.now()
        async with self.world.services.database.platform() as session:
            session.add(
                BillingEventRow(
                    event_id=event_id, kind="invoice.paid", thin=False, livemode=False, happened_at=now, received_at=now,
                    tenant_id=self.tenant_id, state="failed",
                )
            )  # fmt: skip
        return {"event_id": event_id}, {}

    async def delivery(self) -> tuple[dict[str, str], dict[str, str]]:
        services, actor = self.world.services, system(self.tenant_id)
        async with services.database.tenant(self.tenant_id) as session:
            made = await create_endpoint(
                session,
                actor,
                keyring=services.keyring,
                settings=services.settings,
                fields=EndpointFields(url="https://logged.example/hook"),
            )
            sent = await send_test_event(session, actor, endpoint_id=made.id)
        return {"endpoint_id": made.id, "delivery_id": sent.id}, {}

    async def plan(self) -> tuple[dict[str, str], dict[str, str]]:
        form = {"key": f"p{uuid4().hex[:8]}", "name": "Logged", "price": "1", "currency": "usd", "interval": "month"}
        await press(self.desk, "/operator/plans", form)
        return {"key": form["key"]}, form

    async def announcement(self) -> tuple[dict[str, str], dict[str, str]]:
        form = {"title": f"Logged {uuid4().hex[:6]}", "kind": "info", "starts_at": "2035-01-01T06:00"}
        await press(self.desk, "/operator/announcements", form)
        return {"announcement_id": await self.own("select max(announcement_id) from announcements")}, form

    async def flag(self) -> tuple[dict[str, str], dict[str, str]]:
        return {"key": "publishing"}, {"is_on": "on"}

    async def setting(self) -> tuple[dict[str, str], dict[str, str]]:
        return {}, {"grace_days": "7"}

    async def colleague(self) -> tuple[dict[str, str], dict[str, str]]:
        return {"operator_id": (await make_operator(self.world)).operator_id}, {}

    async def look(self) -> tuple[dict[str, str], dict[str, str]]:
        await press(self.desk, f"{self.at}/grants", REASON | {"minutes": "15", "access": "read"})
        grant_id = await self.own("select max(grant_id) from support_grants where tenant_id = :tenant")
        return {"grant_id": grant_id}, REASON | {"minutes": "15", "access": "read"}

    async def looking(self) -> tuple[dict[str, str], dict[str, str]]:
        made, _ = await self.look()
        await press(self.desk, f"{self.at}/grants/{made['grant_id']}/enter")
        return {}, {}


TENANT = "/operator/tenants/{tenant_id}"
FORMS: dict[str, tuple[Prepare, dict[str, str]]] = {
    f"{TENANT}/suspend": (Deeds.nothing, {}),
    f"{TENANT}/resume": (Deeds.suspended, {}),
    f"{TENANT}/notes": (Deeds.nothing, {"text": "Logged"}),
    f"{TENANT}/notes/{{note_id}}/remove": (Deeds.note, {}),
    f"{TENANT}/overrides": (Deeds.nothing, {"field": "agents", "value": "5"}),
    f"{TENANT}/overrides/{{override_id}}/revoke": (Deeds.override, {}),
    f"{TENANT}/plan": (Deeds.nothing, {"plan_key": "starter", "trial_days": "0"}),
    f"{TENANT}/invoices/{{invoice_id}}/paid": (Deeds.invoice, {}),
    f"{TENANT}/overage": (Deeds.late, {}),
    f"{TENANT}/deletion": (Deeds.nothing, {"days": "7"}),
    f"{TENANT}/deletion/cancel": (Deeds.deletion, {}),
    f"{TENANT}/sync": (Deeds.nothing, {}),
    f"{TENANT}/grants": (Deeds.nothing, {"minutes": "15", "access": "read"}),
    f"{TENANT}/grants/{{grant_id}}/enter": (Deeds.look, {}),
    f"{TENANT}/grants/{{grant_id}}/end": (Deeds.look, {}),
    "/operator/support/leave": (Deeds.looking, {}),
    "/operator/jobs/{job_id}/replay": (Deeds.job, {}),
    "/operator/events/{event_id}/replay": (Deeds.event, {}),
    "/operator/deliveries/{tenant_id}/{endpoint_id}/{delivery_id}/replay": (Deeds.delivery, {}),
    "/operator/books/{tenant_id}/{invoice_id}/paid": (Deeds.kept, {}),
    "/operator/plans": (Deeds.plan, {}),
    "/operator/plans/{key}/retire": (Deeds.plan, {}),
    "/operator/announcements": (Deeds.announcement, {}),
    "/operator/announcements/{announcement_id}/withdraw": (Deeds.announcement, {}),
    "/operator/flags/{key}": (Deeds.flag, {}),
    "/operator/settings": (Deeds.setting, {}),
    "/operator/operators/{operator_id}/disable": (Deeds.colleague, {}),
    "/operator/logout": (Deeds.nothing, {}),
}
DOOR = ("/operator/login", "/operator/code")
"""Sent without a desk: see the last test."""


async def lines(world: ConsoleWorld, email: str) -> list[str]:
    async with world.services.database.platform() as session:
        told = text("select action from operator_audit where operator_email = :email order by audit_id")
        return list(await session.scalars(told, {"email": email}))


def test_every_form_of_the_room_is_known_here(world: ConsoleWorld) -> None:
    sent = {path for method, path in operator_routes(world.app) if method != "GET"}
    assert sent == {*FORMS, *DOOR}


@pytest.mark.parametrize("path", FORMS)
async def test_a_deed_leaves_a_line(world: ConsoleWorld, path: str) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Logged")
    deeds = Deeds(world, desk, tenant_id)
    prepare, form = FORMS[path]
    try:
        made, typed = await prepare(deeds)
        before = await lines(world, desk.email)
        await press(desk, path.format(tenant_id=tenant_id, **made), typed | form)
        assert len(await lines(world, desk.email)) > len(before)
    finally:
        async with world.services.database.platform() as session:
            await session.execute(text("delete from platform_settings"))


async def test_coming_in_leaves_lines(world: ConsoleWorld) -> None:
    operator, browser, services = await make_operator(world), world.stranger(address="203.0.113.60"), world.services
    await press(browser, "/operator/login", {"email": operator.email, "password": PASSWORD})
    assert (await lines(world, operator.email))[-1] == "operator.password"
    token = await sign_in.prove_password(services.database, operator.email, password=PASSWORD, address="203.0.113.61")
    held = await sign_in.find_session(services.database, token, address="203.0.113.61", stage="password")
    secret = await sign_in.enrolment_secret(services.database, services.keyring, held)
    await press(browser, "/operator/code", {"code": "000000"}, status=401)
    assert (await lines(world, operator.email))[-1] == "operator.code_refused"
    await press(browser, "/operator/code", {"code": code_of(secret)}, status=200)
    assert (await lines(world, operator.email))[-1] == "operator.sign_in"
