"""Platform keys: everything this installation signs or encrypts begins with one of them.

`STONECHAT_SECRET_KEYS` holds them newest first. The newest signs and encrypts; the rest still verify and decrypt, so
that a key can be replaced while the old one's work is moved over. No platform key is used directly: each purpose has
its own key, derived with HKDF-SHA-256, so that a session token's key says nothing about what wraps the tenants' keys.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stonechat.crypto.binding import bind
from stonechat.errors import SecretUnreadable

KEY_BYTES = 32
NONCE_BYTES = 12
MIN_SECRET_BYTES = 32
_WRAPPED_BYTES = NONCE_BYTES + KEY_BYTES + 16


@dataclass(frozen=True)
class WrappedKey:
    """A tenant's data key, encrypted: worthless without the platform key that `platform_key_id` names."""

    platform_key_id: str
    sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class UnwrappedKey:
    """`needs_rewrap` says that an older platform key still holds it, which keeps that key from being removed."""

    data_key: bytes = field(repr=False)
    needs_rewrap: bool


class Keyring:
    """The platform keys, newest first, and what is derived from them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("A keyring needs at least one platform key: set STONECHAT_SECRET_KEYS.")
        encoded = [secret.encode() for secret in secrets]
        if any(len(secret) < MIN_SECRET_BYTES for secret in encoded):
            raise ValueError(f"Each platform key needs at least {MIN_SECRET_BYTES} bytes.")
        # A key listed twice is one key.
        self._secrets = {_derive(secret, "key id")[:8].hex(): secret for secret in encoded}
        self.newest_key_id = next(iter(self._secrets))

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._secrets)})"

    def derive(self, purpose: str) -> list[tuple[str, bytes]]:
        """`(kid, key)` for each platform key, newest first: 32 bytes that serve `purpose` and nothing else.

        Sign with the first, verify with any.
        """
        return [(key_id, _derive(secret, f"purpose {purpose}")) for key_id, secret in self._secrets.items()]

    def wrap(self, data_key: bytes, *, tenant_id: UUID, version: int) -> WrappedKey:
        """Encrypt a tenant's data key under the newest platform key, bound to the tenant and the key's version."""
        if len(data_key) != KEY_BYTES:
            raise ValueError(f"A data key has {KEY_BYTES} bytes.")
        nonce = os.urandom(NONCE_BYTES)
        key_id = self.newest_key_id
        sealed = self._wrapping(key_id).encrypt(nonce, data_key, _wrap_binding(key_id, tenant_id, version))
        return WrappedKey(key_id, nonce + sealed)

    def unwrap(self, wrapped: WrappedKey, *, tenant_id: UUID, version: int) -> UnwrappedKey:
        """Decrypt a data key; raises `SecretUnreadable` if its platform key is gone or it was not wrapped for this."""
        key_id, sealed = wrapped.platform_key_id, wrapped.sealed
        if key_id not in self._secrets:
            raise SecretUnreadable(
                f"The platform key {key_id} that encrypted this is no longer in STONECHAT_SECRET_KEYS."
            )
        if len(sealed) != _WRAPPED_BYTES:
            raise SecretUnreadable("A tenant's data key is damaged.")
        try:
            data_key = self._wrapping(key_id).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _wrap_binding(key_id, tenant_id, version)
            )
        except InvalidTag:
            raise SecretUnreadable("A tenant's data key is damaged, or was made for another tenant.") from None
        return UnwrappedKey(data_key, needs_rewrap=key_id != self.newest_key_id)

    def _wrapping(self, key_id: str) -> AESGCM:
        return AESGCM(_derive(self._secrets[key_id], "wrap data keys"))


def _derive(secret: bytes, info: str) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=b"stonechat platform key", info=info.encode()).derive(secret)


def _wrap_binding(key_id: str, tenant_id: UUID, version: int) -> bytes:
    return bind("data key", key_id, tenant_id.bytes, version)
