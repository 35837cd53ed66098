"""The audit log: who did what, in the same transaction as what was done. Entries are added, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import and_, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.models import ApiKey, AuditEntry
from stonechat.db.directory import Person
from stonechat.errors import InvalidInput
from stonechat.web.paging import MAX_PAGE, Page, encode_cursor, moment_and_id


class AuditView(BaseModel):
    """One entry, as its tenant sees it."""

    model_config = ConfigDict(frozen=True)

    id: str
    occurred_at: AwareDatetime
    actor_kind: str
    actor_id: str | None
    actor_name: str | None = None
    """The person's name or address, or the API key's name; None for the platform itself and for who is gone."""
    action: str
    subject_id: str | None
    detail: dict[str, Any]


async def record_audit(
    session: AsyncSession,
    actor: Actor,
    action: str,
    *,
    subject_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note that `actor` did `action` (`<noun>.<verb>`) to `subject_id`. `detail` is JSON and holds no secrets."""
    session.add(
        AuditEntry(
            tenant_id=actor.tenant_id,
            occurred_at=clock.now(),
            audit_id=ids.new_id("aud"),
            actor_kind=actor.kind,
            actor_id=actor.id,
            action=action,
            subject_id=subject_id,
            detail=dict(detail or {}),
        )
    )
    await session.flush()


async def list_audit(
    session: AsyncSession,
    actor: Actor,
    *,
    actor_id: str | None = None,
    action: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[AuditView]:
    """The tenant's log, newest first. `action` is `<noun>.<verb>`, or a noun alone for whatever was done to those.

    `since` and `until` are both included.
    """
    actor.require("admin")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_PAGE}.")
    if "\x00" in f"{actor_id}{action}":  # which nothing stored holds, and Postgres does not compare with
        return Page(data=[])
    key = (AuditEntry.occurred_at, AuditEntry.audit_id)
    person = and_(AuditEntry.actor_kind == "person", Person.person_id == AuditEntry.actor_id)
    api_key = and_(
        AuditEntry.actor_kind == "api_key",
        ApiKey.tenant_id == actor.tenant_id,
        ApiKey.api_key_id == AuditEntry.actor_id,
    )
    name = func.coalesce(func.nullif(Person.name, ""), Person.email, ApiKey.name)
    chosen = (
        select(AuditEntry, name)
        .outerjoin(Person, person)
        .outerjoin(ApiKey, api_key)
        .where(AuditEntry.tenant_id == actor.tenant_id)
    )
    if actor_id is not None:
        chosen = chosen.where(AuditEntry.actor_id == actor_id)
    if action is not None:
        exactly = AuditEntry.action == action
        chosen = chosen.where(exactly if "." in action else AuditEntry.action.startswith(f"{action}.", autoescape=True))
    if since is not None:
        chosen = chosen.where(AuditEntry.occurred_at >= since)
    if until is not None:
        chosen = chosen.where(AuditEntry.occurred_at <= until)
    if cursor is not None:
        chosen = chosen.where(tuple_(*key) < tuple_(*moment_and_id(cursor)))
    rows = (await session.execute(chosen.order_by(*(column.desc() for column in key)).limit(limit + 1))).all()
    last = rows[limit - 1][0] if len(rows) > limit else None
    return Page(
        data=[_view(row, name) for row, name in rows[:limit]],
        next_cursor=encode_cursor(last.occurred_at.isoformat(), last.audit_id) if last else None,
    )


def _view(row: AuditEntry, actor_name: str | None) -> AuditView:
    return AuditView(
        id=row.audit_id,
        occurred_at=row.occurred_at,
        actor_kind=row.actor_kind,
        actor_id=row.actor_id,
        actor_name=actor_name,
        action=row.action,
        subject_id=row.subject_id,
        detail=row.detail,
    )
