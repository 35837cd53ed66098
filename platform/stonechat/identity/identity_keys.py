"""Identity keys: with which a tenant's own server vouches for its users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.errors import AlreadyExists, InvalidInput, NotFound
from stonechat.identity.jose import ALGORITHMS, Algorithm, TokenRefused, VerificationKey
from stonechat.identity.models import IdentityKey
from stonechat.web import Page, decode_cursor, encode_cursor

MAX_IDENTITY_KEYS = 20
"""Keys of one tenant that are not retired."""
MAX_JWKS_KEYS = 20
SECRET_KIND = "identity_key"
_COMPLAINTS = {
    "key_size": "The key's size is not taken: RSA needs 2048 to 8192 bits.",
    "key_type": "The key does not fit its algorithm. Taken are RSA, and EC on P-256, P-384 or P-521.",
    "key_private": "This is a private key. Send the public half only, and replace the pair: it has been seen.",
}

Kid = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._~:+/=-]+$")]
PublicAlgorithm = Literal["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]


class NewSecretKey(BaseModel):
    """A shared secret, which we make."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["hs256"]


class NewPemKey(BaseModel):
    """A public key in PEM. The algorithm is read off the key unless named."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["pem"]
    public_key: Annotated[str, Field(min_length=1, max_length=8192)]
    algorithm: PublicAlgorithm | None = None
    kid: Kid | None = None


class NewKeySet(BaseModel):
    """A JSON Web Key Set; each key in it needs a `kid`."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["jwks"]
    keys: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_JWKS_KEYS)]


NewIdentityKey = Annotated[NewSecretKey | NewPemKey | NewKeySet, Field(discriminator="kind")]


class IdentityKeyView(BaseModel):
    """An identity key, without its secret."""

    id: str
    kind: Literal["hs256", "pem", "jwks"]
    kid: str
    kids: list[str]
    """The `kid` of each key that it holds: several for a key set."""
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None


class CreatedIdentityKey(IdentityKeyView):
    """A new identity key; the secret of an `hs256` key is shown this once."""

    secret: str | None = None


async def create_identity_key(
    session: AsyncSession, actor: Actor, *, keyring: Keyring, new: NewSecretKey | NewPemKey | NewKeySet
) -> CreatedIdentityKey:
    """A new key. Raises `InvalidInput` for a key that could verify nothing, `AlreadyExists` for a `kid` in use."""
    actor.require("write")
    if await _count(session, actor) >= MAX_IDENTITY_KEYS:
        raise InvalidInput(f"There are at most {MAX_IDENTITY_KEYS} identity keys. Retire one that is no longer used.")
    row = IdentityKey(
        tenant_id=actor.tenant_id, identity_key_id=ids.new_id("idk"), kind=new.kind, created_at=clock.now()
    )
    secret = None
    if isinstance(new, NewSecretKey):
        secret = ids.new_secret("idsec")
        cipher = await tenant_cipher(session, keyring, actor.tenant_id)
        row.kid = row.identity_key_id
        row.sealed_secret = cipher.seal(secret.encode(), kind=SECRET_KIND, subject=row.identity_key_id)
    else:
        row.public_keys = read_public_keys(new, default_kid=row.identity_key_id)
        row.kid = next(iter(row.public_keys))
        await _refuse_kids_in_use(session, actor, list(row.public_keys))
    session.add(row)
    await record_audit(session, actor, "identity_key.create", subject_id=row.identity_key_id, detail={"kind": new.kind})
    return CreatedIdentityKey(**_view(row).model_dump(), secret=secret)


async def list_identity_keys(
    session: AsyncSession, actor: Actor, *, limit: int = 20, cursor: str | None = None
) -> Page[IdentityKeyView]:
    """The keys that are not retired, newest first."""
    actor.require("read")
    chosen = (
        select(IdentityKey)
        .where(IdentityKey.tenant_id == actor.tenant_id, IdentityKey.retired_at.is_(None))
        .order_by(IdentityKey.identity_key_id.desc())
        .limit(limit + 1)
    )
    if cursor is not None:
        chosen = chosen.where(IdentityKey.identity_key_id < decode_cursor(cursor, str)[0])
    rows = list(await session.scalars(chosen))
    next_cursor = encode_cursor(rows[limit - 1].identity_key_id) if len(rows) > limit else None
    return Page(data=[_view(row) for row in rows[:limit]], next_cursor=next_cursor)


