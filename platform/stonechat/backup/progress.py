"""Telling how far it is, now and then: whoever waits for gigabytes wants to know that something moves."""

from __future__ import annotations

import time
from collections.abc import Callable

EVERY_SECONDS = 5.0
Say = Callable[[str], None]


class Progress:
    """Says what is being done at once, and how much of it was done every few seconds."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._told = time.monotonic()
        self.bytes = 0

    def step(self, text: str) -> None:
        """Something else begins."""
        self._say(text)
        self._told = time.monotonic()

    def moved(self, size: int, what: str) -> None:
        """Some more bytes of it."""
        self.bytes += size
        if time.monotonic() - self._told >= EVERY_SECONDS:
            self.step(f"  {in_words(self.bytes)} so far, at {what}")


def in_words(size: int) -> str:
    """Bytes as people say them."""
    amount, units = float(size), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop(0)
    return f"{amount:,.0f} {units[0]}" if units[0] == "bytes" else f"{amount:,.1f} {units[0]}"
