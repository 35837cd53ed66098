"""Deleting tenants: those that fail keep nobody from it, nothing of theirs is left in the queue, and there is no way back."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stonechat.jobs import GiveUp, enqueue
from stonechat.operator import revenue
from stonechat.operator.books import forget_old_invoices
from stonechat.operator.deletion import AT_ONCE, delete_due_tenants
from stonechat.operator.models import TenantDeletionRow
from stonechat.operator.summaries import refresh_summaries
from stonechat.usage.report import today
from support.console import Browser, ConsoleWorld
from support.jobs import running, until
from support.operators import at_desk, press


class Stubborn(SimpleNamespace):
    """A billing that cannot end some tenants' subscriptions."""

    async def before_deletion(self, tenant_id: UUID) -> None:
        if tenant_id in self.stuck:
            raise ConnectionRefusedError("Stripe is away")


async def due(desk: Browser, *tenants: UUID, minutes: int = 1) -> None:
    """Plan the deletion of these, and let so much time pass since they were due."""
    for tenant_id in tenants:
        await press(desk, f"/operator/tenants/{tenant_id}/deletion", {"reason": "Closed", "days": "7"})
    async with desk.world.services.database.platform() as session:
        await session.execute(
            text("update tenant_deletions set due_at = now() - make_interval(mins => :n) where tenant_id = any(:ids)"),
            {"n": minutes, "ids": list(tenants)},
        )


async def sweep(world: ConsoleWorld, *stuck: UUID) -> int:
    billing = Stubborn(stuck=stuck)
    return await delete_due_tenants(world.services.database, world.services.knowledge, billing)  # type: ignore[arg-type]


async def test_tenants_that_cannot_be_deleted_keep_nobody_from_it(world: ConsoleWorld) -> None:
    desk = await at_desk(world)
    stuck = [await world.another_tenant(f"Stuck {number}") for number in range(AT_ONCE)]
    later = await world.another_tenant("Later")
    await due(desk, *stuck, minutes=60)
    await due(desk, later)
    assert await sweep(world, *stuck) == 0
    assert await sweep(world, *stuck) == 1
    async with world.services.database.platform() as session:
        gone = await session.get_one(TenantDeletionRow, later)
        held = await session.get_one(TenantDeletionRow, stuck[0])
    assert gone.done_at is not None
    assert (held.done_at, held.problem) == (None, "ConnectionRefusedError")
    page = await desk.page(f"/operator/tenants/{stuck[0]}")
    assert "failed, the last time with ConnectionRefusedError" in page.text
    assert "Stripe is away" not in page.text
    while await sweep(world):
        pass
    async with world.services.database.platform() as session:
        assert (await session.get_one(TenantDeletionRow, stuck[0])).done_at is not None


async def test_nothing_of_a_deleted_tenant_is_left_in_the_queue(world: ConsoleWorld) -> None:
    services, desk, kind = world.services, await at_desk(world), f"test.{uuid4().hex[:8]}"
    tenant_id, other = await world.another_tenant("Queued"), await world.another_tenant("Neighbour")
    url = services.settings.direct_database_url
    assert url is not None

    async def handler(_tenant_id: UUID, payload: dict[str, object]) -> None:
        if payload["then"] == "give up":
            raise GiveUp("KeyError: the marzipan")
        if payload["then"] == "retry" and len(seen) < 2:
            seen.append("once")
            raise KeyError("the marzipan")

    seen: list[str] = []
    for each in (tenant_id, other):
        async with services.database.tenant(each) as session:
            for then in ("give up", "retry"):
                await enqueue(session, each, kind, {"then": then, "word": "marzipan"})

    async def left() -> dict[str, int]:
        async with services.database.directory() as session:
            counted = await session.execute(
                text("select headers->>'tenant', count(*) from jobs.pgqueuer where entrypoint = :kind group by 1"),
                {"kind": kind},
            )
            return {tenant: number for tenant, number in counted}  # noqa: C416

    async def told() -> int:
        async with services.database.directory() as session:
            logged = "select count(*) from jobs.pgqueuer_log where entrypoint = :kind and traceback is not null"
            return int(await session.scalar(text(logged), {"kind": kind}) or 0)

    async def given_up() -> bool:
        return await left() == {str(tenant_id): 1, str(other): 1} and await told() == 4

    async with running(url, {kind: handler}):
        await until(given_up)  # two wait to be tried again by hand; of the others, only what failed first is left
    async with services.database.tenant(tenant_id) as session:
        await enqueue(session, tenant_id, kind, {"word": "marzipan"})
    await due(desk, tenant_id)
    assert await sweep(world) == 1
    assert await left() == {str(other): 1}
    assert await told() < 4
    async with services.database.directory() as session:
        whole = "select coalesce(string_agg(l::text, ' '), '') from jobs.pgqueuer_log l where entrypoint = :kind"
        log = str(await session.scalar(text(whole), {"kind": kind}))
    assert str(tenant_id) not in log
    assert str(other) in log


