"""Plans by hand: assigned, invoiced, paid late or not at all, and ended; by the clock, each effect once."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.billing import dunning
from stonechat.billing.dunning import Notice, billing_notice, run_clock, run_clocks
from stonechat.billing.invoices import InvoiceView, get_invoice, list_invoices
from stonechat.billing.manual import ManualBilling, assign_plan, mark_paid, void_invoice
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.errors import BillingOff, Conflict, InvalidInput, NotFound, ScopeMissing
from stonechat.plans.entitlements import entitlements
from stonechat.plans.subscription import Subscription, get_subscription, set_subscription
from stonechat.settings import Settings
from support.billing import Hands, mails_to, paying_tenant

URL = "http://127.0.0.1:8000"


@pytest.fixture
async def acme(database: Database, hands: Hands) -> UUID:
    return await paying_tenant(database)


def operator(tenant_id: UUID) -> Actor:
    return Actor(tenant_id, "operator", "op_1", frozenset({"admin"}))


async def assign(database: Database, tenant_id: UUID, plan: str, **options: int) -> Subscription:
    async with database.tenant(tenant_id) as session:
        return await assign_plan(session, operator(tenant_id), plan_key=plan, **options)


async def tick(database: Database, tenant_id: UUID) -> Subscription:
    """The clock's round, and what the tenant is on after it."""
    await ManualBilling(database, public_url=URL).sync_customer(tenant_id)
    async with database.tenant(tenant_id) as session:
        return await get_subscription(session, tenant_id)


async def invoices(database: Database, tenant_id: UUID) -> list[InvoiceView]:
    async with database.tenant(tenant_id) as session:
        return (await list_invoices(session, operator(tenant_id))).data


async def notice(database: Database, tenant_id: UUID) -> Notice | None:
    async with database.tenant(tenant_id) as session:
        return await billing_notice(session, tenant_id)


async def holds(database: Database, tenant_id: UUID) -> str:
    """The plan whose terms hold."""
    async with database.tenant(tenant_id) as session:
        return (await entitlements(session, tenant_id)).plan.key


async def pay(database: Database, tenant_id: UUID, invoice_id: str) -> InvoiceView:
    async with database.tenant(tenant_id) as session:
        return await mark_paid(session, operator(tenant_id), invoice_id=invoice_id, public_url=URL)


async def test_a_plan_is_assigned_and_invoiced_once(database: Database, acme: UUID) -> None:
    for _ in range(2):
        held = await assign(database, acme, "pro")
    assert (held.plan_key, held.provider, held.status) == ("pro", "manual", "active")
    assert await holds(database, acme) == "pro"
    (invoice,) = await invoices(database, acme)
    assert (invoice.status, invoice.total_cents, invoice.due_cents) == ("open", 9900, 9900)
    assert invoice.number is not None
    assert invoice.number.endswith("-0001")


async def test_months_follow_each_other_each_with_its_invoice(database: Database, acme: UUID, hands: Hands) -> None:
    await assign(database, acme, "pro")
    for month in range(1, 4):
        for invoice in await invoices(database, acme):
            await pay(database, acme, invoice.id)
        hands.move(days=31)
        for _ in range(2):
            held = await tick(database, acme)
        assert held.status == "active"
        assert held.period_end is not None
        assert held.period_end > hands.at
        assert len(await invoices(database, acme)) == month + 1
    numbers = [invoice.number[-4:] for invoice in await invoices(database, acme) if invoice.number]
    assert numbers == ["0004", "0003", "0002", "0001"]


