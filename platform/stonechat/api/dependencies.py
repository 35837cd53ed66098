"""What routes are handed: the process's services, who is calling, and a transaction of the caller's tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from stonechat.accounts.actor import Actor
from stonechat.accounts.api_keys import authenticate_api_key
from stonechat.accounts.suspension import FOR_ITS_PEOPLE, Suspensions, is_open_to
from stonechat.assistant.cache import ConfigCache
from stonechat.billing.service import BillingService
from stonechat.chat.turns import ChatServer
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.embed.assets import Assets
from stonechat.embed.installs import Installs
from stonechat.embed.stock import StockTroubles
from stonechat.errors import InvalidSession, OriginNotAllowed, TenantSuspended
from stonechat.identity.caller import Caller
from stonechat.identity.lookup import SiteKeys
from stonechat.identity.origins import parse_origin
from stonechat.identity.tokens import SessionTokens
from stonechat.knowledge.deps import Knowledge
from stonechat.limits.limiter import Limiter
from stonechat.operator.bulletin import Bulletin
from stonechat.operator.flags import FeatureFlags
from stonechat.operator.support import is_open
from stonechat.outbound.client import OutboundClient
from stonechat.settings import Settings


@dataclass(frozen=True)
class Services:
    """Everything that a process opens once; `app.state.services`."""

    settings: Settings
    database: Database
    keyring: Keyring
    session_tokens: SessionTokens
    site_keys: SiteKeys
    suspensions: Suspensions
    bulletin: Bulletin
    flags: FeatureFlags
    billing: BillingService
    limiter: Limiter
    knowledge: Knowledge
    outbound: OutboundClient
    configs: ConfigCache
    chat: ChatServer
    assets: Assets
    installs: Installs
    stock_troubles: StockTroubles
    platform_origins: frozenset[str]
    """The origins of the platform's own pages: see `identity.origins.platform_origins`."""


def services_of(connection: HTTPConnection) -> Services:
    """The services of the application that serves this request."""
    services = connection.app.state.services
    assert isinstance(services, Services)  # noqa: S101
    return services


AppServices = Annotated[Services, Depends(services_of)]


async def api_actor(request: Request, services: AppServices) -> Actor:
    """Whose API key this is. Raises `InvalidApiKey`; `TenantSuspended` for a change to a tenant that is."""
    actor = await authenticate_api_key(services.database, request.headers.get("authorization"))
    if not is_open_to(request.method, request.url.path) and await services.suspensions.is_suspended(actor.tenant_id):
        raise TenantSuspended(FOR_ITS_PEOPLE.format(name="This tenant"))
    return actor


ApiActor = Annotated[Actor, Depends(api_actor)]


async def tenant_session(request: Request, actor: ApiActor, services: AppServices) -> AsyncIterator[AsyncSession]:
    """A transaction of the API key's tenant, committed when the route returns and before the response is sent."""
    async with services.database.tenant(actor.tenant_id) as session:
        request.state.tenant_session = session
        yield session


TenantSession = Annotated[AsyncSession, Depends(tenant_session, scope="function")]


def caller_of(connection: HTTPConnection, services: Services) -> Caller:
    """Who calls with a session token: for plain ASGI routes as for `VisitorCaller`. Asks no database.

    Raises `InvalidSession`, or `OriginNotAllowed` where the request comes from a page of another origin than the session's
    and the platform's. Reads by the browser itself (same-origin GET) name no origin; nor do scripts that preview an agent.
    """
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise InvalidSession("Send the session's token: `Authorization: Bearer …`.")
    caller = services.session_tokens.verify(token.strip())
    sent = connection.headers.get("origin")
    if sent is None:
        if caller.preview or connection.scope.get("method") in ("GET", "HEAD"):
            return caller
    else:
        origin = parse_origin(sent)
        if origin is not None and (origin == caller.origin or origin in services.platform_origins):
            return caller
        connection.scope.setdefault("state", {})["cors_refused"] = True
    raise OriginNotAllowed("This session was opened by another site.")


async def require_look(services: Services, caller: Caller) -> None:
    """Raise `InvalidSession` for an operator's preview whose look is over; others cost no query."""
    if caller.grant_id is not None:
        async with services.database.tenant(caller.tenant_id) as session:
            if not await is_open(session, caller.tenant_id, grant_id=caller.grant_id):
                raise InvalidSession("The look that this session was opened under is over.")


async def visitor_caller(request: Request, services: AppServices) -> Caller:
    """The dependency around `caller_of` and `require_look`."""
    caller = caller_of(request, services)
    await require_look(services, caller)
    return caller


VisitorCaller = Annotated[Caller, Depends(visitor_caller)]
