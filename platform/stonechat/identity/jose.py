"""JSON Web Tokens, behind one strict door: the only importer of python-jose.

The library verifies signatures; everything it is lenient about (missing claims, unknown header members, asymmetric keys
used as HMAC secrets, non-canonical base64, deep nesting) is refused here before or after it runs. A token is taken if

- it is at most 8 KiB of three canonical base64url segments;
- its header has no members but `alg`, `typ` and `kid`, each exactly as the verifier expects;
- `kid` names one key, and that key's own algorithm made the signature;
- `exp` and `iat` are integers, in order, no further apart than the verifier allows, and now lies between them;
- `aud` and `iss` are the expected strings, and every other claim asked for is there.

Whatever else happens, callers see `TokenRefused` and turn it into their own 401.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, lru_cache
from typing import Any, Literal, NoReturn, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
    load_pem_public_key,
)
from jose import jwk, jws
from jose.backends.base import Key
from jose.exceptions import JWSError

from stonechat import clock

Algorithm = Literal["HS256", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
ALGORITHMS: tuple[Algorithm, ...] = get_args(Algorithm)

MAX_TOKEN_CHARACTERS = 8192
MIN_HMAC_BYTES = 32
MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
_MAX_PEM_CHARACTERS = 8192
_MAX_CONTAINERS = 32
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_JWK_MEMBERS = {"RSA": ("n", "e"), "EC": ("crv", "x", "y")}
_SEGMENTS = re.compile(r"([A-Za-z0-9_-]{2,1024})\.([A-Za-z0-9_-]{2,7000})\.([A-Za-z0-9_-]{2,2048})", re.ASCII)
# Which last characters leave no stray bits, by the segment's length modulo 4 (RFC 4648, section 3.5).
_LAST_CHARACTERS = {0: None, 2: frozenset("AQgw"), 3: frozenset("AEIMQUYcgkosw048")}


class TokenRefused(Exception):
    """A token that must not be believed. `reason` is a short code for logs and tests, never shown to the bearer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class VerificationKey:
    """One key of one issuer. It verifies its own algorithm and no other.

    `key` is the secret's bytes for HS256; a public key in PEM, or as a JWK, for the rest. Checking and parsing happen
    on first use and are remembered, so keep instances rather than building one per token.
    """

    kid: str
    algorithm: Algorithm
    key: bytes | str | Mapping[str, Any] = field(repr=False, hash=False)

    def check(self) -> None:
        """Raise `TokenRefused` if this key could never verify anything; for use when a key is registered."""
        _ = self._prepared

    @cached_property
    def _prepared(self) -> Key:
        if self.algorithm not in ALGORITHMS:
            raise TokenRefused("key_algorithm")
        if self.algorithm == "HS256":
            if not isinstance(self.key, bytes):
                raise TokenRefused("key_type")
            return _hmac_key(self.key)
        return _public_key(self.key, self.algorithm)


def sign(claims: Mapping[str, Any], *, key: bytes, kid: str, typ: str) -> str:
    """Sign claims with HS256. Times in `claims` are integers: seconds since the epoch."""
    return jws.sign(dict(claims), _hmac_key(key), headers={"kid": kid, "typ": typ}, algorithm="HS256")


def verify(
    token: str,
    *,
    keys: Mapping[str, VerificationKey],
    typ: str,
    max_lifetime: timedelta,
    audience: str | None,
    issuer: str | None,
    required: Collection[str] = ("sub",),
    leeway: timedelta = timedelta(seconds=30),
) -> dict[str, Any]:
    """The claims of a token that is to be believed; raises `TokenRefused`, and nothing else, otherwise.

    `exp` and `iat` are always required; `required` names the rest. With `audience=None` a token that names an audience
    is refused (it was meant for someone else); with `issuer=None` its `iss` is not looked at.
    """
    try:
        algorithm, kid = _read_header(token, typ)
        key = keys.get(kid)
        if key is None or key.kid != kid:
            raise TokenRefused("unknown_kid")
        if key.algorithm != algorithm:
            raise TokenRefused("algorithm")
        claims = _read_claims(jws.verify(token, key._prepared, [algorithm]))
        _check_names(claims, audience=audience, issuer=issuer, required=required)
        _check_times(claims, max_lifetime=max_lifetime.total_seconds(), leeway=leeway.total_seconds())
    except TokenRefused:
        raise
    except Exception as error:
        raise TokenRefused("signature" if isinstance(error, JWSError) else "malformed") from None
    return claims


def peek_kid(token: str, *, typ: str) -> str:
    """The `kid` that a token claims, for choosing which keys to load; nothing about it is verified."""
    try:
        return _read_header(token, typ)[1]
    except TokenRefused:
        raise
    except Exception:
        raise TokenRefused("malformed") from None


def _read_header(token: str, typ: str) -> tuple[str, str]:
    if not isinstance(token, str) or len(token) > MAX_TOKEN_CHARACTERS:
        raise TokenRefused("shape")
    match = _SEGMENTS.fullmatch(token)
    if match is None:
        raise TokenRefused("shape")
    header, payload, signature = match.groups()
    for segment in (header, payload, signature):
        remainder = len(segment) % 4
        if remainder == 1:
            raise TokenRefused("encoding")
        last = _LAST_CHARACTERS[remainder]
        if last is not None and segment[-1] not in last:
            raise TokenRefused("encoding")
    algorithm, found_typ, kid = _parse_header(header)
    if found_typ != typ:
        raise TokenRefused("typ")
    return algorithm, kid