async def test_the_log_of_a_deleted_tenants_mails_goes_with_it(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Mailed")
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    email = f"invited-{uuid4().hex[:8]}@example.com"
    await owner.htmx("POST", "/console/invitations", {"email": email, "role": "viewer"})
    assert (await desk.page(f"/operator/mail?recipient={email}")).all("#mails")
    await due(desk, tenant_id)
    assert await sweep(world) == 1
    assert not (await desk.page(f"/operator/mail?recipient={email}")).all("#mails")


async def sums(world: ConsoleWorld) -> tuple[int, int, int]:
    """Invoices, invoiced and paid of this month in the currency of this test alone."""
    await refresh_summaries(world.services.database)
    async with world.services.database.platform() as session:
        months = await revenue.revenue_months(session)
    month = next(row for row in months if (row.month, row.currency) == (today().replace(day=1), "isk"))
    return month.invoices, month.invoiced_cents, month.paid_cents


async def test_the_books_keep_what_a_deleted_tenant_was_invoiced_and_paid(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Billed by hand")
    lines = '[{"description": "Pro", "amount_cents": 900}]'
    async with world.services.database.tenant(tenant_id) as session:
        written = """insert into invoices (tenant_id, invoice_id, provider, number, status, currency, total_cents, tax_cents,
                         due_cents, paid_cents, lines, created_at, paid_at, billed_name)
                     values (:id, 'inv_1', 'manual', 'N-1', 'open', 'isk', 900, 0, 900, 0, :lines, now(), null, 'Old Name Ltd'),
                            (:id, 'inv_2', 'manual', 'N-2', 'paid', 'isk', 700, 0, 0, 700, :lines, now(), now(), null),
                            (:id, 'in_3', 'stripe', 'S-3', 'paid', 'isk', 500, 50, 0, 500, :lines, now(), now(), null),
                            (:id, 'in_4', 'stripe', null, 'draft', 'isk', 300, 0, 300, 0, :lines, now(), null, null)"""
        await session.execute(text(written), {"id": tenant_id, "lines": lines})
    assert await sums(world) == (3, 2_100, 1_200)
    page = await desk.page(f"/operator/tenants/{tenant_id}")
    assert "of each invoice its number, dates, amounts, currency and the name" in page.text
    await due(desk, tenant_id)
    assert await sweep(world) == 1
    async with world.services.database.platform() as session:
        left = "select count(*) from invoices where tenant_id = :id"
        assert await session.scalar(text(left), {"id": tenant_id}) == 0
    assert await sums(world) == (3, 2_100, 1_200), "as before"
    page = await desk.page("/operator/books")
    rows = {row.text(separator=" ").split()[0]: row.text(separator=" ") for row in page.all("#kept tr")}
    assert rows.keys() >= {"N-1", "N-2", "S-3"}
    assert "Old Name Ltd" in rows["N-1"]
    assert "Billed by hand" in rows["N-2"]
    taken = (await desk.page("/operator/books/export")).response.text
    assert f"{tenant_id},inv_1,manual,N-1,Old Name Ltd,open,isk,900,0,0" in taken
    async with world.services.database.platform() as session:
        kept = "select lines::text from kept_invoices where tenant_id = :id order by invoice_id"
        assert list(await session.scalars(text(kept), {"id": tenant_id})) == ["[]", lines, lines]
    for _ in range(2):
        await press(desk, f"/operator/books/{tenant_id}/inv_1/paid")
    await press(desk, f"/operator/books/{tenant_id}/in_3/paid", status=404)
    assert await sums(world) == (3, 2_100, 2_100), "paid after its tenant had gone"


async def test_books_are_the_platforms_own_and_kept_as_long_as_the_law_asks(world: ConsoleWorld) -> None:
    await refused(world, "select * from kept_invoices")
    tenant_id = uuid4()
    async with world.services.database.platform() as session:
        for number, years in ((1, 10), (2, 12)):
            await session.execute(
                text("""insert into kept_invoices (tenant_id, invoice_id, provider, status, currency, total_cents, tax_cents,
                            paid_cents, billed_name, lines, created_at, kept_at)
                        values (:id, :invoice, 'manual', 'paid', 'isk', 1, 0, 1, 'X', '[]', now() - make_interval(years => :n), now())"""),
                {"id": tenant_id, "invoice": f"inv_{number}", "n": years},
            )  # fmt: skip
        await forget_old_invoices(session)
        left = text("select invoice_id from kept_invoices where tenant_id = :id")
        assert list(await session.scalars(left, {"id": tenant_id})) == ["inv_1"]
        await session.execute(text("delete from kept_invoices where tenant_id = :id"), {"id": tenant_id})


async def test_once_its_deletion_has_begun_a_tenant_is_not_opened_again(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Half gone")
    path = f"/operator/tenants/{tenant_id}"
    await due(desk, tenant_id)
    await press(desk, f"{path}/suspend", {"reason": "Closed"})
    await press(desk, f"{path}/resume", {"reason": "Not yet"})  # it is planned, and has not begun
    assert await sweep(world, tenant_id) == 0
    refused = await press(desk, f"{path}/resume", {"reason": "Sorry"}, status=409)
    assert "The deletion of this tenant has begun" in refused.text
    page = await desk.page(path)
    assert "cannot be called off any more" in page.text
    assert not page.all('[commandfor="resume"]')
    await press(desk, f"{path}/deletion/cancel", status=404)
    async with world.services.database.platform() as session:
        status = await session.scalar(text("select status from tenants where tenant_id = :id"), {"id": tenant_id})
    assert status == "suspended"
    assert await sweep(world) == 1


@pytest.mark.parametrize("column", ["reason", "asked_by", "tenant_name", "problem"])
async def test_why_a_tenant_is_deleted_is_not_the_applications_to_read(world: ConsoleWorld, column: str) -> None:
    await refused(world, f"select {column} from tenant_deletions")


@pytest.mark.parametrize("column", ["reason", "suspended_by", "*"])
async def test_why_a_tenant_is_suspended_is_not_the_applications_to_read(world: ConsoleWorld, column: str) -> None:
    await refused(world, f"select {column} from suspended_tenants")


async def refused(world: ConsoleWorld, statement: str) -> None:
    database = world.services.database
    for session_of in (database.directory, lambda: database.tenant(world.tenant_id)):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with session_of() as session:
                await session.execute(text(statement))
