"""A tenant's secrets: values that its tools send along, such as the key of its shop's API.

They are sealed with the tenant's key, named in configurations, and never readable again: a value goes in, is replaced or
deleted, and is opened for one purpose only, to be sent where the configuration that names it says.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import UniqueConstraint, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.db.tenancy import TenantRow
from stonechat.errors import Conflict, InvalidInput, NotFound

SECRET_KIND = "tenant_secret"
MAX_SECRETS = 100
"""Per tenant."""
MAX_NAME_LENGTH = 48
MAX_VALUE_LENGTH = 4000
_NAME = re.compile(rf"[a-z][a-z0-9_-]{{0,{MAX_NAME_LENGTH - 1}}}")


class TenantSecret(TenantRow):
    """A named value, sealed."""

    __tablename__ = "tenant_secrets"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    secret_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    sealed_value: Mapped[bytes]
    revision: Mapped[int] = mapped_column(server_default="1")
    """Grows with every new value."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SecretView(BaseModel):
    """A secret as its tenant sees it: never the value."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    created_at: AwareDatetime
    updated_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class OpenedSecret:
    """A value in memory, for one use."""

    version: str
    """Differs for every value that was ever stored under the name."""
    value: str = field(repr=False)


async def put_secret(session: AsyncSession, actor: Actor, *, keyring: Keyring, name: str, value: str) -> SecretView:
    """Store a value under a name, in place of one that is there. Raises `InvalidInput`, `Conflict`."""
    actor.require("write")
    if not _NAME.fullmatch(name):
        raise _invalid("name", "Use up to 48 lower-case letters, digits, hyphens and underscores, a letter first.")
    # The value becomes a header: a line break would be a second one.
    printable = all(" " <= character <= "~" for character in value)
    if not 1 <= len(value) <= MAX_VALUE_LENGTH or value != value.strip() or not printable:
        raise _invalid("value", f"A secret has 1 to {MAX_VALUE_LENGTH} printable ASCII characters, no space around it.")
    others = (
        select(func.count())
        .select_from(TenantSecret)
        .where(TenantSecret.tenant_id == actor.tenant_id, TenantSecret.name != name)
    )
    if (await session.scalar(others) or 0) >= MAX_SECRETS:
        raise Conflict(f"There are already {MAX_SECRETS} secrets. Delete one that is not used.")
    cipher = await tenant_cipher(session, keyring, actor.tenant_id)
    sealed = cipher.seal(value.encode(), kind=SECRET_KIND, subject=name)
    stored = insert(TenantSecret).values(
        tenant_id=actor.tenant_id, secret_id=ids.new_id("sec"), name=name, sealed_value=sealed
    )
    secret_id = await session.scalar(
        stored.on_conflict_do_update(
            index_elements=["tenant_id", "name"],
            set_={
                "sealed_value": stored.excluded.sealed_value,
                "revision": TenantSecret.revision + 1,
                "updated_at": func.clock_timestamp(),
            },
        ).returning(TenantSecret.secret_id)
    )
    await record_audit(session, actor, "secret.put", subject_id=secret_id, detail={"name": name})
    row = await session.scalar(
        select(TenantSecret)
        .where(TenantSecret.tenant_id == actor.tenant_id, TenantSecret.secret_id == secret_id)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound("There is no such secret.")
    return _view(row)


async def list_secrets(
    session: AsyncSession, actor: Actor, *, limit: int = MAX_SECRETS, after: str | None = None
) -> list[SecretView]:
    """The tenant's secrets by name; those behind the name `after`."""
    actor.require("read")
    chosen = select(TenantSecret).where(TenantSecret.tenant_id == actor.tenant_id)
    if after is not None:
        chosen = chosen.where(TenantSecret.name > after)
    return [_view(row) for row in await session.scalars(chosen.order_by(TenantSecret.name).limit(limit))]


async def delete_secret(session: AsyncSession, actor: Actor, *, secret_id: str) -> None:
    """Delete a secret. Tools that name it fail, and say so to their tenant, until there is one of that name again."""
    actor.require("admin")
    name = await session.scalar(
        delete(TenantSecret)
        .where(TenantSecret.tenant_id == actor.tenant_id, TenantSecret.secret_id == secret_id)
        .returning(TenantSecret.name)
    )
    if name is None:
        raise NotFound("There is no such secret.")
    await record_audit(session, actor, "secret.delete", subject_id=secret_id, detail={"name": name})


async def open_secrets(
    session: AsyncSession, tenant_id: UUID, *, keyring: Keyring, names: Collection[str]
) -> dict[str, OpenedSecret]:
    """The values of these names, as far as there are any. Raises `SecretUnreadable`."""
    if not names:
        return {}
    rows = list(
        await session.scalars(
            select(TenantSecret).where(TenantSecret.tenant_id == tenant_id, TenantSecret.name.in_(names))
        )
    )
    if not rows:
        return {}
    cipher = await tenant_cipher(session, keyring, tenant_id)
    return {
        row.name: OpenedSecret(
            f"{row.secret_id}:{row.revision}",
            cipher.open(row.sealed_value, kind=SECRET_KIND, subject=row.name).decode(),
        )
        for row in rows
    }


def _view(row: TenantSecret) -> SecretView:
    return SecretView(id=row.secret_id, name=row.name, created_at=row.created_at, updated_at=row.updated_at)


def _invalid(field_name: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"field": field_name, "message": message}])
