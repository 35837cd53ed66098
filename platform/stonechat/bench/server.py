"""One server of the benchmark, in a process of its own: `python -m stonechat.bench.server SIDE KIND`.

Prints the port it listens on, and serves until it is stopped. `GET /process` tells what the process used so far.
"""

from __future__ import annotations

import json
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from chatkit.types import ThreadStreamEvent, UserMessageItem
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stonechat import clock
from stonechat.assistant.turn import Turn
from stonechat.bench.script import scripted_answer


class ScriptedResponder:
    """Stands in for the assistant, to measure the chat core alone."""

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        turn.usage.of("bench", "scripted")
        question = turn.history[-1]
        assert isinstance(question, UserMessageItem)  # noqa: S101
        async for event in scripted_answer(
            question,
            thread_id=turn.thread.id,
            item_id=turn.generate_item_id("message"),
            created_at=clock.now(),
        ):
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


def _with_process(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != "/process":
            await app(scope, receive, send)
            return
        body = json.dumps({"cpu": time.process_time(), "memory": _memory()})
        await Response(body, media_type="application/json")(scope, receive, send)

    return answer


def _memory() -> int:
    """Bytes of this process in memory; where the system does not tell, the most it ever had."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main(side: str, kind: str) -> None:
    """`side` is `plain` or `stonechat`, `kind` is `core` or `agent`."""
    from stonechat.serving import quiet_the_collector

    if side == "plain":
        from stonechat.bench.plain import create_plain_app

        app: ASGIApp = create_plain_app(kind)
    else:
        app = _stonechat(kind)
        quiet_the_collector()  # as `serve` does
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    config = uvicorn.Config(
        _with_process(app),
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        proxy_headers=side == "plain",
    )  # `serve` leaves proxies' headers to our own middleware
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
