"""What operators do to a tenant: suspend and resume, note things, make exceptions from its plan, plan its deletion.

Each is done as an `Actor` of kind `operator` in the tenant's own transaction, which its audit log is part of, and noted in the
operators' log. Verbs get the operators' transaction as `platform` and open the tenant's within it, so that it commits last: it
never tells of what did not happen.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Tenant
from stonechat.accounts.suspension import SuspendedTenantRow
from stonechat.chat.models import RunRow
from stonechat.db.session import Database
from stonechat.errors import Conflict, InvalidInput, NotFound
from stonechat.jobs import enqueue
from stonechat.operator.models import OperatorNoteRow, TenantDeletionRow
from stonechat.operator.operators import Operator, record
from stonechat.plans import overrides
from stonechat.usage.allowance import refresh_allowance

MAX_REASON, MAX_NOTE = 500, 4000
SUSPENSION_JOB = "operator.suspension"
"""Tells billing that a tenant was suspended or resumed; see `tasks.py`."""
DELETION_DAYS = (7, 14, 30, 90)


async def suspend_tenant(
    platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database, reason: str
) -> None:
    """Close the tenant's chats, and its console and API but for reading, exporting and deleting, until it is resumed.

    Answers in the making are stopped. Twice changes nothing. Raises `NotFound`, or `InvalidInput` without a reason.
    """
    reason = checked_reason(reason)
    async with database.tenant(tenant_id) as session:
        await _set_status(session, tenant_id, "suspended")
        await session.execute(
            update(RunRow)
            .where(RunRow.tenant_id == tenant_id, RunRow.status == "running")
            .values(cancel_requested=True)
        )
        values = {"reason": reason, "suspended_by": operator.email, "suspended_at": clock.now()}
        listed = insert(SuspendedTenantRow).values(tenant_id=tenant_id, **values)
        made = await platform.scalar(listed.on_conflict_do_nothing().returning(SuspendedTenantRow.tenant_id))
        if made is not None:
            await enqueue(session, tenant_id, SUSPENSION_JOB, {}, dedupe_key="")
            await record_audit(session, operator.actor(tenant_id), "tenant.suspend", detail={"reason": reason})
            await record(platform, operator, "tenant.suspend", tenant_id=tenant_id, reason=reason)


async def resume_tenant(
    platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database, reason: str
) -> None:
    """Open everything again. Twice changes nothing. Raises `NotFound`, `InvalidInput`, `Conflict` once its deletion has begun."""
    reason = checked_reason(reason)
    row = TenantDeletionRow
    planned = select(row.begun_at).where(row.tenant_id == tenant_id).with_for_update()
    if await platform.scalar(planned) is not None:
        raise Conflict("The deletion of this tenant has begun: parts of it are gone, and it cannot be opened again.")
    async with database.tenant(tenant_id) as session:
        await _set_status(session, tenant_id, "active")
        listed = delete(SuspendedTenantRow).where(SuspendedTenantRow.tenant_id == tenant_id)
        gone = await platform.scalar(listed.returning(SuspendedTenantRow.tenant_id))
        if gone is not None:
            await enqueue(session, tenant_id, SUSPENSION_JOB, {}, dedupe_key="")
            await record_audit(session, operator.actor(tenant_id), "tenant.resume", detail={"reason": reason})
            await record(platform, operator, "tenant.resume", tenant_id=tenant_id, reason=reason)


async def add_note(session: AsyncSession, operator: Operator, tenant_id: UUID, *, text: str) -> None:
    """A note for other operators, in a platform session. Raises `InvalidInput`."""
    text = text.strip()
    if not 1 <= len(text) <= MAX_NOTE or "\x00" in text:
        raise InvalidInput(f"A note has 1 to {MAX_NOTE} characters.")
    note_id = ids.new_id("note")
    session.add(
        OperatorNoteRow(
            note_id=note_id, tenant_id=tenant_id, text=text, operator_email=operator.email, created_at=clock.now()
        )
    )
    await record(session, operator, "note.add", tenant_id=tenant_id, subject_id=note_id)


async def remove_note(session: AsyncSession, operator: Operator, tenant_id: UUID, *, note_id: str) -> None:
    """Raises `NotFound`."""
    row = OperatorNoteRow
    mine = delete(row).where(row.tenant_id == tenant_id, row.note_id == note_id).returning(row.note_id)
    if "\x00" in note_id or await session.scalar(mine) is None:
        raise NotFound("There is no such note.")
    await record(session, operator, "note.remove", tenant_id=tenant_id, subject_id=note_id)


async def add_override(
    platform: AsyncSession,
    operator: Operator,
    tenant_id: UUID,
    *,
    database: Database,
    field: str,
    value: int | bool | None,
    reason: str,
    expires_at: datetime | None,
) -> None:
    """Make an exception from the tenant's plan; it holds from the next question on. Raises `InvalidInput`, `NotFound`."""
    reason = checked_reason(reason)
    async with database.tenant(tenant_id) as session:
        await _require(session, tenant_id)
        made = await overrides.add_override(
            session, tenant_id, field=field, value=value, reason=reason, expires_at=expires_at, by=operator.operator_id
        )
        await refresh_allowance(session, tenant_id)
        detail = {"field": field, "value": value, "expires_at": expires_at.isoformat() if expires_at else None}
        actor = operator.actor(tenant_id)
        await record_audit(session, actor, "plan.override", subject_id=made.id, detail=detail | {"reason": reason})
        await record(
            platform, operator, "plan.override", tenant_id=tenant_id, subject_id=made.id, reason=reason, detail=detail
        )


