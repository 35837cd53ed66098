"""Identity in tests: keys, agents, and user tokens signed as a tenant's server would, by another library."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import Actor, system
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.identity.domain_keys import DomainKeyView, NewDomainKey, create_domain_key
from stonechat.identity.identity_keys import CreatedIdentityKey, NewSecretKey, create_identity_key
from stonechat.identity.lookup import SiteKeys
from stonechat.identity.tokens import SessionTokens

PLATFORM = "https://chat.stonechat.example"
SHOP = "https://shop.example"
PLATFORM_KEY = "a platform key for tests, of forty bytes"
KEYRING = Keyring([PLATFORM_KEY])


def session_tokens(keyring: Keyring = KEYRING, issuer: str = PLATFORM) -> SessionTokens:
    return SessionTokens(keyring, issuer=issuer)


def actor_of(tenant_id: UUID) -> Actor:
    return system(tenant_id)


async def make_agent(database: Database, tenant_id: UUID) -> str:
    """A bare row of an agent."""
    agent_id = ids.new_id("agt")
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("insert into agents (tenant_id, agent_id, name, draft) values (:tenant, :agent, 'Robin', '{}')"),
            {"tenant": tenant_id, "agent": agent_id},
        )
    return agent_id


async def make_domain_key(
    database: Database, tenant_id: UUID, *, origins: list[str] | None = None, agent_id: str | None = None
) -> DomainKeyView:
    agent_id = agent_id or await make_agent(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        return await create_domain_key(
            session,
            actor_of(tenant_id),
            agent_id=agent_id,
            new=NewDomainKey(name="Shop", origins=[SHOP] if origins is None else origins),
        )


async def make_secret_key(database: Database, tenant_id: UUID) -> CreatedIdentityKey:
    async with database.tenant(tenant_id) as session:
        return await create_identity_key(session, actor_of(tenant_id), keyring=KEYRING, new=NewSecretKey(kind="hs256"))


def user_token(key: Any, kid: str, *, algorithm: str = "HS256", lifetime: float = 600, **claims: Any) -> str:
    """A user token as PyJWT makes it; a claim given as None is left out."""
    now = int(clock.now().timestamp())
    full = {"sub": "customer-7", "iat": now, "exp": int(now + timedelta(seconds=lifetime).total_seconds())} | claims
    present = {name: value for name, value in full.items() if value is not None}
    return jwt.encode(present, key, algorithm=algorithm, headers={"kid": kid})


def site_keys(database: Database) -> SiteKeys:
    return SiteKeys(database)
