"""Run the web application in this process until told to stop."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from stonechat.errors import Unavailable

GRACE_SECONDS = 10
DRAIN_SECONDS = 5


class _Server(uvicorn.Server):
    """uvicorn, which drains before it shuts down, and does not raise its signals again when it is done."""

    def __init__(
        self, config: uvicorn.Config, *, on_ready: Callable[[], None], drain: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._on_ready = on_ready
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn waits for streams without end, or cuts them mid-word; so they are told to end first.
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._drain()
        except TimeoutError:
            pass
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve_app(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    on_ready: Callable[[], None],
    drain: Callable[[], Awaitable[None]],
) -> None:
    """Listen until SIGINT or SIGTERM, then `drain`, let requests finish for `GRACE_SECONDS`, and return.

    A second Ctrl-C does not wait. Raises `Unavailable` for a port that is taken, before anything of the app has started.
    """
    remedy = f"Set PORT to another port, such as PORT={port + 1}."
    listener = listen_on(host, port, backlog=2048, remedy=remedy)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # done by our own middleware, from trusted proxies only
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=30,
    )
    server = _Server(config, on_ready=on_ready, drain=drain)
    quiet_the_collector()
    server.run(sockets=[listener])


def quiet_the_collector() -> None:
    """Keep what was imported out of garbage collection, and collect less often: full collections were the p99."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def listen_on(host: str, port: int, *, backlog: int, remedy: str) -> socket.socket:
    """A socket that listens. Raises `Unavailable`, with the `remedy`, where it cannot."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise Unavailable(f"Cannot listen on {host}:{port}: {error.strerror}. {remedy}") from None
    listener.set_inheritable(False)
    return listener
