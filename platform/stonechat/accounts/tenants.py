"""Tenants: made, looked at, renamed."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import ids
from stonechat.accounts.actor import Actor, system
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Membership, Tenant
from stonechat.accounts.people import find_or_create_person
from stonechat.db.directory import DirectoryMembership
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound
from stonechat.plans.subscription import start_on_default_plan

MAX_NAME = 200


class TenantView(BaseModel):
    """A tenant, as its members see it."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    name: str
    status: str
    created_at: AwareDatetime


@dataclass(frozen=True)
class CreatedTenant:
    """What `create_tenant` made. An owner without a password needs a set-up link."""

    tenant_id: UUID
    owner_id: str
    owner_is_new: bool
    owner_has_password: bool


async def create_tenant(
    database: Database, *, name: str, owner_email: str, owner_name: str = "", tenant_id: UUID | None = None
) -> CreatedTenant:
    """A new tenant with its owner, on the platform's default plan, in one transaction. Raises `InvalidInput`."""
    tenant_id = tenant_id or ids.new_tenant_id()
    async with database.tenant(tenant_id) as session:
        session.add(Tenant(tenant_id=tenant_id, name=checked_name(name)))
        await session.flush()
        owner, is_new = await find_or_create_person(session, email=owner_email, name=owner_name)
        session.add(Membership(tenant_id=tenant_id, person_id=owner.person_id, role="owner"))
        session.add(DirectoryMembership(person_id=owner.person_id, tenant_id=tenant_id))
        await record_audit(session, system(tenant_id), "tenant.create", detail={"owner": owner.person_id})
        await start_on_default_plan(session, tenant_id)
    return CreatedTenant(tenant_id, owner.person_id, is_new, owner.password_hash is not None)


async def get_tenant(session: AsyncSession, actor: Actor) -> TenantView:
    """The actor's own tenant; `NotFound` when it is gone."""
    actor.require("read")
    return _view(await _load(session, actor.tenant_id))


async def rename_tenant(session: AsyncSession, actor: Actor, *, name: str) -> TenantView:
    """Change the name. The same name changes nothing."""
    actor.require("admin")
    tenant = await _load(session, actor.tenant_id)
    name = checked_name(name)
    if tenant.name != name:
        await record_audit(session, actor, "tenant.rename", detail={"from": tenant.name, "to": name})
        tenant.name = name
        await session.flush()
    return _view(tenant)


async def _load(session: AsyncSession, tenant_id: UUID) -> Tenant:
    tenant = await session.scalar(select(Tenant).where(Tenant.tenant_id == tenant_id))
    if tenant is None:
        raise NotFound("This tenant is gone.")
    return tenant


def checked_name(name: str) -> str:
    """The name without the space around it. Raises `InvalidInput`."""
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or "\x00" in name:
        raise InvalidInput(f"A tenant's name has 1 to {MAX_NAME} characters.")
    return name


def _view(tenant: Tenant) -> TenantView:
    return TenantView(id=tenant.tenant_id, name=tenant.name, status=tenant.status, created_at=tenant.created_at)
