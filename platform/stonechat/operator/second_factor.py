"""The second factor: a code of six digits that changes every thirty seconds (RFC 6238), and codes for when the phone is gone."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets

import pyotp
import segno
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stonechat import clock
from stonechat.crypto.binding import bind
from stonechat.crypto.keyring import NONCE_BYTES, Keyring
from stonechat.errors import SecretUnreadable

STEP_SECONDS = 30
DRIFT_STEPS = 1
"""How far a phone's clock may be off, either way."""
RECOVERY_CODES = 10
ISSUER = "Stonechat operator"
_PURPOSE = "operator second factor"
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_SEPARATORS = re.compile(r"[\s-]+")


def new_secret() -> str:
    """A shared secret of 160 bits, in base 32."""
    return pyotp.random_base32(32)


def enrolment_uri(secret: str, *, email: str) -> str:
    """What the phone's application reads from the picture."""
    return pyotp.TOTP(secret).provisioning_uri(name=email, issuer_name=ISSUER)


def picture(uri: str) -> str:
    """The address as a QR code: a `data:` URL of an SVG, black on white whatever the page's colours."""
    return segno.make(uri, error="m").svg_data_uri(scale=5, border=4, dark="#000", light="#fff", omitsize=False)


def fitting_step(secret: str, code: str, *, after: int) -> int | None:
    """The time step that `code` belongs to: near the present, and later than `after`. None if there is none."""
    digits = _SEPARATORS.sub("", code)
    if not re.fullmatch(r"\d{6}", digits, re.ASCII):
        return None
    now = int(clock.now().timestamp()) // STEP_SECONDS
    totp, found = pyotp.TOTP(secret), None
    for step in range(now - DRIFT_STEPS, now + DRIFT_STEPS + 1):
        if hmac.compare_digest(totp.at(step * STEP_SECONDS), digits) and step > after:
            found = step
    return found


def new_recovery_codes() -> list[str]:
    """Codes of 50 random bits, such as `k4vd3-pm8wz`; each serves once, in place of a code from the phone."""
    parts = ("".join(secrets.choice(_ALPHABET) for _ in range(5)) for _ in range(2 * RECOVERY_CODES))
    return [f"{first}-{second}" for first, second in zip(parts, parts, strict=False)]


def recovery_hash(code: str) -> str:
    """What is kept of a recovery code."""
    return hashlib.sha256(_SEPARATORS.sub("", code.strip().lower()).encode()).hexdigest()


def seal(keyring: Keyring, secret: str, *, operator_id: str) -> bytes:
    """The shared secret, encrypted under the newest platform key, for this operator only."""
    _, key = keyring.derive(_PURPOSE)[0]
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, secret.encode(), bind(_PURPOSE, operator_id))


def unseal(keyring: Keyring, sealed: bytes, *, operator_id: str) -> str:
    """Raises `SecretUnreadable` if the platform key that sealed it is gone."""
    nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
    for _, key in keyring.derive(_PURPOSE):
        try:
            return AESGCM(key).decrypt(nonce, rest, bind(_PURPOSE, operator_id)).decode()
        except InvalidTag:
            continue
    raise SecretUnreadable(
        "The platform key that encrypted your second factor is gone. Run `stonechat operator create` again."
    )
