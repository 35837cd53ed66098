"""Tokens that we sign ourselves: session tokens, verified without a database, and frame tickets."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from stonechat import clock
from stonechat.crypto.keyring import Keyring
from stonechat.errors import InvalidSession, InvalidTicket
from stonechat.identity.caller import Caller
from stonechat.identity.jose import TokenRefused, VerificationKey, sign, verify

SESSION_LIFETIME = timedelta(minutes=15)
TICKET_LIFETIME = timedelta(seconds=60)
SESSION_TYP = "stonechat-session+jwt"
TICKET_TYP = "stonechat-ticket+jwt"
# We sign and verify with the same clock, or with clocks of one installation.
_LEEWAY = timedelta(seconds=2)
MAX_REMEMBERED = 10_000
_REQUIRED = ("sub", "tid", "agt")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a frame ticket says: the platform served the frame of this domain key, within the last minute."""

    public_key: str
    parent: str | None
    """The origin of the page around the frame, where the browser told it and the domain key lists it."""


class _Signer:
    """One purpose's keys: the newest signs, all verify."""

    def __init__(self, keyring: Keyring, *, purpose: str, issuer: str, typ: str, lifetime: timedelta) -> None:
        derived = keyring.derive(purpose)
        self._kid, self._key = derived[0]
        self._keys = {kid: VerificationKey(kid, "HS256", key) for kid, key in derived}
        self._issuer, self._typ, self._lifetime = issuer, typ, lifetime

    def sign(self, claims: Mapping[str, Any], *, until: datetime | None = None) -> tuple[str, datetime]:
        issued = int(clock.now().timestamp())
        expires_at = datetime.fromtimestamp(issued, UTC) + self._lifetime
        if until is not None:
            expires_at = min(expires_at, until.replace(microsecond=0))
        full = {
            **claims,
            "iss": self._issuer,
            "aud": self._issuer,
            "iat": issued,
            "exp": int(expires_at.timestamp()),
        }
        return sign(full, key=self._key, kid=self._kid, typ=self._typ), expires_at

    def verify(self, token: str, *, required: tuple[str, ...]) -> dict[str, Any]:
        return verify(
            token,
            keys=self._keys,
            typ=self._typ,
            max_lifetime=self._lifetime,
            audience=self._issuer,
            issuer=self._issuer,
            required=required,
            leeway=_LEEWAY,
        )


class _Verified(NamedTuple):
    """What a token was found to say. Times in seconds since the epoch."""

    caller: Caller
    issued: int
    expires: int


class SessionTokens:
    """Mints and verifies session tokens and frame tickets with keys derived from the platform's."""

    def __init__(self, keyring: Keyring, *, issuer: str) -> None:
        """`issuer` is the platform's public URL: tokens of another installation are refused even under the same key."""
        self._sessions = _Signer(
            keyring, purpose="session tokens", issuer=issuer, typ=SESSION_TYP, lifetime=SESSION_LIFETIME
        )
        self._tickets = _Signer(
            keyring, purpose="frame tickets", issuer=issuer, typ=TICKET_TYP, lifetime=TICKET_LIFETIME
        )
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    def mint(self, caller: Caller, *, until: datetime | None = None) -> tuple[str, datetime]:
        """A session token for the caller, and when it expires: not after `until`."""
        claims: dict[str, Any] = {"sub": caller.user_id, "tid": caller.tenant_id.hex, "agt": caller.agent_id}
        if caller.domain_key_id is not None:
            claims["dk"] = caller.domain_key_id
        if caller.origin is not None:
            claims["org"] = caller.origin
        if caller.verified:
            claims["ver"] = True
        if caller.preview:
            claims["pre"] = True
        if caller.grant_id is not None:
            claims["sup"] = caller.grant_id
        return self._sessions.sign(claims, until=until)

    def verify(self, token: str) -> Caller:
        """The caller that a session token stands for; raises `InvalidSession`.

        A token that was found good stays good until it expires, so it is looked at closely once; the memory holds
        fingerprints, no tokens.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        now = clock.now().timestamp()
        known = self._verified.get(digest)
        if known is not None and known.issued - _LEEWAY.total_seconds() <= now < known.expires:
            return known.caller
        try:
            claims = self._sessions.verify(token, required=_REQUIRED)
            caller = Caller(
                tenant_id=UUID(hex=claims["tid"]),
                user_id=claims["sub"],
                agent_id=claims["agt"],
                domain_key_id=claims.get("dk"),
                origin=claims.get("org"),
                verified=claims.get("ver") is True,
                preview=claims.get("pre") is True,
                grant_id=claims.get("sup"),
            )
        except (TokenRefused, ValueError, AttributeError, TypeError):
            raise InvalidSession("Open a new session and try again.") from None
        self._verified[digest] = _Verified(caller, claims["iat"], claims["exp"])
        while len(self._verified) > MAX_REMEMBERED:
            self._verified.popitem(last=False)
        return caller

    def mint_ticket(self, public_key: str, *, parent: str | None = None) -> str:
        """A frame ticket for a domain key."""
        return self._tickets.sign({"sub": public_key, **({"par": parent} if parent else {})})[0]

    def verify_ticket(self, ticket: str, *, public_key: str) -> Ticket:
        """What the ticket says, if it was made for this very domain key; raises `InvalidTicket`."""
        try:
            claims = self._tickets.verify(ticket, required=("sub",))
        except TokenRefused:
            raise InvalidTicket("Reload the chat and try again.") from None
        if claims["sub"] != public_key:
            raise InvalidTicket("This ticket was made for another domain key.")
        return Ticket(public_key, claims.get("par"))
