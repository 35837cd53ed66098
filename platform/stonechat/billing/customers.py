"""Which tenant is which customer, and the lock under which our copy of a customer is replaced."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.models import Membership, Tenant
from stonechat.billing.models import BillingCustomerRow, DirectoryBillingCustomer
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.errors import Conflict, Unavailable
from stonechat.plans.subscription import Provider

LEASE_SECONDS = 120
"""Longer than a sync can take: its calls are bounded. After that, whoever held the lock is taken for dead."""
WAIT_SECONDS = 20.0
MAX_OWNERS = 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Named:
    """Whom invoices are made out to."""

    name: str
    email: str | None


async def get_customer(session: AsyncSession, tenant_id: UUID) -> BillingCustomerRow | None:
    """The tenant's row, as it is now."""
    row = BillingCustomerRow
    return await session.scalar(select(row).where(row.tenant_id == tenant_id).execution_options(populate_existing=True))


async def ensure_customer(session: AsyncSession, tenant_id: UUID, *, provider: Provider) -> BillingCustomerRow:
    """The tenant's row, made if there is none, and locked until the transaction ends."""
    now = clock.now()
    values = {"provider": provider, "metered_from": now, "metered_through": now, "created_at": now}
    row = BillingCustomerRow
    await session.execute(insert(row).values(tenant_id=tenant_id, **values).on_conflict_do_nothing())
    locked = select(row).where(row.tenant_id == tenant_id).with_for_update()
    return (await session.scalars(locked.execution_options(populate_existing=True))).one()


async def register_customer(session: AsyncSession, tenant_id: UUID, customer_id: str) -> str:
    """Note that the tenant is Stripe's `customer_id`, unless it is another by now. Returns which it is.

    Raises `Conflict` for a customer that is another tenant's.
    """
    row = await ensure_customer(session, tenant_id, provider="stripe")
    if row.customer_id is None:
        row.customer_id, row.provider = customer_id, "stripe"
        # Use is told to Stripe from here on; what came before was nobody's to bill.
        row.metered_from = row.metered_through = clock.now()
        await session.flush()
        listed = insert(DirectoryBillingCustomer).values(customer_id=customer_id, tenant_id=tenant_id)
        await session.execute(listed.on_conflict_do_nothing())
        if await tenant_of_customer(session, customer_id) != tenant_id:
            raise Conflict("This customer is another's already.")
    return row.customer_id


async def forget_customer(session: AsyncSession, tenant_id: UUID, customer_id: str) -> None:
    """The customer was deleted at Stripe; a new one is made when the tenant subscribes again."""
    row, listed = BillingCustomerRow, DirectoryBillingCustomer
    await session.execute(
        update(row)
        .where(row.tenant_id == tenant_id, row.customer_id == customer_id)
        .values(customer_id=None, subscription_id=None, has_payment_method=False)
    )
    await session.execute(delete(listed).where(listed.customer_id == customer_id, listed.tenant_id == tenant_id))


async def tenant_of_customer(session: AsyncSession, customer_id: str) -> UUID | None:
    """Whose customer this is; any session may ask."""
    listed = DirectoryBillingCustomer
    return await session.scalar(select(listed.tenant_id).where(listed.customer_id == customer_id))


async def owners_of(session: AsyncSession, tenant_id: UUID) -> list[str]:
    """Addresses of the tenant's owners, who get its mails about money."""
    owners = (
        select(Person.email)
        .join(Membership, Membership.person_id == Person.person_id)
        .where(Membership.tenant_id == tenant_id, Membership.role == "owner")
        .order_by(Membership.created_at, Person.email)
        .limit(MAX_OWNERS)
    )
    return list(await session.scalars(owners))


async def named(session: AsyncSession, tenant_id: UUID) -> Named:
    """The tenant's name, and its first owner's address."""
    name = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == tenant_id))
    owners = await owners_of(session, tenant_id)
    return Named(name or "Stonechat", owners[0] if owners else None)


@dataclass(frozen=True, slots=True)
class SyncLock:
    """The right to replace our copy of one customer."""

    tenant_id: UUID
    token: str

    async def hold(self, session: AsyncSession) -> BillingCustomerRow | None:
        """The customer's row, locked, if the lock is still ours: whoever came too late must not write."""
        row = BillingCustomerRow
        mine = select(row).where(row.tenant_id == self.tenant_id, row.sync_lock == self.token).with_for_update()
        return await session.scalar(mine.execution_options(populate_existing=True))


@asynccontextmanager
async def sync_lock(
    database: Database, tenant_id: UUID, *, wait: float = WAIT_SECONDS
) -> AsyncIterator[SyncLock | None]:
    """One sync of a customer at a time. Holds no connection while Stripe is asked; None for a tenant that is no customer.

    Raises `Unavailable` when another is at it for too long.
    """
    lock = SyncLock(tenant_id, ids.new_id("lock"))
    pause, waited = 0.02, 0.0
    while (taken := await _take(database, lock)) is False:
        if waited >= wait:
            raise Unavailable("The subscription is being looked at already. Try again in a minute.")
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(pause * 2, 0.5)
    if taken is None:
        yield None
        return
    try:
        yield lock
    finally:
        row = BillingCustomerRow
        try:
            async with database.tenant(tenant_id) as session:
                held = update(row).where(row.tenant_id == tenant_id, row.sync_lock == lock.token)
                await session.execute(held.values(sync_lock=None, sync_locked_until=None))
        except Exception:
            # The lease ends by itself; what the caller came to say matters more.
            _log.warning("The lock of a sync was not given back.", exc_info=True)


async def _take(database: Database, lock: SyncLock) -> bool | None:
    """True: ours now. False: another's. None: there is no customer. Leases are the database's time."""
    row = BillingCustomerRow
    now = func.clock_timestamp()
    free = (row.sync_lock.is_(None)) | (row.sync_locked_until < now)
    async with database.tenant(lock.tenant_id) as session:
        taken = await session.scalar(
            update(row)
            .where(row.tenant_id == lock.tenant_id, free)
            .values(sync_lock=lock.token, sync_locked_until=now + text(f"interval '{LEASE_SECONDS} seconds'"))
            .returning(row.tenant_id)
        )
        if taken is not None:
            return True
        known = await session.scalar(select(row.tenant_id).where(row.tenant_id == lock.tenant_id))
        return None if known is None else False