async def test_what_is_overdue_starts_the_grace_clock_and_paying_ends_it(
    database: Database, acme: UUID, hands: Hands
) -> None:
    await assign(database, acme, "pro")
    (invoice,) = await invoices(database, acme)
    hands.move(days=14, minutes=1)
    held = await tick(database, acme)
    assert held.status == "past_due"
    assert await holds(database, acme) == "pro"
    banner = await notice(database, acme)
    assert banner is not None
    assert (banner.kind, banner.severity) == ("past_due", "warning")
    hands.move(days=6)
    for _ in range(2):
        await tick(database, acme)
        await run_clocks(database, public_url=URL)
    hands.move(days=2)
    assert await holds(database, acme) == "free", "before anybody looked"
    for _ in range(2):
        held = await tick(database, acme)
    assert held.status == "unpaid"
    banner = await notice(database, acme)
    assert banner is not None
    assert (banner.kind, banner.severity) == ("unpaid", "error")
    for _ in range(2):
        assert (await pay(database, acme, invoice.id)).status == "paid"
    assert await holds(database, acme) == "pro"
    assert await notice(database, acme) is None
    subjects = await mails_to(database, acme)
    assert [subject.split(" ")[0] for subject in subjects] == ["Your", "Your", "Your", "Thank"]
    assert len(set(subjects)) == 4


async def test_the_clock_alone_ends_a_grace(database: Database, acme: UUID, hands: Hands) -> None:
    await assign(database, acme, "pro")
    hands.move(days=15)
    await tick(database, acme)
    hands.move(days=7)
    await run_clocks(database, public_url=URL)
    async with database.tenant(acme) as session:
        assert (await get_subscription(session, acme)).status == "unpaid"


