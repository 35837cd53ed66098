"""Break-glass: an operator sees what a tenant and its visitors wrote only under a grant.

A grant has a reason and an end, is for reading unless more was asked for, stands in the tenant's own audit log from the
moment it is asked for, and can be ended by the tenant at any time. A tenant that demands it is asked first: such a grant opens
nothing until an owner or admin of the tenant agrees.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Tenant
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.errors import Conflict, InvalidInput, NotFound, OperatorSignInNeeded
from stonechat.operator.models import OperatorRow
from stonechat.operator.operators import Operator, record

MINUTES = (15, 60, 240, 1440)
"""How long a grant may last: at most a day."""
MAX_REASON = 500
MAX_OPEN = 5
"""Grants of one tenant that are open or wait for consent."""
SHOWN = 50
WAITS_FOR = timedelta(days=7)
"""A grant that nobody agreed to is forgotten after that."""
USED_EVERY = timedelta(minutes=1)
MAX_LOOKS = 2000
_looked: OrderedDict[tuple[str, str], datetime] = OrderedDict()
"""By grant and page, when it was last written down."""
Access = Literal["read", "write"]
State = Literal["waiting", "open", "over"]


class SupportGrantRow(TenantRow):
    """A look into a tenant."""

    __tablename__ = "support_grants"

    grant_id: Mapped[str] = mapped_column(primary_key=True)
    operator_id: Mapped[str]
    operator_name: Mapped[str]
    """As the tenant is told."""
    reason: Mapped[str]
    access: Mapped[str]
    minutes: Mapped[int]
    asked_at: Mapped[datetime]
    approved_at: Mapped[datetime | None]
    approved_by: Mapped[str | None]
    """A person of the tenant; None where it demands no consent."""
    expires_at: Mapped[datetime | None]
    """Set with `approved_at`."""
    ended_at: Mapped[datetime | None]
    ended_by: Mapped[str | None]
    """A person of the tenant, or the operator."""
    last_used_at: Mapped[datetime | None]


class SupportRuleRow(TenantRow):
    """What a tenant demands of the platform's operators; without a row, no consent."""

    __tablename__ = "support_rules"

    consent_needed: Mapped[bool]
    updated_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Grant:
    """A look into a tenant, as both sides see it."""

    id: str
    tenant_id: UUID
    operator_id: str
    operator_name: str
    reason: str
    access: Access
    minutes: int
    state: State
    asked_at: datetime
    approved_at: datetime | None
    expires_at: datetime | None
    ended_at: datetime | None
    last_used_at: datetime | None


async def ask_for_grant(
    platform: AsyncSession,
    operator: Operator,
    tenant_id: UUID,
    *,
    database: Database,
    reason: str,
    minutes: int,
    access: Access = "read",
) -> Grant:
    """Ask to look into a tenant; open at once unless the tenant demands to be asked. Raises `InvalidInput`, `Conflict`."""
    reason = _checked_reason(reason)
    if minutes not in MINUTES:
        raise InvalidInput(f"A grant lasts {', '.join(map(str, MINUTES[:-1]))} or {MINUTES[-1]} minutes.")
    if access not in ("read", "write"):
        raise InvalidInput("A grant is for reading, or for writing too.")
    now = clock.now()
    # Whoever ends this operator's rights meanwhile waits, and ends the look too; or was first.
    able = select(OperatorRow.operator_id).where(OperatorRow.operator_id == operator.operator_id)
    if await platform.scalar(able.where(OperatorRow.disabled_at.is_(None)).with_for_update(read=True)) is None:
        raise OperatorSignInNeeded
    async with database.tenant(tenant_id) as session:
        # One after the other for a tenant, so that what is counted is all there is.
        await session.execute(
            select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id).with_for_update(key_share=True)
        )
        held = (
            select(func.count()).select_from(SupportGrantRow).where(SupportGrantRow.tenant_id == tenant_id, _live(now))
        )
        if (await session.scalar(held) or 0) >= MAX_OPEN:
            raise Conflict(f"At most {MAX_OPEN} grants of a tenant are open at once. End one first.")
        free = not await consent_needed(session, tenant_id)
        row = SupportGrantRow(
            tenant_id=tenant_id,
            grant_id=ids.new_id("sup"),
            operator_id=operator.operator_id,
            operator_name=operator.name or operator.email,
            reason=reason,
            access=access,
            minutes=minutes,
            asked_at=now,
            approved_at=now if free else None,
            approved_by=None,
            expires_at=now + timedelta(minutes=minutes) if free else None,
            ended_at=None,
            ended_by=None,
            last_used_at=None,
        )
        session.add(row)
        await session.flush()
        detail = {"reason": reason, "access": access, "minutes": minutes, "operator": row.operator_name}
        action = "support.open" if free else "support.ask"
        await record_audit(session, operator.actor(tenant_id), action, subject_id=row.grant_id, detail=detail)
        await record(platform, operator, action, tenant_id=tenant_id, subject_id=row.grant_id, reason=reason)
    return _view(row, now)


