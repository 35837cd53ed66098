"""Signatures as Standard Webhooks 1.0.0 has them: https://www.standardwebhooks.com."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

PREFIX = "whsec_"
SECRET_BYTES = 32
"""The specification asks for 24 to 64."""


def new_signing_secret() -> str:
    """A new symmetric secret in its serialised form, `whsec_<base64>`."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signed_headers(
    signing_secrets: Sequence[str], *, message_id: str, attempted_at: datetime, body: bytes
) -> Mapping[str, str]:
    """The three headers of one attempt, signed with each secret: a rotated one still counts for a while.

    `message_id` stays the same on every attempt and holds no full stop; the time is the attempt's, not the event's.
    """
    timestamp = str(int(attempted_at.timestamp()))
    content = b".".join((message_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(secret, content) for secret in signing_secrets),
    }


def _signature(secret: str, content: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(PREFIX))
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
