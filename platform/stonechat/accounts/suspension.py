"""Suspended tenants: their visitors are told so, nothing of theirs costs the platform anything, and what is theirs stays theirs.

Its people and its API keys may read, export and delete; nothing else. Jobs that spend or reach out wait in the queue.

Which tenants are suspended is one short list, in a table of the platform's own. Each process that serves visitors reads it
anew twice a second at most, and only while it is asked: a chat that is open learns of it with its next request, and no turn
waits for a query of its own.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.session import Database
from stonechat.db.tenancy import Base
from stonechat.errors import TenantSuspended

KNOWN_FOR_SECONDS = 0.5
READ_SECONDS = 2.0
SENTENCE = "This chat is paused at the moment. Please contact this site in another way."
"""What visitors are told. Why is between the tenant and the platform."""
FOR_ITS_PEOPLE = (
    "{name} is suspended: you can read, export and delete what there is, and change nothing. "
    "Ask whoever runs this installation."
)
_TAKES_AWAY = ("/delete", "/remove", "/end")
"""How forms end that delete, or that end somebody's rights; they are sent by POST."""
_log = logging.getLogger(__name__)


def is_open_to(method: str, path: str) -> bool:
    """Whether this may be asked for a tenant that is suspended: to read, to export, to delete."""
    return method in ("GET", "HEAD", "DELETE") or path.endswith(_TAKES_AWAY)


class SuspendedTenantRow(Base):
    """A tenant that is suspended, for processes that know no tenant yet. The same stands in `tenants.status`."""

    __tablename__ = "suspended_tenants"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    reason: Mapped[str]
    suspended_by: Mapped[str]
    """An operator's address."""
    suspended_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Suspensions:
    """Which tenants are suspended, as it was half a second ago at most. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._suspended: frozenset[UUID] = frozenset()
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def require_active(self, tenant_id: UUID) -> None:
        """Raise `TenantSuspended` for a tenant that is."""
        if await self.is_suspended(tenant_id):
            raise TenantSuspended(SENTENCE)

    async def is_suspended(self, tenant_id: UUID) -> bool:
        """Whether the tenant is suspended. While the list cannot be read, it is what it was."""
        if asyncio.get_running_loop().time() - self._read_at >= KNOWN_FOR_SECONDS:
            if self._reading is None:
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)
        return tenant_id in self._suspended

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                rows = await self._database.hot.fetch("select tenant_id from suspended_tenants")
            self._suspended = frozenset(row["tenant_id"] for row in rows)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            _log.warning("Which tenants are suspended could not be read: %s: %s", type(error).__name__, error)
        finally:
            self._read_at = asyncio.get_running_loop().time()
            self._reading = None
