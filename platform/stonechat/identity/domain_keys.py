"""Domain keys: create, list, change, rotate, revoke."""

from __future__ import annotations

from typing import Annotated, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.directory import DirectoryDomainKey
from stonechat.errors import InvalidInput, NotFound
from stonechat.identity.models import DomainKey
from stonechat.identity.origins import Environment, normalise_origins
from stonechat.web import Page, decode_cursor, encode_cursor

MAX_KEYS = 100
"""Live domain keys of one agent."""

Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
OpenAIDomainKey = Annotated[str, Field(max_length=200, pattern=r"^[A-Za-z0-9_-]+$")]


class NewDomainKey(BaseModel):
    """What a new domain key is made of. An empty list of origins admits no site yet."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    environment: Environment = "production"
    origins: Annotated[list[str], Field(max_length=100)] = []
    openai_domain_key: OpenAIDomainKey | None = None


class DomainKeyPatch(BaseModel):
    """What to change; what is absent stays."""

    model_config = ConfigDict(extra="forbid")

    name: Name | None = None
    environment: Environment | None = None
    origins: Annotated[list[str], Field(max_length=100)] | None = None
    openai_domain_key: OpenAIDomainKey | None = None


class DomainKeyView(BaseModel):
    """A domain key as its tenant sees it."""

    id: str
    key: str
    agent_id: str
    name: str
    environment: Environment
    origins: list[str]
    openai_domain_key: str | None
    created_at: AwareDatetime
    last_seen_at: AwareDatetime | None
    """When a page last showed the chat under this key, within a minute."""
    last_seen_origin: str | None


async def create_domain_key(session: AsyncSession, actor: Actor, *, agent_id: str, new: NewDomainKey) -> DomainKeyView:
    """A new key for an agent, published or not. Raises `NotFound` for the agent, `InvalidInput` for an origin."""
    actor.require("write")
    origins = normalise_origins(new.origins, environment=new.environment)
    if await _count(session, actor, agent_id) >= MAX_KEYS:
        raise InvalidInput(f"An agent has at most {MAX_KEYS} domain keys. Revoke one that is no longer used.")
    row = DomainKey(
        tenant_id=actor.tenant_id,
        domain_key_id=ids.new_id("dk"),
        agent_id=agent_id,
        public_key=ids.new_id("pk"),
        name=new.name,
        environment=new.environment,
        origins=origins,
        openai_domain_key=new.openai_domain_key,
        created_at=clock.now(),
    )
    try:
        async with session.begin_nested():
            session.add(row)
    except IntegrityError:
        raise NotFound("There is no such agent.") from None
    session.add(
        DirectoryDomainKey(
            public_key=row.public_key, tenant_id=actor.tenant_id, domain_key_id=row.domain_key_id, origins=origins
        )
    )
    await record_audit(session, actor, "domain_key.create", subject_id=row.domain_key_id, detail={"agent_id": agent_id})
    return _view(row)


async def list_domain_keys(
    session: AsyncSession, actor: Actor, *, agent_id: str | None = None, limit: int = 20, cursor: str | None = None
) -> Page[DomainKeyView]:
    """The agent's keys that are not revoked, newest first; those of all agents if none is named."""
    actor.require("read")
    chosen = _live(actor).order_by(DomainKey.domain_key_id.desc())
    if agent_id is not None:
        chosen = chosen.where(DomainKey.agent_id == agent_id)
    if cursor is not None:
        chosen = chosen.where(DomainKey.domain_key_id < decode_cursor(cursor, str)[0])
    rows = list(await session.scalars(chosen.limit(limit + 1)))
    next_cursor = encode_cursor(rows[limit - 1].domain_key_id) if len(rows) > limit else None
    return Page(data=[_view(row) for row in rows[:limit]], next_cursor=next_cursor)


async def last_seen_domain_keys(session: AsyncSession, actor: Actor, *, limit: int = 20) -> list[DomainKeyView]:
    """The tenant's live keys under which a page showed the chat, the latest first, those for production before others."""
    actor.require("read")
    chosen = _live(actor).where(DomainKey.last_seen_at.is_not(None))
    order = ((DomainKey.environment == "production").desc(), DomainKey.last_seen_at.desc())
    return [_view(row) for row in await session.scalars(chosen.order_by(*order).limit(limit))]


