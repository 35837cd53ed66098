"""How much memory the processes take that a test has started, themselves and theirs."""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOOK_SECONDS = 0.002


class Children:
    """What was seen of processes that began meanwhile. `largest`: bytes, the most that one of them ever held."""

    def __init__(self) -> None:
        self.largest = 0
        self._before = set(_descendants()) if sys.platform == "linux" else set()

    def look(self) -> None:
        for pid in set(_descendants()) - self._before:
            with suppress(OSError, ValueError):
                # One that has not become another program yet still shows what its parent holds.
                if Path(f"/proc/{pid}/cmdline").read_bytes() != _OWN:
                    self.largest = max(self.largest, _peak(pid))


@contextmanager
def watched_children() -> Iterator[Children]:
    """Watch them from a thread; where there is no `/proc`, those count that ended, and all that ended before.

    A process of a few milliseconds may go unseen. It has no time to take much.
    """
    if sys.platform != "linux":
        yield (ended := Children())
        ended.largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        return
    children, stop = Children(), threading.Event()

    def watch() -> None:
        while not stop.wait(LOOK_SECONDS):
            children.look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield children
    finally:
        stop.set()
        watcher.join()


def _descendants() -> Iterator[int]:
    """Read from all processes' parents: which children a process has, not every system tells."""
    parents: dict[int, int] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
    family = {os.getpid()}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family |= more
        grew = bool(more)
    return iter(family - {os.getpid()})


def _peak(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


_OWN = Path("/proc/self/cmdline").read_bytes() if sys.platform == "linux" else b""
