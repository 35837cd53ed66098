"""A Redis server in this process, reached over loopback TCP, which can be stopped and started again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakeredis import TcpFakeServer
from redis.exceptions import ResponseError


def keep_open_after_errors(server: TcpFakeServer) -> None:
    """Answer errors and read on, as Redis does; the fake hangs up, which breaks loading scripts on first use."""

    class Handler(server.RequestHandlerClass):  # type: ignore[misc,name-defined]
        def setup(self) -> None:
            super().setup()
            read = self.current_client.read_response

            def read_response() -> Any:
                try:
                    return read()
                except ResponseError as error:
                    return error

            self.current_client.read_response = read_response

    server.RequestHandlerClass = Handler


class RedisServer:
    """`url` stays the same over stops and starts."""

    def __init__(self) -> None:
        self._server: TcpFakeServer | None = None
        self._thread: threading.Thread | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        self._server = TcpFakeServer(("127.0.0.1", self._port), server_type="redis")
        keep_open_after_errors(self._server)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = None


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    try:
        yield server
    finally:
        server.stop()
