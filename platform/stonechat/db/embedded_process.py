"""The running server of an embedded Postgres: finding it, stopping it, and a guard that stops it when nobody is left.

The file `postmaster.pid` alone proves nothing: after a crash its process id may belong to a stranger, and stopping by it
(as `pg_ctl stop` does) has killed one. A process counts as ours only while its working directory is the data folder,
which Postgres enters when it starts, and its name is `postgres`.

Run as a script, this file is the guard: `python -I embedded_process.py ROOT` goes to the background, sleeps until the last
user of ROOT is gone, however it went, and stops the server if that user could not. Only the standard library may be
imported here, and nothing of Stonechat.

Lock files in ROOT: `start.lock` is held while the server is being started or stopped; everyone who uses the server holds
`users.lock` shared, so whoever can have it alone is the last; `server.lock` is inherited by the server's processes, so it
is taken for as long as one of them lives, wherever that is; `guard.lock` is held by the guard for its life, and holds its
process id; users also hold `wake.lock` shared, on which the guard sleeps. (It cannot sleep on `users.lock`: turning a
shared lock into an exclusive one is not atomic, and it would slip in between.)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path

GRACE_SECONDS = 2.0
"""How long the guard lets the server run after its last user died, so that a restart can attach to it."""
STOP_STEPS = ((signal.SIGINT, 45.0), (signal.SIGQUIT, 15.0))
"""Postgres' fast shutdown, then its immediate one, and the seconds each is given."""


@dataclass(frozen=True)
class Postmaster:
    """A server's first process, as its `postmaster.pid` describes it."""

    pid: int
    port: int
    ready: bool


def find_postmaster(data: Path) -> Postmaster | None:
    """The live server of the data folder; `None` if there is none, or the file names a stranger."""
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
        found = Postmaster(pid=int(lines[0]), port=int(lines[3]), ready=len(lines) > 7 and lines[7].strip() == "ready")
    except (OSError, ValueError, IndexError):
        return None
    return found if found.pid > 1 and _is_server_of(data, found.pid) else None


def stop_postmaster(data: Path) -> bool:
    """Stop the data folder's server and wait for its end; whether there was one, and it ended."""
    found = find_postmaster(data)
    if found is None:
        return False
    for step, seconds in STOP_STEPS:
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, step)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if find_postmaster(data) is None:
                return True
            time.sleep(0.02)
    return False


def _is_server_of(data: Path, pid: int) -> bool:
    process = Path("/proc") / str(pid)
    try:
        if Path("/proc/self/cwd").exists():
            state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
            name = (process / "comm").read_text().strip()
            return state not in "ZX" and name == "postgres" and (process / "cwd").samefile(data)
        os.kill(pid, 0)
        return server_lock_is_taken(data)  # without /proc (macOS) this must do; whoever attaches still logs in
    except (OSError, IndexError):
        return False


def server_lock_is_taken(data: Path) -> bool:
    """Whether a process of the data folder's server lives, be it in a container that we cannot see into."""
    with open_lock(data.parent / "server.lock") as file:
        return not try_lock(file)


def open_lock(path: Path) -> BufferedRandom:
    """Open a lock file, making it if need be. Not inherited by programs that we start."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


def try_lock(file: BufferedRandom) -> bool:
    """Take the file's lock alone, if nobody else has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def hold(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock alone. Raises `TimeoutError` if others keep it for longer than `seconds`."""
    deadline = time.monotonic() + seconds
    with open_lock(path) as file:
        while not try_lock(file):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} has been held for {seconds:.0f} seconds")
            time.sleep(0.02)
        yield


def guard(root: Path) -> None:
    """Go to the background, sleep until nobody uses the server under `root`, and stop it. Does nothing if one is there."""
    with open_lock(root / "guard.lock") as own:
        if not try_lock(own):
            return
        _go_to_the_background()  # the lock comes along: whoever waited for the foreground process finds it taken
        own.truncate()
        own.write(str(os.getpid()).encode())
        own.flush()
        while True:
            with open_lock(root / "wake.lock") as wake:
                fcntl.flock(wake, fcntl.LOCK_EX)
            if find_postmaster(root / "data") is not None:
                time.sleep(GRACE_SECONDS)
            with hold(root / "start.lock", seconds=600), open_lock(root / "users.lock") as users:
                if try_lock(users):
                    stop_postmaster(root / "data")
                    own.close()  # before start.lock is free: whoever starts the next server finds room for a guard
                    return


def _go_to_the_background() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the folder may be gone; so is the server then
        guard(Path(sys.argv[1]))