async def test_a_clock_that_cannot_run_does_not_hold_up_the_others(
    database: Database, acme: UUID, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await paying_tenant(database)
    for tenant_id in (acme, other):
        await assign(database, tenant_id, "starter", trial_days=14)
    hands.move(days=12)

    async def broken(session: AsyncSession, tenant_id: UUID, **options: Any) -> None:
        if tenant_id == acme:
            raise RuntimeError("this tenant's row is broken")
        await run_clock(session, tenant_id, **options)

    monkeypatch.setattr(dunning, "run_clock", broken)
    await run_clocks(database, public_url=URL)
    assert [len(await mails_to(database, tenant_id)) for tenant_id in (acme, other)] == [0, 1]


async def test_a_trial_by_hand_is_followed_by_an_invoice(database: Database, acme: UUID, hands: Hands) -> None:
    held = await assign(database, acme, "starter", trial_days=14)
    assert held.status == "trialing"
    assert await invoices(database, acme) == []
    hands.move(days=12)
    banner = await notice(database, acme)
    assert banner is not None
    assert banner.kind == "trial_ending"
    for _ in range(2):
        await run_clocks(database, public_url=URL)
    assert [subject[:13] for subject in await mails_to(database, acme)] == ["Your trial of"]
    hands.move(days=3)
    held = await tick(database, acme)
    assert held.status == "active"
    assert [invoice.total_cents for invoice in await invoices(database, acme)] == [2900]


async def test_cancelling_ends_it_with_the_period_and_can_be_taken_back(
    database: Database, acme: UUID, hands: Hands
) -> None:
    await assign(database, acme, "pro")
    billing = ManualBilling(database, public_url=URL)
    await billing.cancel(acme, at_period_end=True)
    banner = await notice(database, acme)
    assert banner is not None
    assert banner.kind == "canceling"
    await billing.resume(acme)
    assert await notice(database, acme) is None
    await billing.cancel(acme, at_period_end=True)
    hands.move(days=32)
    held = await tick(database, acme)
    assert held.status == "canceled"
    assert await holds(database, acme) == "free"
    assert len(await invoices(database, acme)) == 1, "no further period began"
    with pytest.raises(BillingOff):
        await billing.resume(acme)
    assert (await assign(database, acme, "starter")).status == "active"


async def test_cancelling_at_once_ends_it_at_once(database: Database, acme: UUID) -> None:
    await assign(database, acme, "pro")
    await ManualBilling(database, public_url=URL).cancel(acme, at_period_end=False)
    assert await holds(database, acme) == "free"


async def test_an_invoice_taken_back_is_not_owed(database: Database, acme: UUID, hands: Hands) -> None:
    await assign(database, acme, "pro")
    (invoice,) = await invoices(database, acme)
    hands.move(days=20)
    assert (await tick(database, acme)).status == "past_due"
    async with database.tenant(acme) as session:
        await void_invoice(session, operator(acme), invoice_id=invoice.id, public_url=URL)
    assert (await tick(database, acme)).status == "active"
    with pytest.raises(Conflict):
        await pay(database, acme, invoice.id)


async def test_a_grace_of_nothing_is_none(database: Database, acme: UUID, hands: Hands) -> None:
    from stonechat.plans.platform_settings import put_setting

    await assign(database, acme, "pro")
    hands.move(days=15)
    async with database.platform() as session:
        await put_setting(session, "grace_days", value=0, by="test")
    try:
        assert (await tick(database, acme)).status == "unpaid"
    finally:
        async with database.platform() as session:
            await put_setting(session, "grace_days", value=None, by="test")


async def test_nobody_sees_or_pays_anothers_invoice(database: Database, acme: UUID) -> None:
    await assign(database, acme, "pro")
    (invoice,) = await invoices(database, acme)
    other = await paying_tenant(database)
    async with database.tenant(other) as session:
        with pytest.raises(NotFound):
            await get_invoice(session, operator(other), invoice_id=invoice.id)
        with pytest.raises(NotFound):
            await mark_paid(session, operator(other), invoice_id=invoice.id, public_url=URL)
    reader = Actor(acme, "api_key", "key_1", frozenset({"read"}))
    async with database.tenant(acme) as session:
        with pytest.raises(ScopeMissing):
            await list_invoices(session, reader)


async def test_invoices_come_in_pages(database: Database, acme: UUID, hands: Hands) -> None:
    await assign(database, acme, "pro")
    hands.move(days=70)
    await tick(database, acme)
    async with database.tenant(acme) as session:
        first = await list_invoices(session, operator(acme), limit=2)
        rest = await list_invoices(session, operator(acme), limit=2, cursor=first.next_cursor)
    assert len(first.data) == 2
    assert len({invoice.id for invoice in (*first.data, *rest.data)}) == 3
    assert rest.next_cursor is None


# Where nothing is sold


async def test_without_billing_nothing_is_sold_and_everything_is_on(database: Database, acme: UUID) -> None:
    service = BillingService(Settings(), database)
    actor = operator(acme)
    assert await service.provider_name() == "none"
    for verb in (
        service.checkout(actor, "pro", return_url=f"{URL}/console/billing"),
        service.portal(actor, return_url=URL),
        service.preview_change(actor, "pro"),
        service.change_plan(actor, "pro"),
        service.cancel(actor),
        service.resume(actor),
    ):
        with pytest.raises(BillingOff):
            await verb
    await service.sync(acme)
    await service.suspended(acme, suspended=True)
    await service.before_deletion(acme)
    assert await holds(database, acme) == "self_hosted"
    assert await notice(database, acme) is None


async def test_the_way_back_leads_to_this_platform(database: Database, acme: UUID) -> None:
    service = BillingService(Settings(), database)
    for url in ("https://elsewhere.example/", f"{URL}.elsewhere.example/", "//elsewhere.example"):
        with pytest.raises(InvalidInput):
            await service.portal(operator(acme), return_url=url)


async def test_a_plan_by_hand_stays_by_hand_where_there_is_stripe(database: Database, acme: UUID) -> None:
    await assign(database, acme, "business")
    settings = Settings().model_copy(update={"stripe_secret_key": _key(), "stripe_api_base": "http://127.0.0.1:9"})
    service = BillingService(settings, database)
    assert await service.provider_name() == "stripe"
    assert (await service.provider(acme)).name == "manual"
    await service.sync(acme)
    assert await holds(database, acme) == "business"
    await service.aclose()


async def test_who_pays_by_stripe_is_not_put_on_a_plan_by_hand(database: Database, acme: UUID) -> None:
    from sqlalchemy import text

    await assign(database, acme, "starter")
    async with database.tenant(acme) as session:
        await session.execute(
            text("update billing_customers set subscription_id = 'sub_1' where tenant_id = :t"), {"t": acme}
        )
        await set_subscription(session, acme, plan_key="pro", provider="stripe", status="active")
    with pytest.raises(Conflict):
        await assign(database, acme, "business")


def _key() -> object:
    from pydantic import SecretStr

    return SecretStr("sk_test_1")
