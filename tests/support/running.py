"""A real `stonechat up` in a subprocess, and a customer's web site on another origin."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from stonechat.accounts.provisioning import provision_tenant
from stonechat.db.embedded import EmbeddedPostgres
from stonechat.db.session import Database
from stonechat.local import DATABASE_NAME

ROOT = Path(__file__).resolve().parents[2]
STONECHAT = Path(sys.executable).with_name("stonechat")
START_SECONDS = 90


def free_port() -> int:
    """Below those that systems give to connections: one of these might have it before the product listens, seconds later."""
    while True:
        port = random.randrange(20_000, 30_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    """The test run's environment without any of Stonechat's own variables, and with a data folder."""
    ours = re.compile(r"STONECHAT_|DATABASE_URL|QDRANT_|REDIS_URL|OPENAI_|STRIPE_|PORT$")
    kept = {name: value for name, value in os.environ.items() if not ours.match(name)}
    # The model hosts that tests start are on loopback, which requests of tenants could not reach otherwise.
    ours_now = {"STONECHAT_DATA_DIR": str(data_dir), "STONECHAT_OUTBOUND_ALLOWED_NETWORKS": "127.0.0.0/8"}
    return kept | ours_now | more


@dataclass
class Running:
    """A `stonechat up` that answers at `url`."""

    process: asyncio.subprocess.Process
    url: str
    data_dir: Path
    log: Path

    async def command(self, *arguments: str, timeout: float = 60) -> str:
        """Run another `stonechat` command against the same data folder; returns standard output."""
        process = await asyncio.create_subprocess_exec(
            str(STONECHAT),
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(self.data_dir, PORT=str(httpx.URL(self.url).port)),
        )
        out, err = await asyncio.wait_for(process.communicate(), timeout)
        assert process.returncode == 0, f"stonechat {arguments}: {err.decode()[-2000:]}"
        return out.decode()

    async def tenant(self, name: str, owner: str) -> dict[str, str | None]:
        """What `stonechat tenant create --json` does and prints, without a process for it."""
        server = EmbeddedPostgres(self.data_dir / "postgres")
        address = await asyncio.to_thread(server.acquire)
        database = Database(address.url(DATABASE_NAME), pool_size=2)
        try:
            return await provision_tenant(database, name=name, owner_email=owner, public_url=self.url)
        finally:
            await database.close()
            await asyncio.to_thread(server.release)

    async def stop(self, how: signal.Signals = signal.SIGINT, *, timeout: float = 30) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(how)
        return await asyncio.wait_for(self.process.wait(), timeout)


async def start(data_dir: Path, *, port: int | None = None, demo: bool = True, **more: str) -> Running:
    """Start `stonechat up` and wait until it is ready (and, with `demo`, has loaded the demo)."""
    port = port or free_port()
    data_dir.mkdir(parents=True, exist_ok=True)
    log = data_dir.parent / f"{data_dir.name}.log"
    arguments = ["up"] if demo else ["up", "--no-demo"]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            str(STONECHAT), *arguments, stdout=output, stderr=output, env=environment(data_dir, PORT=str(port), **more)
        )
    running = Running(process, f"http://127.0.0.1:{port}", data_dir, log)
    deadline = time.monotonic() + START_SECONDS
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert process.returncode is None, f"stonechat up ended:\n{log.read_text()[-4000:]}"
            assert time.monotonic() < deadline, f"stonechat up is not ready:\n{log.read_text()[-4000:]}"
            with contextlib.suppress(httpx.TransportError):
                paths = ["/readyz", "/demo/shop", "/demo/docs"] if demo else ["/readyz"]
                answers = [await client.get(running.url + path) for path in paths]
                if all(answer.status_code == 200 for answer in answers):
                    return running
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def running_stonechat(data_dir: Path, *, demo: bool = True) -> AsyncIterator[Running]:
    running = await start(data_dir, demo=demo)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            await running.stop()


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><h1>{title}</h1><p>A page of somebody else's.</p>{snippet}</body></html>"""


@dataclass
class Site:
    """A customer's static site. `pages` maps paths to HTML, `headers` to what is sent with it; both may change while it runs."""

    origin: str
    pages: dict[str, str]
    headers: dict[str, dict[str, str]] = field(default_factory=dict)

    def paste(self, path: str, snippet: str, *, title: str = "A shop") -> str:
        """Put a page with the snippet at `path`; returns its URL."""
        self.pages[path] = PAGE.format(title=title, snippet=snippet)
        return self.origin + path


@contextlib.contextmanager
def customer_site(host: str = "localhost") -> Iterator[Site]:
    """A site on another origin: its host is spelled differently from the platform's, so that it is cross-site, too."""
    pages: dict[str, str] = {}
    headers: dict[str, dict[str, str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            for name, value in headers.get(self.path, {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write((body or "nothing here").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(f"http://{host}:{server.server_port}", pages, headers)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium() -> str | None:
    """The browser to drive: `$CHROMIUM`, the system's, or None for Playwright's own download."""
    named = os.environ.get("CHROMIUM")
    found = (shutil.which(name) for name in ("chromium-headless-shell", "chromium", "google-chrome"))
    return named or next((path for path in found if path), None)