async def open_grant(
    session: AsyncSession, tenant_id: UUID, *, grant_id: str, operator_id: str
) -> tuple[Grant, Tenant] | None:
    """The operator's own grant if it is open now, and its tenant; notes that it was used. `session` is the tenant's."""
    chosen = select(SupportGrantRow, Tenant).join(Tenant, Tenant.tenant_id == SupportGrantRow.tenant_id)
    mine = (SupportGrantRow.tenant_id == tenant_id) & (SupportGrantRow.grant_id == grant_id.replace("\x00", ""))
    found = (await session.execute(chosen.where(mine))).one_or_none()
    now = clock.now()
    if found is None or found[0].operator_id != operator_id or _state(found[0], now) != "open":
        return None
    row, tenant = found
    if row.last_used_at is None or row.last_used_at < now - USED_EVERY:
        row.last_used_at = now
        await session.flush()
    return _view(row, now), tenant


async def is_open(session: AsyncSession, tenant_id: UUID, *, grant_id: str) -> bool:
    """Whether the grant is open now. `session` is the tenant's."""
    row = await _find(session, tenant_id, grant_id)
    return row is not None and _state(row, clock.now()) == "open"


async def note_look(session: AsyncSession, operator: Operator, grant: Grant, *, page: str) -> None:
    """Write into the tenant's own log which page was looked at; one that is looked at again and again, once a minute."""
    now, look = clock.now(), (grant.id, page)
    if (last := _looked.get(look)) is not None and last > now - USED_EVERY:
        return
    _looked[look] = now
    _looked.move_to_end(look)
    while len(_looked) > MAX_LOOKS:
        _looked.popitem(last=False)
    await record_audit(
        session,
        operator.actor(grant.tenant_id),
        "support.view",
        subject_id=grant.id,
        detail={"page": page[:300], "operator": grant.operator_name},
    )


def forget_look(grant_id: str, *, page: str) -> None:
    """The transaction that `note_look` wrote in was undone: the next look at that page is written down again."""
    _looked.pop((grant_id, page), None)


async def end_grant(
    platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database, grant_id: str
) -> None:
    """The operator is done. Twice changes nothing; raises `NotFound`."""
    async with database.tenant(tenant_id) as session:
        if await _end(session, operator.actor(tenant_id), grant_id=grant_id):
            await record(platform, operator, "support.end", tenant_id=tenant_id, subject_id=grant_id)


async def end_all_grants(platform: AsyncSession, operator: Operator, *, database: Database, operator_id: str) -> int:
    """End every look that another operator has or asked for, in whatever tenants. Returns how many."""
    row, number = SupportGrantRow, 0
    held = await platform.execute(
        select(row.tenant_id, row.grant_id)
        .where(row.operator_id == operator_id, _live(clock.now()))
        .order_by(row.tenant_id, row.grant_id)
    )
    for tenant_id, grant_id in held.all():
        await end_grant(platform, operator, tenant_id, database=database, grant_id=grant_id)
        number += 1
    return number


async def list_grants(session: AsyncSession, tenant_id: UUID) -> list[Grant]:
    """The latest, newest first; what waited too long is over."""
    row = SupportGrantRow
    chosen = select(row).where(row.tenant_id == tenant_id).order_by(row.grant_id.desc()).limit(SHOWN)
    now = clock.now()
    return [_view(found, now) for found in await session.scalars(chosen)]


# The tenant's side


async def consent_needed(session: AsyncSession, tenant_id: UUID) -> bool:
    """Whether the tenant demands to be asked first."""
    rule = SupportRuleRow
    return bool(await session.scalar(select(rule.consent_needed).where(rule.tenant_id == tenant_id)))


