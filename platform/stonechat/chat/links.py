"""Signed links to attachments: one to put the bytes, short-lived; one to look at them, good for an hour or two.

A link carries all that is needed to look the file up, signed with keys derived from the platform's: whoever holds it may do
that one thing with that one file, and nothing else. No cookie and no session is asked for, so a link serves the stock
ChatKit front end and an `<img>` alike.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from stonechat import clock
from stonechat.crypto.keyring import Keyring
from stonechat.errors import InvalidLink

Kind = Literal["image", "document"]
UPLOAD_LIFETIME = timedelta(minutes=10)
VIEW_STEP = timedelta(hours=1)
"""Links to look at are the same for this long, so that browsers can keep what they fetched; good for one step more."""
MAX_TOKEN = 2048
_EXPIRED = "This link has expired. Reload the conversation, or attach the file again."


@dataclass(frozen=True, slots=True)
class FileKey:
    """One attachment of one user of one tenant."""

    tenant_id: UUID
    user_id: str
    attachment_id: str


@dataclass(frozen=True, slots=True)
class UploadGrant:
    """What the holder of an upload link may put there."""

    key: FileKey
    kinds: frozenset[Kind]


class FileLinks:
    """Signs and verifies."""

    def __init__(self, keyring: Keyring, *, public_url: str) -> None:
        """Links lead to `public_url`, and those of another installation are refused even under the same key."""
        self._public_url = public_url
        self._upload = keyring.derive("attachment uploads")
        self._view = keyring.derive("attachment views")

    def to_upload(self, key: FileKey, *, kinds: frozenset[Kind]) -> str:
        """Where the bytes are to be put."""
        expires = clock.now() + UPLOAD_LIFETIME
        return self._url(key, self._upload[0], int(expires.timestamp()), sorted(kinds))

    def to_view(self, key: FileKey) -> str:
        """Where the stored file can be fetched."""
        step = VIEW_STEP.total_seconds()
        expires = (math.ceil(clock.now().timestamp() / step) + 1) * int(step)
        return self._url(key, self._view[0], expires, [])

    def open_upload(self, attachment_id: str, token: str) -> UploadGrant:
        """What an upload link grants; raises `InvalidLink`."""
        key, kinds = self._open(attachment_id, token, self._upload)
        return UploadGrant(key, frozenset(kind for kind in ("image", "document") if kind in kinds))

    def open_view(self, attachment_id: str, token: str) -> FileKey:
        """Whose file a link leads to; raises `InvalidLink`."""
        return self._open(attachment_id, token, self._view)[0]

    def _url(self, key: FileKey, signing: tuple[str, bytes], expires: int, kinds: list[Kind]) -> str:
        key_id, secret = signing
        claims = [key.tenant_id.hex, key.user_id, key.attachment_id, expires, kinds]
        payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
        token = f"{key_id}.{payload}.{_encode(self._mac(secret, payload))}"
        return f"{self._public_url}/v1/uploads/{key.attachment_id}?token={token}"

    def _open(self, attachment_id: str, token: str, keys: list[tuple[str, bytes]]) -> tuple[FileKey, list[Kind]]:
        key_id, _, rest = token.partition(".")
        payload, _, signature = rest.partition(".")
        secret = dict(keys).get(key_id)
        if secret is None or len(token) > MAX_TOKEN or not token.isascii():
            raise InvalidLink(_EXPIRED)
        try:
            if not hmac.compare_digest(self._mac(secret, payload), _decode(signature)):
                raise InvalidLink(_EXPIRED)
            tenant, user_id, named, expires, kinds = json.loads(_decode(payload))
        except (ValueError, binascii.Error):
            raise InvalidLink(_EXPIRED) from None
        if expires < clock.now().timestamp() or named != attachment_id:
            raise InvalidLink(_EXPIRED)
        return FileKey(UUID(hex=tenant), user_id, named), kinds

    def _mac(self, secret: bytes, payload: str) -> bytes:
        return hmac.digest(secret, f"{self._public_url}\n{payload}".encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
