"""Opening a session: from a domain key on an allowed page to a token that the chat accepts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.suspension import SENTENCE
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import OriginNotAllowed, TenantSuspended
from stonechat.identity.caller import Caller
from stonechat.identity.lookup import SiteKey, SiteKeys, read_site_key
from stonechat.identity.origins import parse_origin
from stonechat.identity.tokens import SessionTokens
from stonechat.identity.user_tokens import use_user_token, verify_user_token
from stonechat.identity.users import hash_visitor, new_visitor, read_visitor, recognise_user, recognise_visitor

Published = TypeVar("Published")
LoadPublished = Callable[[AsyncSession, UUID, str], Awaitable[Published]]
"""Reads what a room above knows of an agent, `(session, tenant id, agent id)`; raises `AgentNotPublished`."""


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a page sends to open a session. `origin` is the raw `Origin` header."""

    domain_key: str
    origin: str | None
    user_token: str | None = None
    visitor: str | None = None
    ticket: str | None = None


@dataclass(frozen=True, slots=True)
class OpenSession(Generic[Published]):
    """A session just opened."""

    token: str
    expires_at: datetime
    caller: Caller
    visitor: str
    """The visitor secret that the browser is to keep: the one it sent, or a new one."""
    agent: Published
    """What `LoadPublished` read."""


async def open_session(
    database: Database,
    request: SessionRequest,
    *,
    keys: SiteKeys,
    tokens: SessionTokens,
    keyring: Keyring,
    platform_origins: Collection[str],
    load_published: LoadPublished[Published],
) -> OpenSession[Published]:
    """Open a session for whoever sits at the page.

    Raises, in this order, `UnknownDomainKey`, `OriginNotAllowed` or `InvalidTicket`, `TenantSuspended`,
    `InvalidUserToken`, and whatever `load_published` raises; nothing is stored then. The key is read afresh, so that a revoked one opens nothing.
    """
    tenant_id, domain_key_id = await keys.tenant_of(request.domain_key)
    visitor = read_visitor(request.visitor) or new_visitor()
    visitor_hash = hash_visitor(visitor)
    async with database.tenant(tenant_id) as session:
        key = await read_site_key(session, tenant_id, domain_key_id=domain_key_id)
        origin = admitted_origin(request, key, tokens=tokens, platform_origins=platform_origins)
        if key.suspended:
            raise TenantSuspended(SENTENCE)
        if request.user_token is not None:
            user = await verify_user_token(session, tenant_id, token=request.user_token, keyring=keyring)
            await use_user_token(session, tenant_id, user=user, visitor_hash=visitor_hash)
            user_id = await recognise_user(session, tenant_id, user=user, visitor_hash=visitor_hash)
        else:
            user_id = await recognise_visitor(session, tenant_id, visitor_hash=visitor_hash)
        agent = await load_published(session, tenant_id, key.agent_id)
    caller = Caller(
        tenant_id=tenant_id,
        user_id=user_id,
        agent_id=key.agent_id,
        domain_key_id=domain_key_id,
        origin=origin,
        verified=request.user_token is not None,
    )
    token, expires_at = tokens.mint(caller)
    return OpenSession(token, expires_at, caller, visitor, agent)


def admitted_origin(
    request: SessionRequest, key: SiteKey, *, tokens: SessionTokens, platform_origins: Collection[str]
) -> str:
    """The origin that the session is for; raises `OriginNotAllowed` or `InvalidTicket`.

    A frame's requests carry the platform's origin whatever page it stands on, so there a ticket must prove that the
    frame was served for this key, with the key's `frame-ancestors`.
    """
    origin = parse_origin(request.origin) if request.origin is not None else None
    if origin is not None and key.admits(origin):
        return origin
    if origin is not None and origin in platform_origins and request.ticket is not None:
        parent = tokens.verify_ticket(request.ticket, public_key=key.public_key).parent
        return parent if parent is not None and key.admits(parent) else origin
    raise OriginNotAllowed(
        f"Add {origin} to the origins of this domain key." if origin else "The request has no web origin."
    )


async def open_preview_session(
    session: AsyncSession,
    actor: Actor,
    *,
    agent_id: str,
    tokens: SessionTokens,
    grant_id: str | None = None,
    until: datetime | None = None,
) -> tuple[str, datetime, Caller]:
    """A session with an agent's draft for whoever configures it, as an anonymous user of their own.

    An operator's is under a grant, and over by the grant's end, `until`.

    The agent's existence is for the caller to check. Preview conversations of one actor stay together.
    """
    actor.require("write")
    visitor_hash = hash_visitor(f"preview/{actor.kind}/{actor.id}")
    user_id = await recognise_visitor(session, actor.tenant_id, visitor_hash=visitor_hash)
    caller = Caller(tenant_id=actor.tenant_id, user_id=user_id, agent_id=agent_id, preview=True, grant_id=grant_id)
    token, expires_at = tokens.mint(caller, until=until)
    return token, expires_at, caller