async def get_domain_key(session: AsyncSession, actor: Actor, *, agent_id: str, domain_key_id: str) -> DomainKeyView:
    """One key; raises `NotFound` also for a revoked one."""
    actor.require("read")
    return _view(await _load(session, actor, agent_id, domain_key_id))


async def patch_domain_key(
    session: AsyncSession, actor: Actor, *, agent_id: str, domain_key_id: str, patch: DomainKeyPatch
) -> DomainKeyView:
    """Change what the patch names. A stricter environment judges the origins anew."""
    actor.require("write")
    row = await _load(session, actor, agent_id, domain_key_id, lock=True)
    changes = patch.model_dump(exclude_unset=True)
    for field in ("name", "environment", "origins"):
        if field in changes and changes[field] is None:
            raise InvalidInput("This cannot be null.", errors=[{"field": field, "message": "Leave it out instead."}])
    environment = changes.get("environment", row.environment)
    changes["origins"] = normalise_origins(changes.get("origins", row.origins), environment=environment)
    for field, value in changes.items():
        setattr(row, field, value)
    await session.execute(
        update(DirectoryDomainKey)
        .where(DirectoryDomainKey.public_key == row.public_key, DirectoryDomainKey.tenant_id == actor.tenant_id)
        .values(origins=row.origins)
    )
    await record_audit(
        session, actor, "domain_key.patch", subject_id=domain_key_id, detail={"fields": sorted(patch.model_fields_set)}
    )
    return _view(row)


async def rotate_domain_key(session: AsyncSession, actor: Actor, *, agent_id: str, domain_key_id: str) -> DomainKeyView:
    """A second key with the same settings. The first goes on working until it is revoked, so that pages can follow."""
    actor.require("write")
    row = await _load(session, actor, agent_id, domain_key_id)
    new = NewDomainKey.model_construct(
        name=row.name,
        environment=cast("Environment", row.environment),
        origins=row.origins,
        openai_domain_key=row.openai_domain_key,
    )
    return await create_domain_key(session, actor, agent_id=agent_id, new=new)


async def revoke_domain_key(session: AsyncSession, actor: Actor, *, agent_id: str, domain_key_id: str) -> None:
    """End a key at once: no session is opened under it any more. Open sessions end within their 15 minutes."""
    actor.require("write")
    row = await _load(session, actor, agent_id, domain_key_id, lock=True)
    row.revoked_at = clock.now()
    await session.execute(
        delete(DirectoryDomainKey).where(
            DirectoryDomainKey.public_key == row.public_key, DirectoryDomainKey.tenant_id == actor.tenant_id
        )
    )
    await record_audit(session, actor, "domain_key.revoke", subject_id=domain_key_id)


def _live(actor: Actor) -> Select[DomainKey]:
    return select(DomainKey).where(DomainKey.tenant_id == actor.tenant_id, DomainKey.revoked_at.is_(None))


async def _load(
    session: AsyncSession, actor: Actor, agent_id: str, domain_key_id: str, *, lock: bool = False
) -> DomainKey:
    chosen = _live(actor).where(DomainKey.agent_id == agent_id, DomainKey.domain_key_id == domain_key_id)
    row = await session.scalar(chosen.with_for_update() if lock else chosen)
    if row is None:
        raise NotFound("There is no such domain key.")
    return row


async def _count(session: AsyncSession, actor: Actor, agent_id: str) -> int:
    live = _live(actor).where(DomainKey.agent_id == agent_id).subquery()
    return await session.scalar(select(func.count()).select_from(live)) or 0


def _view(row: DomainKey) -> DomainKeyView:
    return DomainKeyView(
        id=row.domain_key_id,
        key=row.public_key,
        agent_id=row.agent_id,
        name=row.name,
        environment=cast("Environment", row.environment),
        origins=row.origins,
        openai_domain_key=row.openai_domain_key,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
        last_seen_origin=row.last_seen_origin,
    )
