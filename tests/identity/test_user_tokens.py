"""User tokens: what a tenant's server signs is believed, and nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from sqlalchemy import text

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists, InvalidInput, InvalidUserToken, NotFound
from stonechat.identity.identity_keys import (
    MAX_IDENTITY_KEYS,
    NewKeySet,
    NewPemKey,
    NewSecretKey,
    create_identity_key,
    list_identity_keys,
    retire_identity_key,
)
from stonechat.identity.user_tokens import VouchedUser, use_user_token, verify_user_token
from stonechat.identity.users import hash_visitor
from support.identity import KEYRING, actor_of, make_secret_key, user_token

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ADA, BOB = hash_visitor("ada's browser"), hash_visitor("bob's browser")


def pem_of(key: Any) -> str:
    public = key.public_key() if hasattr(key, "public_key") else key
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def jwk_of(key: Any, kid: str, **members: Any) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, **members}


async def read(database: Database, tenant_id: UUID, token: str) -> VouchedUser:
    async with database.tenant(tenant_id) as session:
        return await verify_user_token(session, tenant_id, token=token, keyring=KEYRING)


async def register(database: Database, tenant_id: UUID, new: Any) -> Any:
    async with database.tenant(tenant_id) as session:
        return await create_identity_key(session, actor_of(tenant_id), keyring=KEYRING, new=new)


async def test_a_token_signed_with_the_secret_is_believed(database: Database, tenant_id: UUID) -> None:
    key = await make_secret_key(database, tenant_id)
    claims = {"name": "Ada", "email": "ada@shop.example", "attributes": {"plan": "gold"}, "jti": "j-1"}
    user = await read(database, tenant_id, user_token(key.secret.encode(), key.kid, sub="c-1", **claims))
    assert (user.external_id, user.name, user.email, user.attributes, user.jti) == (
        "c-1",
        "Ada",
        "ada@shop.example",
        {"plan": "gold"},
        "j-1",
    )
    bare = await read(database, tenant_id, user_token(key.secret, key.kid))
    assert (bare.external_id, bare.name, bare.attributes, bare.jti) == ("customer-7", None, None, None)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lifetime": -60}, "lifetime"),
        ({"iat": 1_700_000_000, "exp": 1_700_000_600}, "expired"),
        ({"lifetime": 15 * 60 + 1}, "lifetime"),
        ({"lifetime": 86400}, "lifetime"),
        ({"exp": None}, "time_type"),
        ({"iat": None}, "time_type"),
        ({"exp": 10**20}, "lifetime"),
        ({"sub": None}, "missing_sub"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 257}, "sub"),
        ({"aud": "someone-else"}, "aud"),
        ({"jti": ""}, "jti"),
        ({"jti": "x" * 257}, "jti"),
        ({"name": 7}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"email": ["a"]}, "email"),
        ({"attributes": "gold"}, "attributes"),
        ({"attributes": {"x": "y" * 5000}}, "attributes"),
        ({"algorithm": "HS512"}, "algorithm"),
        ({"name": "a\x00b"}, "claims"),
    ],
)
async def test_a_token_that_breaks_a_rule_is_refused(
    database: Database, tenant_id: UUID, changes: dict[str, Any], reason: str
) -> None:
    key = await make_secret_key(database, tenant_id)
    with pytest.raises(InvalidUserToken) as refused:
        await read(
            database,
            tenant_id,
            user_token(key.secret * 2 if "algorithm" in changes else key.secret, key.kid, **changes),
        )
    assert refused.value.members["reason"] == reason


async def test_the_longest_life_is_fifteen_minutes_exactly(database: Database, tenant_id: UUID) -> None:
    key = await make_secret_key(database, tenant_id)
    assert await read(database, tenant_id, user_token(key.secret, key.kid, lifetime=15 * 60))


async def test_another_tenants_key_vouches_for_nobody_here(database: Database, tenant_id: UUID, make_tenant) -> None:
    ours = await make_secret_key(database, tenant_id)
    theirs = await make_secret_key(database, await make_tenant())
    for token in (
        user_token(theirs.secret, theirs.kid),  # their key, their kid
        user_token(theirs.secret, ours.kid),  # their key under our kid
        user_token("another secret, of thirty-two bytes or more", ours.kid),
    ):
        with pytest.raises(InvalidUserToken):
            await read(database, tenant_id, token)


async def test_a_retired_key_vouches_no_more_and_its_secret_is_gone(database: Database, tenant_id: UUID) -> None:
    old, new = await make_secret_key(database, tenant_id), await make_secret_key(database, tenant_id)
    assert await read(database, tenant_id, user_token(old.secret, old.kid))
    async with database.tenant(tenant_id) as session:
        await retire_identity_key(session, actor_of(tenant_id), identity_key_id=old.id)
        with pytest.raises(NotFound):
            await retire_identity_key(session, actor_of(tenant_id), identity_key_id=old.id)
    with pytest.raises(InvalidUserToken):
        await read(database, tenant_id, user_token(old.secret, old.kid))
    assert await read(database, tenant_id, user_token(new.secret, new.kid))
    async with database.tenant(tenant_id) as session:
        sealed = await session.scalar(
            text("select sealed_secret from identity_keys where identity_key_id = :k"), {"k": old.id}
        )
        listed = await list_identity_keys(session, actor_of(tenant_id))
    assert sealed is None
    assert [key.id for key in listed.data] == [new.id]
    assert listed.data[0].last_used_at is not None


async def test_the_secret_is_stored_sealed_only(database: Database, tenant_id: UUID) -> None:
    key = await make_secret_key(database, tenant_id)
    assert len(key.secret.encode()) >= 32
    async with database.tenant(tenant_id) as session:
        row = await session.execute(text("select * from identity_keys where identity_key_id = :k"), {"k": key.id})
        assert key.secret.encode() not in b"".join(
            bytes(value) for value in row.one() if isinstance(value, bytes | memoryview)
        )
        assert "secret" not in (await list_identity_keys(session, actor_of(tenant_id))).model_dump_json()


@pytest.mark.parametrize(("private", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (EC_384, "ES384")])
async def test_public_keys_in_pem(database: Database, tenant_id: UUID, private: Any, algorithm: str) -> None:
    key = await register(database, tenant_id, NewPemKey(kind="pem", public_key=pem_of(private)))
    assert key.secret is None
    user = await read(database, tenant_id, user_token(private, key.kid, algorithm=algorithm))
    assert user.external_id == "customer-7"
    # The public half must not work as a shared secret.
    with pytest.raises(InvalidUserToken):
        await read(database, tenant_id, user_token("a secret of thirty-two bytes, at least", key.kid))


async def test_the_algorithm_can_be_named(database: Database, tenant_id: UUID) -> None:
    key = await register(
        database, tenant_id, NewPemKey(kind="pem", public_key=pem_of(RSA), algorithm="RS512", kid="mine")
    )
    assert key.kid == "mine"
    assert await read(database, tenant_id, user_token(RSA, "mine", algorithm="RS512"))
    with pytest.raises(InvalidUserToken):
        await read(database, tenant_id, user_token(RSA, "mine", algorithm="RS256"))


async def test_a_key_set_holds_several(database: Database, tenant_id: UUID) -> None:
    key_set = NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a", use="sig"), jwk_of(EC, "b")])
    key = await register(database, tenant_id, key_set)
    assert key.kids == ["a", "b"]
    assert await read(database, tenant_id, user_token(RSA, "a", algorithm="RS256"))
    assert await read(database, tenant_id, user_token(EC, "b", algorithm="ES256"))
    with pytest.raises(InvalidUserToken):
        await read(database, tenant_id, user_token(EC, "a", algorithm="ES256"))
    with pytest.raises(AlreadyExists):
        await register(database, tenant_id, NewPemKey(kind="pem", public_key=pem_of(RSA), kid="b"))


def private_pem() -> str:
    return RSA.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.mark.parametrize(
    "new",
    [
        NewPemKey(kind="pem", public_key="nonsense"),
        NewPemKey(kind="pem", public_key=private_pem()),
        NewPemKey(kind="pem", public_key=pem_of(WEAK_RSA)),
        NewPemKey(kind="pem", public_key=pem_of(EC), algorithm="RS256"),
        NewKeySet(kind="jwks", keys=[{}]),
        NewKeySet(kind="jwks", keys=[{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a"), jwk_of(EC, "a")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a", alg="none")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a", alg="HS256")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a", use="enc")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a", d="AQAB")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "")]),
        NewKeySet(kind="jwks", keys=[jwk_of(RSA, "a\x00")]),
    ],
)
async def test_keys_that_could_verify_nothing_are_refused(database: Database, tenant_id: UUID, new: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        await register(database, tenant_id, new)
    assert refused.value.members["errors"][0]["field"]


async def test_the_number_of_keys_is_bounded(database: Database, tenant_id: UUID) -> None:
    for _ in range(MAX_IDENTITY_KEYS):
        await register(database, tenant_id, NewSecretKey(kind="hs256"))
    with pytest.raises(InvalidInput):
        await register(database, tenant_id, NewSecretKey(kind="hs256"))


def vouched(jti: str | None) -> VouchedUser:
    return VouchedUser("c-1", None, None, None, jti, clock.now() + timedelta(minutes=10))


async def use(database: Database, tenant_id: UUID, jti: str | None, visitor: bytes) -> None:
    async with database.tenant(tenant_id) as session:
        await use_user_token(session, tenant_id, user=vouched(jti), visitor_hash=visitor)


async def test_a_jti_belongs_to_the_visitor_who_brought_it_first(
    database: Database, tenant_id: UUID, make_tenant
) -> None:
    await use(database, tenant_id, "j-1", ADA)
    await use(database, tenant_id, "j-1", ADA)
    with pytest.raises(InvalidUserToken):
        await use(database, tenant_id, "j-1", BOB)
    await use(database, tenant_id, "j-2", BOB)
    await use(database, tenant_id, None, BOB)
    await use(database, await make_tenant(), "j-1", BOB)


async def test_uses_are_forgotten_once_the_token_has_expired(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await use(database, tenant_id, "j-1", ADA)
    later = clock.now() + timedelta(minutes=12)
    monkeypatch.setattr(clock, "now", lambda: later)
    await use(database, tenant_id, "j-2", ADA)
    async with database.tenant(tenant_id) as session:
        kept = await session.scalars(text("select jti from user_token_uses where tenant_id = :t"), {"t": tenant_id})
        assert list(kept) == ["j-2"]
