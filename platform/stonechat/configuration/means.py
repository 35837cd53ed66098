"""What applying a document works with, beside the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from stonechat.crypto.keyring import Keyring
from stonechat.errors import NotFound
from stonechat.files import FileStore
from stonechat.files.store import MAX_NAMES
from stonechat.knowledge.web.access import WebAccess
from stonechat.limits.rules import RulesCache
from stonechat.operator.flags import FeatureFlags
from stonechat.outbound.client import OutboundClient
from stonechat.settings import Settings


@dataclass(frozen=True)
class Means:
    """The process's services, as far as configuration needs them."""

    settings: Settings
    keyring: Keyring
    files: FileStore
    web: WebAccess
    outbound: OutboundClient
    flags: FeatureFlags
    rules: RulesCache


@dataclass
class StagedFiles:
    """A file store that keeps to itself what is put, until `store`: files know no transaction, and what is applied is one.

    It stands between one application of one tenant and the store, and implements `FileStore`.
    """

    files: FileStore
    staged: dict[tuple[UUID, str], bytes | Path | None] = field(default_factory=dict)
    """None for what was deleted."""

    async def put(self, tenant_id: UUID, name: str, *, data: bytes | Path) -> None:
        """Keep it."""
        self.staged[tenant_id, name] = data

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        """What was put, or what is stored."""
        if (tenant_id, name) not in self.staged:
            return await self.files.get(tenant_id, name)
        data = self.staged[tenant_id, name]
        if not isinstance(data, bytes):
            raise NotFound("There is no such file.")
        return data

    async def stream(self, tenant_id: UUID, name: str) -> AsyncIterator[bytes]:
        """What is stored."""
        return await self.files.stream(tenant_id, name)

    async def delete(self, tenant_id: UUID, name: str) -> None:
        """Keep in mind that it goes."""
        self.staged[tenant_id, name] = None

    async def names(self, tenant_id: UUID, folder: str, *, after: str = "", limit: int = MAX_NAMES) -> list[str]:
        """What is stored."""
        return await self.files.names(tenant_id, folder, after=after, limit=limit)

    async def delete_tenant(self, tenant_id: UUID) -> None:
        """What is stored goes at once: applying a document does not ask for it."""
        await self.files.delete_tenant(tenant_id)

    async def aclose(self) -> None:
        """The store belongs to whoever opened it."""

    async def store(self) -> None:
        """Store what was put, and delete what was deleted."""
        for (tenant_id, name), data in self.staged.items():
            if data is None:
                await self.files.delete(tenant_id, name)
            else:
                await self.files.put(tenant_id, name, data=data)