async def retire_identity_key(session: AsyncSession, actor: Actor, *, identity_key_id: str) -> None:
    """End a key at once: no new session is opened with a token that it signed. Its secret is wiped."""
    actor.require("write")
    retired = await session.scalar(
        update(IdentityKey)
        .where(
            IdentityKey.tenant_id == actor.tenant_id,
            IdentityKey.identity_key_id == identity_key_id,
            IdentityKey.retired_at.is_(None),
        )
        .values(retired_at=clock.now(), sealed_secret=None)
        .returning(IdentityKey.identity_key_id)
    )
    if retired is None:
        raise NotFound("There is no such identity key.")
    await record_audit(session, actor, "identity_key.retire", subject_id=identity_key_id)


def read_public_keys(new: NewPemKey | NewKeySet, *, default_kid: str) -> dict[str, Any]:
    """What is stored of public keys: `{kid: {"alg", "pem" | "jwk"}}`. Raises `InvalidInput`."""
    if isinstance(new, NewPemKey):
        if "PRIVATE KEY-----" in new.public_key:
            raise _fault("public_key", _COMPLAINTS["key_private"])
        algorithm = _fitting_algorithm(new.public_key, named=new.algorithm, field="public_key")
        return {new.kid or default_kid: {"alg": algorithm, "pem": new.public_key}}
    found: dict[str, Any] = {}
    for index, key in enumerate(new.keys):
        field = f"keys.{index}"
        kid, named = key.get("kid"), key.get("alg")
        if not isinstance(kid, str) or not 0 < len(kid) <= 128 or not kid.isprintable() or kid in found:
            raise _fault(f"{field}.kid", "Each key needs a kid of its own, of at most 128 characters.")
        if named is not None and named not in ALGORITHMS:
            raise _fault(f"{field}.alg", "This algorithm is not taken.")
        algorithm = _fitting_algorithm(key, named=named, field=field)
        kept = ("kty", "n", "e", "crv", "x", "y")
        found[kid] = {"alg": algorithm, "jwk": {name: key[name] for name in kept if name in key}}
    return found


def _fitting_algorithm(key: str | Mapping[str, Any], *, named: Algorithm | None, field: str) -> Algorithm:
    reason = "key_unreadable"
    for algorithm in (named,) if named else tuple(name for name in ALGORITHMS if name != "HS256"):
        try:
            VerificationKey("check", algorithm, key).check()
        except TokenRefused as refused:
            # The first complaint that is about the key, rather than about one algorithm not fitting it.
            reason = refused.reason if reason in ("key_unreadable", "key_type") else reason
        else:
            return algorithm
    raise _fault(field, _COMPLAINTS.get(reason, "No public key could be read from this."))


async def _refuse_kids_in_use(session: AsyncSession, actor: Actor, kids: list[str]) -> None:
    taken = await session.scalar(
        select(IdentityKey.kid)
        .where(
            IdentityKey.tenant_id == actor.tenant_id,
            or_(IdentityKey.kid.in_(kids), *(IdentityKey.public_keys.has_key(kid) for kid in kids)),
        )
        .limit(1)
    )
    if taken is not None:
        raise AlreadyExists("A key with this kid exists, or existed. Give the new one a name of its own.")


def _fault(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"field": field, "message": message}])


async def _count(session: AsyncSession, actor: Actor) -> int:
    counted = select(func.count()).where(IdentityKey.tenant_id == actor.tenant_id, IdentityKey.retired_at.is_(None))
    return await session.scalar(counted) or 0


def _view(row: IdentityKey) -> IdentityKeyView:
    return IdentityKeyView(
        id=row.identity_key_id,
        kind=cast("Literal['hs256', 'pem', 'jwks']", row.kind),
        kid=row.kid,
        kids=list(row.public_keys or [row.kid]),
        created_at=row.created_at,
        last_used_at=row.last_used_at,
    )
