"""One server of the benchmark, in a process of its own: `python -m stonechat.bench.server SIDE KIND`.

Prints the port it listens on, and serves until it is stopped.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from chatkit.types import ThreadStreamEvent
from starlette.types import ASGIApp

from stonechat import clock
from stonechat.assistant.turn import Turn
from stonechat.bench.script import scripted_answer


class ScriptedResponder:
    """Stands in for the assistant, to measure the chat core alone."""

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        turn.usage.of("bench", "scripted")
        async for event in scripted_answer(turn.thread.id, turn.generate_item_id("message"), created_at=clock.now()):
            yield event


def _stonechat(kind: str) -> ASGIApp:
    from stonechat.app import create_app
    from stonechat.settings import Settings

    app = create_app(Settings())
    if kind == "core":
        whole = app.router.lifespan_context

        @asynccontextmanager
        async def with_script(application: object) -> AsyncIterator[None]:
            async with whole(application):
                app.state.services.chat.responder = ScriptedResponder()
                yield

        app.router.lifespan_context = with_script
    return app


def main(side: str, kind: str) -> None:
    """`side` is `plain` or `stonechat`, `kind` is `core` or `agent`."""
    from stonechat.serving import quiet_the_collector

    if side == "plain":
        from stonechat.bench.plain import create_plain_app

        app: ASGIApp = create_plain_app(kind)
    else:
        app = _stonechat(kind)
        quiet_the_collector()  # as `serve` does
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        proxy_headers=side == "plain",
    )  # `serve` leaves proxies' headers to our own middleware
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