@lru_cache(maxsize=512)
def _parse_header(segment: str) -> tuple[str, str, str]:
    """Purely syntactic, hence safe to remember: the same text always says the same."""
    raw = _decode(segment)
    if raw.count(b"{") + raw.count(b"[") > 1:
        raise TokenRefused("header")
    header = _loads(raw)
    if not isinstance(header, dict) or header.keys() != {"alg", "typ", "kid"}:
        raise TokenRefused("header")
    algorithm, typ, kid = header["alg"], header["typ"], header["kid"]
    if not (isinstance(algorithm, str) and isinstance(typ, str) and isinstance(kid, str) and kid):
        raise TokenRefused("header")
    return algorithm, typ, kid


def _read_claims(raw: bytes) -> dict[str, Any]:
    if raw.count(b"{") + raw.count(b"[") > _MAX_CONTAINERS:
        raise TokenRefused("depth")
    claims = _loads(raw)
    if not isinstance(claims, dict):
        raise TokenRefused("claims")
    if b"\\u" in raw:
        # Lone surrogates and NUL survive JSON but not Postgres.
        text = json.dumps(claims, ensure_ascii=False)
        text.encode()
        if "\\u0000" in text:
            raise TokenRefused("claims")
    return claims


def _check_names(
    claims: Mapping[str, Any], *, audience: str | None, issuer: str | None, required: Collection[str]
) -> None:
    for name in required:
        if name not in claims:
            raise TokenRefused(f"missing_{name}")
    for name in ("sub", "jti"):
        if name in claims and not (isinstance(claims[name], str) and claims[name]):
            raise TokenRefused(name)
    if audience is None:
        if "aud" in claims:
            raise TokenRefused("aud")
    elif claims.get("aud") != audience:
        raise TokenRefused("aud")
    if issuer is not None and claims.get("iss") != issuer:
        raise TokenRefused("iss")


def _check_times(claims: Mapping[str, Any], *, max_lifetime: float, leeway: float) -> None:
    now = clock.now().timestamp()
    expires, issued, not_before = claims.get("exp"), claims.get("iat"), claims.get("nbf", 0)
    # type() and not isinstance(): True is an int.
    if type(expires) is not int or type(issued) is not int or type(not_before) is not int:
        raise TokenRefused("time_type")
    if issued < 0 or expires <= issued or expires - issued > max_lifetime:
        raise TokenRefused("lifetime")
    if issued > now + leeway or not_before > now + leeway:
        raise TokenRefused("not_yet_valid")
    if expires + leeway <= now:
        raise TokenRefused("expired")


def _decode(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise TokenRefused("duplicate_member")
    return members


def _no_constant(_: str) -> NoReturn:
    raise TokenRefused("not_json")


# One decoder, built once. NaN and Infinity are not JSON, and a member named twice means two things to two readers.
_JSON = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _loads(raw: bytes) -> Any:
    return _JSON.decode(raw.decode("utf-8"))


@lru_cache(maxsize=256)
def _hmac_key(secret: bytes) -> Key:
    """An HS256 key. python-jose would take a published public key as a secret (CVE-2026-85394): never here."""
    if not isinstance(secret, bytes) or len(secret) < MIN_HMAC_BYTES:
        raise TokenRefused("key_too_short")
    if b"-----BEGIN" in secret or b"---- BEGIN" in secret:
        raise TokenRefused("key_asymmetric")
    for load in (load_der_public_key, lambda der: load_der_private_key(der, None), x509.load_der_x509_certificate):
        try:
            load(secret)
        except Exception:  # noqa: S112  # not that kind of key, which is what is wanted
            continue
        raise TokenRefused("key_asymmetric")
    try:
        return jwk.construct(secret, "HS256")
    except Exception:
        raise TokenRefused("key_asymmetric") from None  # an SSH key


def _public_key(key: bytes | str | Mapping[str, Any], algorithm: str) -> Key:
    try:
        public = _from_jwk(key, algorithm) if isinstance(key, Mapping) else _from_pem(key)
    except TokenRefused:
        raise
    except Exception:
        raise TokenRefused("key_unreadable") from None
    if algorithm.startswith("RS"):
        if not isinstance(public, rsa.RSAPublicKey):
            raise TokenRefused("key_type")
        # A long exponent makes verifying slow on purpose.
        if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS or public.public_numbers().e >= 1 << 32:
            raise TokenRefused("key_size")
    elif not isinstance(public, ec.EllipticCurvePublicKey) or public.curve.name != _CURVES[algorithm]:
        raise TokenRefused("key_type")
    return jwk.construct(public, algorithm)  # type: ignore[arg-type]  # the stubs know only serialised keys


def _from_pem(key: bytes | str) -> object:
    pem = key.encode("ascii") if isinstance(key, str) else key
    if len(pem) > _MAX_PEM_CHARACTERS:
        raise TokenRefused("key_size")
    return load_pem_public_key(pem)


def _from_jwk(key: Mapping[str, Any], algorithm: str) -> object:
    kty = "RSA" if algorithm.startswith("RS") else "EC"
    if key.get("kty") != kty or key.get("alg", algorithm) != algorithm or key.get("use", "sig") != "sig":
        raise TokenRefused("key_type")
    if "d" in key:
        raise TokenRefused("key_private")
    members = {name: key[name] for name in _JWK_MEMBERS[kty]}
    if not all(isinstance(value, str) and len(value) <= _MAX_PEM_CHARACTERS for value in members.values()):
        raise TokenRefused("key_type")
    return jwk.construct({"kty": kty, **members}, algorithm).prepared_key  # type: ignore[attr-defined]
