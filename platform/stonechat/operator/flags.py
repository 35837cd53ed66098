"""Feature flags: parts of the platform that an operator can switch off for everybody, or on for some first.

A flag is for the platform's own reasons: something misbehaves, or is new. What a customer may use because they pay for it is
`plans`' to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, SwitchedOff
from stonechat.operator.models import FeatureFlagRow
from stonechat.operator.operators import Operator, record

KNOWN_FOR_SECONDS = 2.0
MAX_EXCEPTIONS = 200


@dataclass(frozen=True, slots=True)
class Known:
    """A flag that code asks for."""

    label: str
    about: str
    sentence: str
    """What people are told who come upon it while it is off."""


KNOWN: dict[str, Known] = {
    "sign_up": Known(
        "New accounts",
        "People who sign up by themselves. Invitations to join others go on.",
        "New accounts cannot be opened at the moment. Please try again later.",
    ),
    "web_sources": Known(
        "Reading web sites",
        "Adding web pages, sitemaps and whole sites as sources, and reading one again by hand.",
        "Web sites are not read at the moment. Your other documents are not affected.",
    ),
    "uploads": Known(
        "New documents",
        "Uploading documents and writing texts. What there is stays and is searched.",
        "New documents are not taken at the moment. What you have goes on working.",
    ),
    "publishing": Known(
        "Publishing agents",
        "Making a draft the version that visitors talk to. Drafts can be changed and tried.",
        "Agents cannot be published at the moment. Your draft is kept.",
    ),
}
"""Each is on unless it was switched."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag, as operators see it."""

    key: str
    known: Known
    is_on: bool
    except_tenants: tuple[UUID, ...]
    """For whom it is the other way round."""
    updated_by: str | None
    updated_at: datetime | None


class FeatureFlags:
    """How the flags stand, as they did two seconds ago at most. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows: dict[str, tuple[bool, frozenset[UUID]]] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def is_on(self, key: str, tenant_id: UUID | None = None) -> bool:
        """Whether this part of the platform is on, for this tenant. Raises `KeyError` for a flag that no code knows."""
        KNOWN[key]
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at >= KNOWN_FOR_SECONDS:
            async with self._lock:
                if loop.time() - self._read_at >= KNOWN_FOR_SECONDS:
                    # In a context of its own: it is nobody's request in particular.
                    await asyncio.create_task(self._read(), context=Context())
                    self._read_at = loop.time()
        on, others = self._rows.get(key, (True, frozenset()))
        return on != (tenant_id in others)

    async def require(self, key: str, tenant_id: UUID | None = None) -> None:
        """Raise `SwitchedOff` where it is off."""
        if not await self.is_on(key, tenant_id):
            raise SwitchedOff(KNOWN[key].sentence)

    def forget(self) -> None:
        """Read anew next time: something was changed in this process."""
        self._read_at = float("-inf")

    async def _read(self) -> None:
        async with self._database.directory() as session:
            rows = await session.scalars(select(FeatureFlagRow))
            self._rows = {row.key: (row.is_on, frozenset(row.except_tenants)) for row in rows}


async def list_flags(session: AsyncSession) -> list[Flag]:
    """Every flag that code knows."""
    rows = {row.key: row for row in await session.scalars(select(FeatureFlagRow))}
    return [_view(key, known, rows.get(key)) for key, known in KNOWN.items()]


async def switch(
    session: AsyncSession, operator: Operator, *, key: str, is_on: bool, except_tenants: Collection[UUID] = ()
) -> None:
    """Switch a flag for everybody, with exceptions. Raises `NotFound`, `InvalidInput`."""
    if key not in KNOWN:
        raise NotFound("There is no such flag.")
    others = sorted(set(except_tenants))
    if len(others) > MAX_EXCEPTIONS:
        raise InvalidInput(f"A flag has at most {MAX_EXCEPTIONS} exceptions.")
    values = {"is_on": is_on, "except_tenants": others, "updated_by": operator.email, "updated_at": clock.now()}
    statement = insert(FeatureFlagRow).values(key=key, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=[FeatureFlagRow.key], set_=values))
    detail = {"is_on": is_on, "except": [str(tenant_id) for tenant_id in others]}
    await record(session, operator, "flag.switch", subject_id=key, detail=detail)


def _view(key: str, known: Known, row: FeatureFlagRow | None) -> Flag:
    if row is None:
        return Flag(key, known, is_on=True, except_tenants=(), updated_by=None, updated_at=None)
    return Flag(key, known, row.is_on, tuple(row.except_tenants), row.updated_by, row.updated_at)
