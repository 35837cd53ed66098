"""Domain keys by their public half, for requests that know no tenant yet; remembered for a few seconds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.models import Tenant
from stonechat.db.directory import is_listed_origin, tenant_of_domain_key
from stonechat.db.session import Database
from stonechat.errors import UnknownDomainKey
from stonechat.identity.models import DomainKey
from stonechat.identity.origins import is_allowed, patterns_for

REMEMBERED_FOR = timedelta(seconds=5)
MAX_REMEMBERED = 4096
MAX_KEY_CHARACTERS = 128


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A live domain key, as the embedding page's requests need it."""

    tenant_id: UUID
    domain_key_id: str
    public_key: str
    agent_id: str
    origins: tuple[str, ...]
    openai_domain_key: str | None = None
    suspended: bool = False
    """Whether the tenant was, when this was read; `Suspensions` knows sooner than a key that is remembered."""

    def admits(self, origin: str | None) -> bool:
        """Whether a canonical origin (see `origins.parse_origin`) is on the key's list."""
        return origin is not None and is_allowed(origin, self.origins)


Name = TypeVar("Name", bound=Hashable)
Value = TypeVar("Value")


class _Recent(Generic[Name, Value]):
    """The most recently asked answers, each for a few seconds."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Name, tuple[datetime, Value]] = OrderedDict()

    def get(self, name: Name) -> tuple[Value] | None:
        entry = self._kept.get(name)
        return (entry[1],) if entry is not None and entry[0] > clock.now() else None

    def put(self, name: Name, value: Value) -> None:
        self._kept[name] = (clock.now() + REMEMBERED_FOR, value)
        self._kept.move_to_end(name)
        while len(self._kept) > MAX_REMEMBERED:
            self._kept.popitem(last=False)


class SiteKeys:
    """Answers, from memory where it can, which key and which origins are known. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keys: _Recent[str, SiteKey | None] = _Recent()
        self._origins: _Recent[str, bool] = _Recent()

    async def find(self, public_key: str) -> SiteKey:
        """The key as it was at most five seconds ago; raises `UnknownDomainKey`."""
        kept = self._keys.get(public_key)
        if kept is not None:
            key = kept[0]
        else:
            key = await self._read(public_key)
            self._keys.put(public_key, key)
        if key is None:
            raise UnknownDomainKey("Check the data-domain-key of the page, or make a new key.")
        return key

    async def is_listed(self, origin: str) -> bool:
        """Whether any live key of any tenant admits a canonical origin; for preflights, which name no key."""
        kept = self._origins.get(origin)
        if kept is not None:
            return kept[0]
        async with self._database.directory() as session:
            listed = await is_listed_origin(session, patterns_for(origin))
        self._origins.put(origin, listed)
        return listed

    async def tenant_of(self, public_key: str) -> tuple[UUID, str]:
        """The tenant and id of a key, as the directory has it now; raises `UnknownDomainKey`."""
        found = None
        if public_key.isascii() and 0 < len(public_key) <= MAX_KEY_CHARACTERS and "\x00" not in public_key:
            async with self._database.directory() as session:
                found = await tenant_of_domain_key(session, public_key)
        if found is None:
            raise UnknownDomainKey("Check the data-domain-key of the page, or make a new key.")
        return found

    async def _read(self, public_key: str) -> SiteKey | None:
        try:
            tenant_id, domain_key_id = await self.tenant_of(public_key)
            async with self._database.tenant(tenant_id) as session:
                return await read_site_key(session, tenant_id, domain_key_id=domain_key_id)
        except UnknownDomainKey:
            return None


async def read_site_key(session: AsyncSession, tenant_id: UUID, *, domain_key_id: str) -> SiteKey:
    """The key as it is now. Raises `UnknownDomainKey`, also where it was revoked."""
    found = await session.execute(
        select(DomainKey, Tenant.status)
        .join(Tenant, Tenant.tenant_id == DomainKey.tenant_id)
        .where(
            DomainKey.tenant_id == tenant_id,
            DomainKey.domain_key_id == domain_key_id,
            DomainKey.revoked_at.is_(None),
        )
    )
    kept = found.one_or_none()
    if kept is None:
        raise UnknownDomainKey("This domain key was revoked. Make a new one.")
    row, status = kept
    return SiteKey(
        tenant_id,
        domain_key_id,
        row.public_key,
        row.agent_id,
        tuple(row.origins),
        row.openai_domain_key,
        suspended=status != "active",
    )
