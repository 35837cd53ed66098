"""Sealing one tenant's secrets: AES-256-GCM, bound to the tenant, the kind of secret, and whose it is.

A sealed value is `0x01 | key version (4 bytes) | nonce (12) | ciphertext and tag (16)`. The first byte is the format's
version; it and the key version are authenticated with the rest. Nonces are random, which is safe for some 2³² values a
data key: secrets are written by people, not by traffic.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from stonechat.crypto.binding import bind
from stonechat.crypto.keyring import KEY_BYTES, NONCE_BYTES
from stonechat.errors import SecretUnreadable

FORMAT = 1
MAX_PLAINTEXT_BYTES = 1 << 20
_HEADER_BYTES = 1 + 4
_OVERHEAD_BYTES = _HEADER_BYTES + NONCE_BYTES + 16


class TenantCipher:
    """Seals and opens the secrets of one tenant.

    `data_keys` maps a key's version to its 32 bytes; the highest version seals.
    """

    def __init__(self, tenant_id: UUID, data_keys: Mapping[int, bytes]) -> None:
        if not data_keys or any(len(key) != KEY_BYTES for key in data_keys.values()):
            raise ValueError(f"A tenant's cipher needs at least one data key, of {KEY_BYTES} bytes.")
        self.tenant_id = tenant_id
        self._ciphers = {version: AESGCM(key) for version, key in data_keys.items()}
        self._newest = max(data_keys)

    def __repr__(self) -> str:
        return f"TenantCipher({self.tenant_id}, versions={sorted(self._ciphers)})"

    def seal(self, plaintext: bytes, *, kind: str, subject: str) -> bytes:
        """Encrypt. `kind` says what it is (`model_provider_key`), `subject` whose (the row's id)."""
        if len(plaintext) > MAX_PLAINTEXT_BYTES:
            raise ValueError(f"At most {MAX_PLAINTEXT_BYTES} bytes can be sealed.")
        header = bytes([FORMAT]) + self._newest.to_bytes(4, "big")
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._ciphers[self._newest].encrypt(nonce, plaintext, self._binding(header, kind, subject))
        return header + nonce + sealed

    def open(self, sealed: bytes, *, kind: str, subject: str) -> bytes:
        """Decrypt what `seal` made for the same tenant, kind and subject; raises `SecretUnreadable` otherwise."""
        if not _OVERHEAD_BYTES <= len(sealed) <= _OVERHEAD_BYTES + MAX_PLAINTEXT_BYTES or sealed[0] != FORMAT:
            raise SecretUnreadable("A stored secret is damaged, or was written by a newer version.")
        header, rest = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        cipher = self._ciphers.get(int.from_bytes(header[1:], "big"))
        if cipher is None:
            raise SecretUnreadable("The data key that encrypted a stored secret is gone.")
        try:
            return cipher.decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], self._binding(header, kind, subject))
        except InvalidTag:
            raise SecretUnreadable("A stored secret is damaged, or belongs elsewhere.") from None

    def _binding(self, header: bytes, kind: str, subject: str) -> bytes:
        return bind("secret", header, self.tenant_id.bytes, kind, subject)
