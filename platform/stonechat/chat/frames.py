"""A run's events as bytes, while somebody may still need them from memory."""

from __future__ import annotations

from collections.abc import Iterator

KEEP_STORED_BYTES = 4 << 10
"""Of the events that are in the database, so many bytes stay here for who comes at once, while nobody listens."""
KEEP_HEARD_BYTES = 512
"""The same while somebody does: thousands listen at a time, and hardly one of them comes again."""


class Frames:
    """Grows at its end; at its beginning, what was stored and heard is forgotten. Frame `n` is event number n + 1."""

    __slots__ = ("_kept", "count", "forgotten")

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self.count = 0
        """How many there are, as `len`: asked at every event, where a call would be the dearest part."""
        self.forgotten = 0
        """How many frames, from the first, are only in the database."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._kept)

    def append(self, frame: bytes) -> None:
        self._kept.append(frame)
        self.count += 1

    def after(self, number: int) -> bytes:
        """All frames but the first `number`. Raises `LookupError` if some of them are forgotten."""
        first = number - self.forgotten
        if first < 0:
            raise LookupError(f"frame {number} is no longer in memory")
        return b"".join(self._kept[first:] if first else self._kept)

    def forget(self, number: int, *, keep: int) -> None:
        """Forget up to the first `number` frames, but keep that many bytes of them."""
        first, room = number - self.forgotten, keep
        while first > 0 and (room := room - len(self._kept[first - 1])) > 0:
            first -= 1
        if first > 0:
            del self._kept[:first]
            self.forgotten += first