async def demand_consent(session: AsyncSession, actor: Actor, *, needed: bool) -> None:
    """From now on operators must ask first, or need not. Open grants stay open until they end or are ended."""
    actor.require("admin")
    _require_member(actor)
    values = {"consent_needed": needed, "updated_at": clock.now()}
    statement = insert(SupportRuleRow).values(tenant_id=actor.tenant_id, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=[SupportRuleRow.tenant_id], set_=values))
    await record_audit(session, actor, "support.rule", detail={"consent_needed": needed})


async def agree_to_grant(session: AsyncSession, actor: Actor, *, grant_id: str) -> Grant:
    """Let the operator in, from now on for as long as was asked. Raises `NotFound`, `Conflict` for one that is over."""
    actor.require("admin")
    _require_member(actor)
    row, now = await _get(session, actor.tenant_id, grant_id), clock.now()
    match _state(row, now):
        case "over":
            raise Conflict("This request is over.")
        case "waiting":
            row.approved_at, row.approved_by = now, actor.id
            row.expires_at = now + timedelta(minutes=row.minutes)
            await session.flush()
            await record_audit(session, actor, "support.agree", subject_id=grant_id)
        case "open":
            pass
    return _view(row, now)


async def refuse_grant(session: AsyncSession, actor: Actor, *, grant_id: str) -> None:
    """End a grant, or refuse one that was asked for: it opens nothing from the next request on. Raises `NotFound`."""
    actor.require("admin")
    _require_member(actor)
    await _end(session, actor, grant_id=grant_id)


def _require_member(actor: Actor) -> None:
    if actor.kind == "operator":
        raise Conflict("This is for the tenant's own people to decide.")


async def _end(session: AsyncSession, actor: Actor, *, grant_id: str) -> bool:
    await _get(session, actor.tenant_id, grant_id)
    row = SupportGrantRow
    mine = (row.tenant_id == actor.tenant_id) & (row.grant_id == grant_id) & row.ended_at.is_(None)
    ended = await session.scalar(
        update(row).where(mine).values(ended_at=clock.now(), ended_by=actor.id).returning(row.grant_id)
    )
    if ended is None:
        return False
    await record_audit(session, actor, "support.end", subject_id=grant_id)
    return True


async def _find(session: AsyncSession, tenant_id: UUID, grant_id: str) -> SupportGrantRow | None:
    row = SupportGrantRow
    mine = select(row).where(row.tenant_id == tenant_id, row.grant_id == grant_id)
    found: SupportGrantRow | None = await session.scalar(mine.execution_options(populate_existing=True))
    return found


async def _get(session: AsyncSession, tenant_id: UUID, grant_id: str) -> SupportGrantRow:
    row = await _find(session, tenant_id, grant_id) if "\x00" not in grant_id else None
    if row is None:
        raise NotFound("There is no such grant.")
    return row


def _live(now: datetime) -> ColumnElement[bool]:
    """In SQL, what `_state` does not call over."""
    row = SupportGrantRow
    waits = row.expires_at.is_(None) & (row.asked_at > now - WAITS_FOR)
    return row.ended_at.is_(None) & (waits | (row.expires_at > now))


def _state(row: SupportGrantRow, now: datetime) -> State:
    if row.ended_at is not None:
        return "over"
    if row.expires_at is None:
        return "waiting" if row.asked_at + WAITS_FOR > now else "over"
    return "open" if row.expires_at > now else "over"


def _view(row: SupportGrantRow, now: datetime) -> Grant:
    return Grant(
        id=row.grant_id,
        tenant_id=row.tenant_id,
        operator_id=row.operator_id,
        operator_name=row.operator_name,
        reason=row.reason,
        access="write" if row.access == "write" else "read",
        minutes=row.minutes,
        state=_state(row, now),
        asked_at=row.asked_at,
        approved_at=row.approved_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        last_used_at=row.last_used_at,
    )


def _checked_reason(reason: str) -> str:
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= MAX_REASON or "\x00" in reason:
        raise InvalidInput(
            f"Say why, in at most {MAX_REASON} characters: the tenant reads it.",
            errors=[{"field": "reason", "message": "Say why: the tenant reads it."}],
        )
    return reason
