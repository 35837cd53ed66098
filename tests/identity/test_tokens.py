"""Session tokens and frame tickets: ours, fresh, for the right purpose, or nothing."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from stonechat import clock
from stonechat.crypto.keyring import Keyring
from stonechat.errors import InvalidSession, InvalidTicket
from stonechat.identity.caller import Caller
from stonechat.identity.tokens import SESSION_TYP, SessionTokens
from support.identity import KEYRING, PLATFORM, SHOP, session_tokens

CALLER = Caller(uuid4(), "usr_1", "agt_1", domain_key_id="dk_1", origin=SHOP, verified=True)
PREVIEW = Caller(uuid4(), "usr_2", "agt_2", preview=True)


def in_the_future(monkeypatch: pytest.MonkeyPatch, ahead: timedelta) -> None:
    then = clock.now() + ahead
    monkeypatch.setattr(clock, "now", lambda: then)


@pytest.mark.parametrize("caller", [CALLER, PREVIEW])
def test_a_token_says_who_is_calling(caller: Caller) -> None:
    tokens = session_tokens()
    token, expires_at = tokens.mint(caller)
    assert tokens.verify(token) == caller
    assert timedelta(minutes=14, seconds=58) < expires_at - clock.now() <= timedelta(minutes=15)


def test_a_token_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = session_tokens()
    token, _ = tokens.mint(CALLER)
    in_the_future(monkeypatch, timedelta(minutes=14, seconds=50))
    assert tokens.verify(token) == CALLER
    in_the_future(monkeypatch, timedelta(seconds=20))
    with pytest.raises(InvalidSession):
        tokens.verify(token)


def test_a_token_that_was_found_good_is_remembered_for_itself_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stonechat.identity.tokens.MAX_REMEMBERED", 2)
    tokens = session_tokens()
    minted = [tokens.mint(Caller(uuid4(), f"usr_{number}", "agt_1"))[0] for number in range(5)]
    for token in minted * 2:
        tokens.verify(token)
        head, claims, signature = token.split(".")
        other = minted[0] if token != minted[0] else minted[1]
        for forged in (
            f"{head}.{other.split('.')[1]}.{signature}",
            f"{head}.{claims}.{other.split('.')[2]}",
            token[:-4],
        ):
            with pytest.raises(InvalidSession):
                tokens.verify(forged)
    assert len(tokens._verified) == 2


def test_keys_rotate() -> None:
    old = session_tokens(Keyring(["the old platform key, of forty bytes abcd"]))
    both = session_tokens(
        Keyring(["the new platform key, of forty bytes abcd", "the old platform key, of forty bytes abcd"])
    )
    new = session_tokens(Keyring(["the new platform key, of forty bytes abcd"]))
    assert both.verify(old.mint(CALLER)[0]) == CALLER
    assert new.verify(both.mint(CALLER)[0]) == CALLER
    with pytest.raises(InvalidSession):
        new.verify(old.mint(CALLER)[0])


def test_another_installation_is_not_ours() -> None:
    theirs = SessionTokens(KEYRING, issuer="https://chat.other.example")
    with pytest.raises(InvalidSession):
        session_tokens().verify(theirs.mint(CALLER)[0])
    with pytest.raises(InvalidTicket):
        session_tokens().verify_ticket(theirs.mint_ticket("pk_1"), public_key="pk_1")


def forged(token: str, **changes: Any) -> str:
    """The same token with other claims and the old signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(claims | changes).encode()).rstrip(b"=").decode()
    return f"{header}.{changed}.{signature}"


def signed(key: bytes, kid: str, *, typ: str = SESSION_TYP, algorithm: str = "HS256", **changes: Any) -> str:
    now = int(clock.now().timestamp())
    claims = {
        "sub": "usr_1",
        "tid": uuid4().hex,
        "agt": "agt_1",
        "iss": PLATFORM,
        "aud": PLATFORM,
        "iat": now,
        "exp": now + 900,
    }
    merged = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(merged, key, algorithm=algorithm, headers={"kid": kid, "typ": typ})


KID, KEY = KEYRING.derive("session tokens")[0]


def test_the_forger_of_these_tests_would_succeed_with_the_key() -> None:
    assert session_tokens().verify(signed(KEY, KID)).user_id == "usr_1"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "....",
        "é.é.é",
        forged(session_tokens().mint(CALLER)[0], tid=uuid4().hex),
        forged(session_tokens().mint(CALLER)[0], sub="usr_2"),
        forged(session_tokens().mint(PREVIEW)[0], exp=9999999999),
        session_tokens().mint(CALLER)[0][:-4] + "AAAA",
        signed(b"another key, of more than thirty-two bytes", KID),
        signed(KEY, "another-kid"),
        signed(KEYRING.derive("frame tickets")[0][1], KID),
        signed(KEY, KID, typ="JWT"),
        signed(KEY + KEY, KID, algorithm="HS512"),
        signed(KEY, KID, aud="https://elsewhere.example"),
        signed(KEY, KID, aud=None),
        signed(KEY, KID, aud=[PLATFORM, "https://elsewhere.example"]),
        signed(KEY, KID, iss="https://elsewhere.example"),
        signed(KEY, KID, iss=None),
        signed(KEY, KID, exp=None),
        signed(KEY, KID, iat=None),
        signed(KEY, KID, exp=int(clock.now().timestamp()) - 60),
        signed(KEY, KID, exp=int(clock.now().timestamp()) + 86400),
        signed(KEY, KID, iat=int(clock.now().timestamp()) + 86000, exp=int(clock.now().timestamp()) + 86300),
        signed(KEY, KID, sub=None),
        signed(KEY, KID, tid=None),
        signed(KEY, KID, agt=None),
        signed(KEY, KID, tid="not-a-uuid"),
        signed(KEY, KID, tid=7),
        signed(KEY, KID, tid=["a"]),
        jwt.encode({"sub": "usr_1"}, key="", algorithm="none"),
    ],
)
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(InvalidSession):
        session_tokens().verify(token)


def test_a_ticket_is_for_one_domain_key(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = session_tokens()
    ticket = tokens.mint_ticket("pk_1", parent=SHOP)
    assert tokens.verify_ticket(ticket, public_key="pk_1").parent == SHOP
    assert tokens.verify_ticket(tokens.mint_ticket("pk_1"), public_key="pk_1").parent is None
    with pytest.raises(InvalidTicket, match="another domain key"):
        tokens.verify_ticket(ticket, public_key="pk_2")
    in_the_future(monkeypatch, timedelta(seconds=70))
    with pytest.raises(InvalidTicket, match="Reload"):
        tokens.verify_ticket(ticket, public_key="pk_1")


def test_a_ticket_is_no_session_and_a_session_no_ticket() -> None:
    tokens = session_tokens()
    with pytest.raises(InvalidSession):
        tokens.verify(tokens.mint_ticket("pk_1"))
    with pytest.raises(InvalidTicket):
        tokens.verify_ticket(tokens.mint(CALLER)[0], public_key="usr_1")
