"""Operators: who may run the platform. They are made on the command line, by whoever holds the machine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.people import find_or_create_person, new_setup_token, setup_url
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.operator.models import OperatorAuditRow, OperatorRow, OperatorSessionRow

MAX_OPERATORS = 200


@dataclass(frozen=True, slots=True)
class Operator:
    """Who does something to the platform: first parameter of every verb here that changes anything."""

    operator_id: str
    person_id: str
    email: str
    name: str
    address: str = ""

    def actor(self, tenant_id: UUID) -> Actor:
        """The same, at work in one tenant: what that tenant's audit log names."""
        return Actor(tenant_id, "operator", self.operator_id, frozenset({"admin"}))


@dataclass(frozen=True, slots=True)
class OperatorView:
    """An operator, as the others see them."""

    operator_id: str
    email: str
    name: str
    has_second_factor: bool
    codes_left: int
    created_at: datetime
    disabled_at: datetime | None


async def create_operator(database: Database, email: str, *, public_url: str) -> dict[str, str | None]:
    """Make somebody an operator; a person is made if nobody has this address. Raises `InvalidInput`.

    Returns `operator_id`, `sign_in_url`, and `setup_url` for a person without a password, null otherwise. Who was an
    operator before is one again, with a second factor to set up anew.
    """
    async with database.directory() as session:
        person, _ = await find_or_create_person(session, email=email)
        url = None
        if person.password_hash is None:
            url = setup_url(public_url, token=await new_setup_token(session, person.person_id))
    fresh: dict[str, Any] = {"totp_sealed": None, "totp_confirmed_at": None, "recovery_hashes": [], "disabled_at": None}
    async with database.platform() as session:
        made = insert(OperatorRow).values(operator_id=ids.new_id("op"), person_id=person.person_id)
        operator_id = await session.scalar(
            made.on_conflict_do_update(index_elements=[OperatorRow.person_id], set_=fresh).returning(
                OperatorRow.operator_id
            )
        )
        await session.execute(delete(OperatorSessionRow).where(OperatorSessionRow.operator_id == operator_id))
        session.add(_entry(None, person.email, "operator.create", subject_id=operator_id))
    return {"operator_id": operator_id, "sign_in_url": f"{public_url}/operator", "setup_url": url}


async def list_operators(session: AsyncSession) -> list[OperatorView]:
    """Everybody who is or was one, by address."""
    chosen = select(OperatorRow, Person).join(Person, Person.person_id == OperatorRow.person_id).order_by(Person.email)
    return [
        OperatorView(
            operator_id=row.operator_id,
            email=person.email,
            name=person.name,
            has_second_factor=row.totp_confirmed_at is not None,
            codes_left=len(row.recovery_hashes),
            created_at=row.created_at,
            disabled_at=row.disabled_at,
        )
        for row, person in await session.execute(chosen.limit(MAX_OPERATORS))
    ]


async def record(
    session: AsyncSession,
    operator: Operator,
    action: str,
    *,
    tenant_id: UUID | None = None,
    subject_id: str | None = None,
    reason: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """Note in the operators' own log that `operator` did `action`. `session` is the platform's; `detail` holds no secrets."""
    session.add(
        _entry(
            operator,
            operator.email,
            action,
            tenant_id=tenant_id,
            subject_id=subject_id,
            reason=reason,
            detail=detail or {},
        )
    )
    await session.flush()


def _entry(operator: Operator | None, email: str, action: str, **values: Any) -> OperatorAuditRow:
    return OperatorAuditRow(
        audit_id=ids.new_id("aud"),
        occurred_at=clock.now(),
        operator_id=operator.operator_id if operator else None,
        operator_email=email,
        address=operator.address[:64] if operator else "command line",
        action=action,
        **values,
    )
