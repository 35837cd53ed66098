"""Identifiers: prefixed, sortable by time, and too random to guess or to clash.

An id is `<prefix>_<26 characters>`: 48 bits of Unix time in milliseconds and 80 random bits, in lower-case Crockford
base 32, so that ids sort by creation time as text. Tenant ids are UUIDv7 (RFC 9562), which sort likewise.
"""

from __future__ import annotations

import os
import secrets
import time
import uuid
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]

MAX_ID_LENGTH = 128
"""Ids that clients bring (ChatKit allows any text) may have at most this many characters."""


_CHANCES: list[int] = []
"""Numbers of 80 random bits, each for one id: the kernel is asked for many at a time, which costs no more than one."""
_CHANCES_AT_ONCE = 200
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_CHANCES.clear)  # or two processes would make the same ids


def _chance() -> int:
    while True:
        try:
            return _CHANCES.pop()  # safe from any thread
        except IndexError:
            drawn = os.urandom(10 * _CHANCES_AT_ONCE)
            _CHANCES.extend(int.from_bytes(drawn[at : at + 10]) for at in range(0, len(drawn), 10))


def new_id(prefix: str) -> str:
    """A new id such as `agt_01jd…`; ids made in later milliseconds sort after it."""
    moment, chance, pairs = time.time_ns() // 1_000_000, _chance(), _PAIRS
    # Written out, because every turn makes half a dozen of them.
    return (
        f"{prefix}_{pairs[moment >> 40 & 1023]}{pairs[moment >> 30 & 1023]}{pairs[moment >> 20 & 1023]}"
        f"{pairs[moment >> 10 & 1023]}{pairs[moment & 1023]}"
        f"{pairs[chance >> 70]}{pairs[chance >> 60 & 1023]}{pairs[chance >> 50 & 1023]}{pairs[chance >> 40 & 1023]}"
        f"{pairs[chance >> 30 & 1023]}{pairs[chance >> 20 & 1023]}{pairs[chance >> 10 & 1023]}{pairs[chance & 1023]}"
    )


def made_at(made_id: str) -> datetime | None:
    """When an id of ours was made; None for one that is none of ours."""
    moment = 0
    for character in (tail := made_id.rpartition("_")[2])[:10]:
        if character not in _ALPHABET:
            return None
        moment = moment << 5 | _ALPHABET.index(character)
    return datetime.fromtimestamp(moment / 1000, UTC) if len(tail) == 26 and moment < 1 << 48 else None


def new_tenant_id() -> uuid.UUID:
    """A new UUIDv7."""
    milliseconds = time.time_ns() // 1_000_000
    number = milliseconds << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=number)


def new_secret(prefix: str) -> str:
    """A new bearer secret with 256 random bits, such as `sk_…`, safe in URLs and headers."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"
