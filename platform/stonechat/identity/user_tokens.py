"""User tokens: short-lived JWTs in which a tenant's own server says who a visitor is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.errors import InvalidUserToken
from stonechat.identity.identity_keys import SECRET_KIND
from stonechat.identity.jose import TokenRefused, VerificationKey, peek_kid, verify
from stonechat.identity.models import IdentityKey, UserTokenUse

MAX_LIFETIME = timedelta(minutes=15)
MAX_EXTERNAL_ID, MAX_NAME, MAX_EMAIL, MAX_JTI = 256, 200, 254, 256
MAX_ATTRIBUTES_BYTES = 4096
_PURGED_AT_ONCE = 50
_LEEWAY = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class VouchedUser:
    """What a verified user token says. None means that the token said nothing about it."""

    external_id: str
    name: str | None
    email: str | None
    attributes: dict[str, Any] | None
    jti: str | None
    expires_at: datetime


async def verify_user_token(session: AsyncSession, tenant_id: UUID, *, token: str, keyring: Keyring) -> VouchedUser:
    """Who the tenant says this is; raises `InvalidUserToken`.

    The reason goes into the problem: it is the site's developer who reads it, and it tells a forger nothing new.
    """
    try:
        kid = peek_kid(token, typ="JWT")
        row, key = await _load_key(session, tenant_id, kid=kid, keyring=keyring)
        claims = verify(
            token,
            keys={kid: key},
            typ="JWT",
            max_lifetime=MAX_LIFETIME,
            audience=None,
            issuer=None,
            leeway=_LEEWAY,
        )
        user = _read_claims(claims)
    except TokenRefused as refused:
        raise InvalidUserToken(
            "Sign a fresh token on your server, with a current identity key.", reason=refused.reason
        ) from None
    await _note_use_of_key(session, row)
    return user


async def use_user_token(session: AsyncSession, tenant_id: UUID, *, user: VouchedUser, visitor_hash: bytes) -> None:
    """Bind a token's `jti` to the first visitor who brings it; raises `InvalidUserToken` for any other visitor."""
    if user.jti is None:
        return
    await _purge(session, tenant_id)
    # Of two requests at once the second waits here for the first to commit, and then finds its row.
    first = await session.scalar(
        insert(UserTokenUse)
        .values(tenant_id=tenant_id, jti=user.jti, visitor_hash=visitor_hash, expires_at=user.expires_at + 2 * _LEEWAY)
        .on_conflict_do_nothing()
        .returning(UserTokenUse.jti)
    )
    if first is not None:
        return
    owner = await session.scalar(
        select(UserTokenUse.visitor_hash).where(UserTokenUse.tenant_id == tenant_id, UserTokenUse.jti == user.jti)
    )
    if owner != visitor_hash:
        raise InvalidUserToken("This token was used by another visitor. Sign a fresh one.", reason="jti_reused")


async def _load_key(
    session: AsyncSession, tenant_id: UUID, *, kid: str, keyring: Keyring
) -> tuple[IdentityKey, VerificationKey]:
    if "\x00" in kid or len(kid) > 128:
        raise TokenRefused("unknown_kid")
    row = await session.scalar(
        select(IdentityKey).where(
            IdentityKey.tenant_id == tenant_id,
            IdentityKey.retired_at.is_(None),
            or_(IdentityKey.kid == kid, IdentityKey.public_keys.has_key(kid)),
        )
    )
    if row is None:
        raise TokenRefused("unknown_kid")
    if row.sealed_secret is not None:
        cipher = await tenant_cipher(session, keyring, tenant_id)
        secret = cipher.open(row.sealed_secret, kind=SECRET_KIND, subject=row.identity_key_id)
        return row, VerificationKey(kid, "HS256", secret)
    public = (row.public_keys or {})[kid]
    return row, VerificationKey(kid, public["alg"], public.get("pem") or public["jwk"])


def _read_claims(claims: dict[str, Any]) -> VouchedUser:
    attributes = claims.get("attributes")
    if attributes is not None and (
        not isinstance(attributes, dict)
        or len(json.dumps(attributes, ensure_ascii=False).encode()) > MAX_ATTRIBUTES_BYTES
    ):
        raise TokenRefused("attributes")
    external_id = _text(claims, "sub", MAX_EXTERNAL_ID)
    if external_id is None:
        raise TokenRefused("sub")
    return VouchedUser(
        external_id=external_id,
        name=_text(claims, "name", MAX_NAME),
        email=_text(claims, "email", MAX_EMAIL),
        attributes=attributes,
        jti=_text(claims, "jti", MAX_JTI),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )


def _text(claims: dict[str, Any], name: str, longest: int) -> str | None:
    value = claims.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > longest:
        raise TokenRefused(name)
    return value


async def _note_use_of_key(session: AsyncSession, row: IdentityKey) -> None:
    now = clock.now()
    if row.last_used_at is None or row.last_used_at < now - timedelta(minutes=1):
        await session.execute(
            update(IdentityKey)
            .where(IdentityKey.tenant_id == row.tenant_id, IdentityKey.identity_key_id == row.identity_key_id)
            .values(last_used_at=now)
        )


async def _purge(session: AsyncSession, tenant_id: UUID) -> None:
    """Forget a few tokens that have expired: each use pays for its predecessors, and the table stays small."""
    expired = (
        select(UserTokenUse.jti)
        .where(UserTokenUse.tenant_id == tenant_id, UserTokenUse.expires_at < clock.now())
        .limit(_PURGED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    await session.execute(
        delete(UserTokenUse).where(UserTokenUse.tenant_id == tenant_id, UserTokenUse.jti.in_(expired))
    )
