"""The operators' own log: who of them did what, to whom, and why. It is added to, and read."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.operator.models import OperatorAuditRow

ROWS = 50
MAX_EXPORTED = 50_000


async def list_entries(
    session: AsyncSession,
    *,
    email: str = "",
    action: str = "",
    before: str = "",
    limit: int = ROWS,
) -> tuple[Sequence[OperatorAuditRow], str | None]:
    """Newest first, and the `before` of the next page. `action` is a whole one, or its first word."""
    row = OperatorAuditRow
    chosen = select(row)
    if "\x00" in f"{email}{action}{before}":
        return [], None
    if email:
        chosen = chosen.where(row.operator_email == email.strip().lower())
    if action:
        fits = row.action == action if "." in action else row.action.startswith(f"{action}.", autoescape=True)
        chosen = chosen.where(fits)
    if before:
        chosen = chosen.where(row.audit_id < before)
    limit = min(limit, MAX_EXPORTED)
    rows = (await session.scalars(chosen.order_by(row.audit_id.desc()).limit(limit + 1))).all()
    return rows[:limit], rows[limit - 1].audit_id if len(rows) > limit else None


async def of_tenant(session: AsyncSession, tenant_id: UUID, *, limit: int) -> Sequence[OperatorAuditRow]:
    """What was done to one tenant, newest first."""
    row = OperatorAuditRow
    chosen = select(row).where(row.tenant_id == tenant_id).order_by(row.audit_id.desc()).limit(limit)
    return (await session.scalars(chosen)).all()
