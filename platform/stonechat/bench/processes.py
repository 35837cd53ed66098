"""The processes of a measurement: one server, one load, each ended whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from stonechat.errors import Unavailable
from stonechat.settings import Settings

ORIGIN = "http://127.0.0.1:8000"
LOAD_SECONDS = 90
"""Beyond what it was asked to take, no load lives longer."""


class Server:
    """A server that was started. Calling it waits for its port, so that two can start at once."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str], name: str) -> None:
        self._process, self._log, self._name = process, log, name

    def __call__(self) -> int:
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        if not line.strip().isdigit():
            self._log.seek(0)
            raise Unavailable(f"The server “{self._name}” did not start: {self._log.read()[-2000:]}")
        return int(line)

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait()


@contextmanager
def server(settings: Settings, side: str, kind: str) -> Iterator[Server]:
    """A server process, ended with the context."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        environment = os.environ | {
            "STONECHAT_ENV": "development",
            "DATABASE_URL": str(settings.database_url),
            "STONECHAT_SECRET_KEYS": ",".join(key.get_secret_value() for key in settings.secret_keys),
            "STONECHAT_PUBLIC_URL": ORIGIN,
            "STONECHAT_IP_REQUESTS_PER_MINUTE": str(10**9),  # set, so that addresses are counted as in production
            "STONECHAT_DATA_DIR": folder,
        }
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-W", "ignore", "-m", "stonechat.bench.server", side, kind],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        try:
            yield Server(process, log, f"{side} {kind}")
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def load(do: str, *, seconds: float = 0.0, **task: Any) -> dict[str, Any]:
    """What a load process found; see `bench/load.py`."""
    if seconds:
        task["seconds"] = seconds
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "stonechat.bench.load"],
        input=json.dumps({"do": do, **task}),
        capture_output=True,
        text=True,
        timeout=seconds + LOAD_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"The load could not be run: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
