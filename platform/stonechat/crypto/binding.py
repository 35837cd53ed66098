"""Associated data: what a ciphertext is for, so that it opens nowhere else."""

from __future__ import annotations


def bind(*parts: str | bytes | int) -> bytes:
    """The parts as one string of bytes, each with its length, so that no two different lists of parts look alike."""
    encoded = [part.to_bytes(8, "big") if isinstance(part, int) else _bytes(part) for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _bytes(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part
