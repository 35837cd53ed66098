"""Counters in memory for the engine `limits`, bounded and without background work.

The engine's own memory store goes through every key it holds on each hit, and grows with the number of visitors.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from math import floor

from limits.storage import Storage

MAX_COUNTERS = 200_000
MEMORY_URI = "stonechat+memory://"


class Counters:
    """Numbers that are forgotten when their time is up, or when there are too many: the longest untouched go first."""

    def __init__(self, max_counters: int = MAX_COUNTERS) -> None:
        self._max = max_counters
        self._counters: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counters)

    def add(self, key: str, amount: int, *, expiry: float, now: float) -> int:
        """The new count; `expiry` seconds from now it is zero again, unless the key was there before."""
        count, expires_at = self._counters.get(key, (0, 0.0))
        if expires_at <= now:
            count, expires_at = 0, now + expiry
        self._counters[key] = (count + amount, expires_at)
        self._counters.move_to_end(key)
        while len(self._counters) > self._max:
            self._counters.popitem(last=False)
        return count + amount

    def get(self, key: str, *, now: float) -> int:
        count, expires_at = self._counters.get(key, (0, 0.0))
        return count if expires_at > now else 0

    def expires_at(self, key: str, *, now: float) -> float:
        return max(self._counters.get(key, (0, now))[1], now)

    def forget(self, key: str) -> None:
        self._counters.pop(key, None)

    def reset(self) -> int:
        size = len(self._counters)
        self._counters.clear()
        return size


class Windows:
    """Counts of the running window of time and of the one before it, by key: as bounded as `Counters`."""

    def __init__(self, max_windows: int = MAX_COUNTERS) -> None:
        self._max = max_windows
        self._windows: OrderedDict[str, tuple[int, int, int]] = OrderedDict()

    def counts(self, key: str, window: int) -> tuple[int, int]:
        """What was counted in the window before this one, and in this one."""
        last, previous, current = self._windows.get(key, (0, 0, 0))
        if last == window:
            return previous, current
        return (current, 0) if last == window - 1 else (0, 0)

    def put(self, key: str, window: int, counts: tuple[int, int]) -> None:
        self._windows[key] = (window, *counts)
        self._windows.move_to_end(key)
        while len(self._windows) > self._max:
            self._windows.popitem(last=False)

    def forget(self, key: str) -> None:
        self._windows.pop(key, None)

    def reset(self) -> int:
        size = len(self._windows)
        self._windows.clear()
        return size


class MemoryCounts:
    """Sliding windows in this process, asked as the engine's storages are. Nothing in it awaits, so no two hits interleave."""

    def __init__(self, max_windows: int = MAX_COUNTERS) -> None:
        self._windows = Windows(max_windows)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int) -> bool:
        """Count one, unless the limit is used up."""
        window, passed = divmod(time.time(), expiry)
        previous, current = self._windows.counts(key, int(window))
        if floor(previous * (expiry - passed) / expiry + current) + 1 > limit:
            return False
        self._windows.put(key, int(window), (previous, current + 1))
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """What `state_of` reads."""
        window, passed = divmod(time.time(), expiry)
        previous, current = self._windows.counts(key, int(window))
        left = expiry - passed
        return previous, left if previous else 0.0, current, left + expiry


class SyncMemoryStorage(Storage):
    """For slowapi, which is synchronous: `storage_uri=MEMORY_URI`."""

    STORAGE_SCHEME = ["stonechat+memory"]  # noqa: RUF012  read by the engine's registry

    def __init__(self, uri: str | None = None, wrap_exceptions: bool = False, **_: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._counters = Counters()

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        return self._counters.add(key, amount, expiry=expiry, now=time.time())

    def get(self, key: str) -> int:
        return self._counters.get(key, now=time.time())

    def get_expiry(self, key: str) -> float:
        return self._counters.expires_at(key, now=time.time())

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        return self._counters.reset()

    def clear(self, key: str) -> None:
        self._counters.forget(key)
