"""Conversations are kept as long as the plan says, and then deleted with all that hangs on them.

Nothing is deleted by surprise. A plan that keeps conversations for less time is told to the owners by mail and takes hold
`NOTICE` later; one that keeps them longer does at once. When a plan lapses, what it kept is kept on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Select, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped

from stonechat import clock, mail
from stonechat.accounts.actor import system
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Tenant
from stonechat.billing.customers import owners_of
from stonechat.chat.models import Thread
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.models import PlanOverrideRow, TenantPlanRow
from stonechat.plans.platform_settings import DEFAULT_PLAN, get_setting

_log = logging.getLogger(__name__)
NOTICE = timedelta(days=30)
TENANTS_AT_ONCE = 500
THREADS_AT_ONCE, ROUNDS = 500, 40
"""In one transaction, and so many of them for a tenant in a night; what is left goes in the next."""


class ConversationRetentionRow(TenantRow):
    """How long a tenant's conversations are kept at present, and the shorter time that is announced."""

    __tablename__ = "conversation_retention"

    days: Mapped[int | None]
    """None: for ever."""
    next_days: Mapped[int | None]
    next_at: Mapped[datetime | None]
    """When `next_days` takes the place of `days`."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long conversations are kept after their last message; None: for ever."""

    days: int | None
    next_days: int | None
    next_at: datetime | None


async def get_retention(session: AsyncSession, tenant_id: UUID) -> Retention:
    """As it is applied at present."""
    row = await _row(session, tenant_id)
    return Retention(None, None, None) if row is None else Retention(row.days, row.next_days, row.next_at)


async def sweep_retention(database: Database, *, public_url: str) -> int:
    """Once a night: delete every tenant's conversations whose time is over. Returns how many went."""
    gone = 0
    last: UUID | None = None
    while True:
        async with database.platform() as session:
            tenants = list(await session.scalars(_concerned(await get_setting(session, DEFAULT_PLAN), after=last)))
        for tenant_id in tenants:
            try:
                gone += await apply_retention(database, tenant_id, public_url=public_url)
            except Exception:
                _log.exception("could not delete what a tenant keeps no longer", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < TENANTS_AT_ONCE:
            return gone
        last = tenants[-1]


async def apply_retention(database: Database, tenant_id: UUID, *, public_url: str) -> int:
    """Do so for one tenant. Twice changes nothing."""
    async with database.tenant(tenant_id) as session:
        held = await entitlements(session, tenant_id)
        days = await _days_now(session, tenant_id, wanted=days_of(held), public_url=public_url)
    if days is None:
        return 0
    gone = 0
    for _ in range(ROUNDS):
        async with database.tenant(tenant_id) as session:
            deleted = await _delete_older(session, tenant_id, than=clock.now() - timedelta(days=days))
            if deleted:
                detail = {"conversations": deleted, "days": days}
                await record_audit(session, system(tenant_id), "conversation.expire", detail=detail)
        gone += deleted
        if deleted < THREADS_AT_ONCE:
            break
    return gone


def days_of(held: Entitlements) -> int | None:
    """What the plan says; of a lapsed one and what is in its place, whichever keeps longer."""
    if not held.lapsed:
        return held.terms.retention_days
    both = (held.terms.retention_days, held.chosen.retention_days)
    return None if None in both else max(days for days in both if days is not None)


def _concerned(default_plan: object, *, after: UUID | None) -> Select[UUID]:
    """The next tenants that a plan may bound: all where there is a default plan, else those with something of their own."""
    chosen = select(Tenant.tenant_id).order_by(Tenant.tenant_id).limit(TENANTS_AT_ONCE)
    if default_plan is None:
        own = (TenantPlanRow, PlanOverrideRow, ConversationRetentionRow)
        chosen = chosen.where(or_(*(Tenant.tenant_id.in_(select(table.tenant_id)) for table in own)))
    return chosen if after is None else chosen.where(Tenant.tenant_id > after)


async def _days_now(session: AsyncSession, tenant_id: UUID, *, wanted: int | None, public_url: str) -> int | None:
    """What is applied from now on, with the announcement of a shorter time made, kept, or taken back."""
    row = await _row(session, tenant_id, lock=True)
    if row is None:
        if wanted is None:
            return None
        made = insert(ConversationRetentionRow).values(tenant_id=tenant_id)
        await session.execute(made.on_conflict_do_nothing())
        row = await _row(session, tenant_id, lock=True)
        assert row is not None  # noqa: S101  just made, or by someone else
    if wanted is None or (row.days is not None and wanted >= row.days):
        row.days, row.next_days, row.next_at = wanted, None, None
    elif row.next_days != wanted or row.next_at is None:
        # An announcement that was heard holds: a still shorter time waits no longer, and none waits anew.
        row.next_days, row.next_at = wanted, clock.now() + NOTICE
        await _announce(session, tenant_id, days=wanted, at=row.next_at, public_url=public_url)
    elif row.next_at <= clock.now():
        row.days, row.next_days, row.next_at = wanted, None, None
    await session.flush()
    return row.days


async def _announce(session: AsyncSession, tenant_id: UUID, *, days: int, at: datetime, public_url: str) -> None:
    """Write to the owners, if anything would go: whoever has just come has nothing to lose."""
    doomed = select(Thread.thread_id).where(
        Thread.tenant_id == tenant_id, Thread.updated_at < at - timedelta(days=days)
    )
    if await session.scalar(doomed.limit(1)) is None:
        return
    detail = {"days": days, "at": at.isoformat()}
    await record_audit(session, system(tenant_id), "conversation.announce_expiry", detail=detail)
    for address in await owners_of(session, tenant_id):
        letter = mail.compose(
            "retention", to=address, days=days, at=f"{at:%-d %B %Y}", url=f"{public_url}/console/plan"
        )
        await mail.send_mail(session, tenant_id, letter)


async def _delete_older(session: AsyncSession, tenant_id: UUID, *, than: datetime) -> int:
    old: Sequence[str] = (
        await session.scalars(
            select(Thread.thread_id)
            .where(Thread.tenant_id == tenant_id, Thread.updated_at < than)
            .order_by(Thread.seq)
            .limit(THREADS_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
    ).all()
    if not old:
        return 0
    gone = delete(Thread).where(Thread.tenant_id == tenant_id, Thread.thread_id.in_(old), Thread.updated_at < than)
    return len((await session.scalars(gone.returning(Thread.thread_id))).all())


async def _row(session: AsyncSession, tenant_id: UUID, *, lock: bool = False) -> ConversationRetentionRow | None:
    chosen = select(ConversationRetentionRow).where(ConversationRetentionRow.tenant_id == tenant_id)
    chosen = chosen.execution_options(populate_existing=True)
    return await session.scalar(chosen.with_for_update() if lock else chosen)