async def revoke_override(
    platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database, override_id: str
) -> None:
    """End an exception now. Twice changes nothing; raises `NotFound`."""
    async with database.tenant(tenant_id) as session:
        ended = await overrides.revoke_override(session, tenant_id, override_id=override_id)
        await refresh_allowance(session, tenant_id)
        detail = {"field": ended.field}
        actor = operator.actor(tenant_id)
        await record_audit(session, actor, "plan.revoke_override", subject_id=override_id, detail=detail)
        await record(
            platform, operator, "plan.revoke_override", tenant_id=tenant_id, subject_id=override_id, detail=detail
        )


async def plan_deletion(
    platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database, reason: str, days: int
) -> None:
    """Have the tenant deleted after so many days, unless it is called off. Its people are told above every page.

    Raises `InvalidInput`, `NotFound`, or `Conflict` when that is planned already.
    """
    reason = checked_reason(reason)
    if days not in DELETION_DAYS:
        raise InvalidInput(f"Choose {', '.join(map(str, DELETION_DAYS[:-1]))} or {DELETION_DAYS[-1]} days.")
    async with database.tenant(tenant_id) as session:
        tenant = await _require(session, tenant_id)
        due_at = clock.now() + timedelta(days=days)
        values = {
            "tenant_name": tenant.name,
            "reason": reason,
            "asked_by": operator.email,
            "asked_at": clock.now(),
            "due_at": due_at,
        }
        listed = insert(TenantDeletionRow).values(tenant_id=tenant_id, **values).on_conflict_do_nothing()
        if await platform.scalar(listed.returning(TenantDeletionRow.tenant_id)) is None:
            raise Conflict("The deletion of this tenant is planned already.")
        detail = {"reason": reason, "due_at": due_at.isoformat()}
        await record_audit(session, operator.actor(tenant_id), "tenant.plan_deletion", detail=detail)
        await record(platform, operator, "tenant.plan_deletion", tenant_id=tenant_id, reason=reason, detail=detail)


async def call_off_deletion(platform: AsyncSession, operator: Operator, tenant_id: UUID, *, database: Database) -> None:
    """Keep the tenant after all. Raises `NotFound` when nothing is planned, or it has begun."""
    async with database.tenant(tenant_id) as session:
        row = TenantDeletionRow
        planned = delete(row).where(row.tenant_id == tenant_id, row.begun_at.is_(None)).returning(row.tenant_id)
        if await platform.scalar(planned) is None:
            raise NotFound("No deletion is planned, or it has begun.")
        await record_audit(session, operator.actor(tenant_id), "tenant.call_off_deletion")
        await record(platform, operator, "tenant.call_off_deletion", tenant_id=tenant_id)


def checked_reason(reason: str) -> str:
    """The reason on one line. Raises `InvalidInput`."""
    reason = " ".join(reason.split())
    if not 1 <= len(reason) <= MAX_REASON or "\x00" in reason:
        sentence = f"Say why, in at most {MAX_REASON} characters."
        raise InvalidInput(sentence, errors=[{"field": "reason", "message": sentence}])
    return reason


async def _require(session: AsyncSession, tenant_id: UUID) -> Tenant:
    tenant: Tenant | None = await session.scalar(select(Tenant).where(Tenant.tenant_id == tenant_id))
    if tenant is None:
        raise NotFound("There is no such tenant.")
    return tenant


async def _set_status(session: AsyncSession, tenant_id: UUID, status: str) -> None:
    changed = update(Tenant).where(Tenant.tenant_id == tenant_id).values(status=status).returning(Tenant.tenant_id)
    if await session.scalar(changed) is None:
        raise NotFound("There is no such tenant.")
