"""`Idempotency-Key` on POST: the same key and request get the first answer again, and nothing is done twice.

A key belongs to the tenant and the API key that sent it, for 24 hours. It is claimed in a transaction of its own before
the route runs. The answer is stored in the route's transaction: the dependency that opens it puts the session where
`SESSION` says. So the effect and the memory of it are committed together, and a claim whose request died can be taken
over after `ABANDONED_AFTER` without doing anything twice. A request that fails gives its key back.

Answers are stored encrypted with the tenant's own key, because some hold secrets that are shown once; so a retry may be
shown the secret again, for as long as the key lives, and the database alone shows it to nobody.

    router = APIRouter(route_class=IdempotentRoute)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import Index, and_, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.api_keys import authenticate_api_key
from stonechat.api.dependencies import services_of
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.errors import BadRequest, Conflict, IdempotencyKeyReused

HEADER = "Idempotency-Key"
SESSION = "tenant_session"
"""Where on `request.state` the route's own session stands."""
KEPT_FOR = timedelta(hours=24)
ABANDONED_AFTER = timedelta(minutes=5)
"""Longer than any request takes."""
MAX_STORED_BYTES = 256 * 1024
_PURGED_AT_ONCE = 20
_SEALED_KIND = "idempotent_response"
_KEY = re.compile(r"[!-~]{1,255}")
_BOUNDARY = re.compile(r'boundary="?([^";,]{1,70})"?', re.IGNORECASE)

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class StoredAnswer(TenantRow):
    """A key that was used: claimed while `status` is null, answered after."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("idempotency_keys_created_at_idx", "tenant_id", "created_at"),)

    scope: Mapped[str] = mapped_column(primary_key=True)
    """Who sent it: `<kind of actor>:<id>`."""
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]
    status: Mapped[int | None]
    media_type: Mapped[str | None]
    sealed_body: Mapped[bytes | None]
    created_at: Mapped[datetime]


@dataclass(frozen=True)
class Claim:
    """The right to answer for a key. `claimed_at` tells this claim from a later one of the same key."""

    actor: Actor
    scope: str
    key: str
    request_hash: bytes
    claimed_at: datetime

    @property
    def subject(self) -> str:
        """What the stored answer is bound to."""
        return f"{self.scope} {self.key}"


@dataclass(frozen=True)
class Idempotency:
    """The keys that were used, in the database."""

    database: Database
    keyring: Keyring

    async def claim(self, actor: Actor, *, key: str, request_hash: bytes) -> Claim | Response:
        """A claim on a new key, or the answer that was given before.

        Raises `IdempotencyKeyReused` for another request, `Conflict` while the first is being worked on.
        """
        now = clock.now()
        claim = Claim(actor, f"{actor.kind}:{actor.id}", key, request_hash, now)
        fresh = {
            "request_hash": request_hash,
            "status": None,
            "media_type": None,
            "sealed_body": None,
            "created_at": now,
        }
        over = or_(
            StoredAnswer.created_at < now - KEPT_FOR,
            and_(StoredAnswer.status.is_(None), StoredAnswer.created_at < now - ABANDONED_AFTER),
        )
        claiming = insert(StoredAnswer).values(tenant_id=actor.tenant_id, scope=claim.scope, key=key, **fresh)
        claiming = claiming.on_conflict_do_update(
            index_elements=[StoredAnswer.tenant_id, StoredAnswer.scope, StoredAnswer.key], set_=fresh, where=over
        )
        async with self.database.tenant(actor.tenant_id) as session:
            if await session.scalar(claiming.returning(StoredAnswer.created_at)) is not None:
                await self._purge(session, actor, now)
                return claim
            return await self._earlier(session, claim)

    async def store(self, session: AsyncSession, claim: Claim, *, response: Response) -> None:
        """Keep the answer, in the transaction of what it tells of. Raises `Conflict` if the claim was taken over."""
        body = bytes(response.body)
        sealed = None
        if len(body) <= MAX_STORED_BYTES:
            cipher = await tenant_cipher(session, self.keyring, claim.actor.tenant_id)
            sealed = cipher.seal(body, kind=_SEALED_KIND, subject=claim.subject)
        answered = update(StoredAnswer).where(_is(claim), StoredAnswer.status.is_(None))
        answered = answered.values(
            status=response.status_code, media_type=response.headers.get("content-type"), sealed_body=sealed
        )
        if await session.scalar(answered.returning(StoredAnswer.key)) is None:
            raise Conflict("This request took too long, and another with the same Idempotency-Key took its place.")

    async def release(self, claim: Claim) -> None:
        """Give the key back, unless an answer was stored."""
        async with self.database.tenant(claim.actor.tenant_id) as session:
            await session.execute(delete(StoredAnswer).where(_is(claim), StoredAnswer.status.is_(None)))

    async def _earlier(self, session: AsyncSession, claim: Claim) -> Response:
        stored = await session.get(StoredAnswer, (claim.actor.tenant_id, claim.scope, claim.key))
        if stored is not None and stored.request_hash != claim.request_hash:
            raise IdempotencyKeyReused("Use a new Idempotency-Key for a new request.")
        if stored is None or stored.status is None:
            raise Conflict(
                "The first request with this Idempotency-Key is still being worked on.", headers={"Retry-After": "1"}
            )
        if stored.sealed_body is None:
            raise Conflict("This was done already, but the answer was too large to be kept. Look at what is there.")
        cipher = await tenant_cipher(session, self.keyring, claim.actor.tenant_id)
        body = cipher.open(stored.sealed_body, kind=_SEALED_KIND, subject=claim.subject)
        headers = {"Idempotency-Replayed": "true"} | ({"content-type": stored.media_type} if stored.media_type else {})
        return Response(body, stored.status, headers)

    async def _purge(self, session: AsyncSession, actor: Actor, now: datetime) -> None:
        """A few expired keys go with each new one, so that a tenant's never pile up."""
        expired = (
            select(StoredAnswer.scope, StoredAnswer.key)
            .where(StoredAnswer.tenant_id == actor.tenant_id, StoredAnswer.created_at < now - KEPT_FOR)
            .limit(_PURGED_AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        for scope, key in (await session.execute(expired)).all():
            mine = (
                (StoredAnswer.tenant_id == actor.tenant_id) & (StoredAnswer.scope == scope) & (StoredAnswer.key == key)
            )
            await session.execute(delete(StoredAnswer).where(mine))


class IdempotentRoute(APIRoute):
    """A route that honours the header on POST; other methods, and requests without it, pass through."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        if "POST" in (options.get("methods") or ()):
            options["openapi_extra"] = {"parameters": [_PARAMETER]} | (options.get("openapi_extra") or {})
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            key = request.headers.get(HEADER)
            if key is None or request.method != "POST":
                return await handler(request)
            return await _answer_once(handler, request, key)

        return handle


_PARAMETER = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "A name of your choice for this request: sent again within 24 hours, it gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


async def _answer_once(handler: Handler, request: Request, key: str) -> Response:
    if not _KEY.fullmatch(key):
        raise BadRequest("An Idempotency-Key has 1 to 255 visible ASCII characters.")
    idempotency = _idempotency_of(request)
    actor = await authenticate_api_key(idempotency.database, request.headers.get("authorization"))
    claim = await idempotency.claim(actor, key=key, request_hash=await _request_hash(request))
    if isinstance(claim, Response):
        return claim

    async def settle(
        kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            await idempotency.release(claim)

    # Runs once the route's dependencies are done with, so that a commit that fails gives the key back too.
    request.scope["fastapi_inner_astack"].push_async_exit(settle)
    response = await handler(request)
    if response.status_code >= 400 or not hasattr(response, "body"):
        await idempotency.release(claim)
        return response
    session: AsyncSession | None = getattr(request.state, SESSION, None)
    if session is not None:
        await idempotency.store(session, claim, response=response)
    else:
        async with idempotency.database.tenant(actor.tenant_id) as own:
            await idempotency.store(own, claim, response=response)
    return response


def _idempotency_of(request: Request) -> Idempotency:
    """Over the process's services, unless the application brought its own."""
    own = getattr(request.app.state, "idempotency", None)
    if isinstance(own, Idempotency):
        return own
    services = services_of(request)
    return Idempotency(services.database, services.keyring)


async def _request_hash(request: Request) -> bytes:
    """What makes two requests the same: method, address, type and content. A multipart boundary is chance."""
    body, kind = await request.body(), request.headers.get("content-type", "")
    boundary = _BOUNDARY.search(kind) if kind.lower().startswith("multipart/") else None
    if boundary is not None:
        body = body.replace(b"--" + boundary[1].encode("latin-1"), b"--")
        kind = kind.partition(";")[0]
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.scope["path"].encode(), request.scope["query_string"], kind.encode()):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(body)
    return digest.digest()


def _is(claim: Claim) -> Any:
    return and_(
        StoredAnswer.tenant_id == claim.actor.tenant_id,
        StoredAnswer.scope == claim.scope,
        StoredAnswer.key == claim.key,
        StoredAnswer.created_at == claim.claimed_at,
    )
