"""One connection to a server of tools: MCP over streamable HTTP, through the guarded client, for one turn.

It opens when it is first needed, in a task of its own: the library's scopes must be left by the task that entered them,
and a turn may be closed by another task than the one that began it. A server that dies fails the call that waits for it
and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    ListToolsRequest,
    ListToolsResult,
    PaginatedRequestParams,
    Tool,
)
from pydantic import ValidationError

from stonechat import __version__
from stonechat.assistant.config_tools import McpServer
from stonechat.assistant.tools.context import ToolAccess
from stonechat.assistant.tools.secrets import SecretHeaders
from stonechat.errors import StonechatError, UpstreamFailed, UpstreamTimedOut

MAX_ANSWER_BYTES = 2_000_000
MAX_EVENT_BYTES = 1_000_000
MAX_PAGES = 5
"""Of a list of tools."""
MAX_TOOLS = 100
"""Of one server."""
MAX_OPENED = 2
"""Times that a connection is opened in a turn, should it break."""
CLOSE_SECONDS = 2.0
_ERROR_CHARACTERS = 200

Result = TypeVar("Result")

# The library logs what servers send, and the ids of sessions, which are as good as keys.
logging.getLogger("mcp").setLevel(logging.CRITICAL)


class McpConnection:
    """A server as one tenant reaches it, with that tenant's secrets. `aclose` it at the end of the turn."""

    def __init__(self, server: McpServer, *, access: ToolAccess, secret: SecretHeaders) -> None:
        self._server = server
        self._access = access
        self._secret = secret
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[Client] | None = None
        self._opened = 0

    async def tools(self, *, everything: bool = False) -> list[Tool]:
        """What the server offers of what the agent may use, or `everything`, up to `MAX_TOOLS`.

        Raises `UpstreamFailed`, `UpstreamTimedOut`.
        """
        return await self._ask(partial(self._list, everything=everything))

    async def call(self, name: str, arguments: dict[str, object]) -> CallToolResult:
        """Call a tool. Raises as `tools` does; a failure that the tool itself reports is a result."""
        request = CallToolRequest(params=CallToolRequestParams(name=name, arguments=arguments))
        # Not the library's own `call_tool`, which evaluates schemas of the server's making.
        return await self._ask(lambda client: client.session.send_request(request, CallToolResult))

    async def aclose(self) -> None:
        """Close the connection, waiting for the server no longer than `CLOSE_SECONDS`."""
        task, self._task = self._task, None
        if task is None:
            return
        self._closing.set()
        await asyncio.wait([task], timeout=CLOSE_SECONDS)
        if not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CLOSE_SECONDS)

    async def _list(self, client: Client, *, everything: bool) -> list[Tool]:
        wanted, found = set(self._server.allowed), dict[str, Tool]()
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            request = ListToolsRequest(params=PaginatedRequestParams(cursor=cursor))
            page = await client.session.send_request(request, ListToolsResult)
            for tool in page.tools:
                if everything or tool.name in wanted:
                    found.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if cursor is None or (found.keys() == wanted and not everything) or len(found) >= MAX_TOOLS:
                break
        return list(found.values())[:MAX_TOOLS]

    async def _ask(self, work: Callable[[Client], Awaitable[Result]]) -> Result:
        with self._sentences():
            async with asyncio.timeout(self._server.timeout_seconds):
                client = await self._client()
                asked = asyncio.ensure_future(work(client))
                try:
                    open_still = [self._task] if self._task is not None else []
                    await asyncio.wait([asked, *open_still], return_when=asyncio.FIRST_COMPLETED)
                    if not asked.done():
                        raise UpstreamFailed(f"The server of “{self._server.name}” broke the connection off.")
                    return asked.result()
                finally:
                    asked.cancel()

    async def _client(self) -> Client:
        broken = self._task is not None and self._task.done()
        if self._ready is None or (broken and self._opened < MAX_OPENED):
            self._opened += 1
            self._ready = asyncio.get_running_loop().create_future()
            self._ready.add_done_callback(_look_at)
            self._task = asyncio.create_task(self._keep_open(self._ready))
        return await asyncio.shield(self._ready)

    async def _keep_open(self, ready: asyncio.Future[Client]) -> None:
        server, seconds = self._server, self._server.timeout_seconds
        try:
            http = self._access.outbound.httpx_client(
                server.url, allow_http=self._access.allow_http, max_bytes=MAX_ANSWER_BYTES
            )
            http.timeout = httpx2.Timeout(seconds)
            http.headers.update(dict(self._secret.headers))
            transport = streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
            us = Implementation(name="stonechat", version=__version__)
            async with http, Client(transport, read_timeout_seconds=seconds, client_info=us, cache=None) as client:
                ready.set_result(client)
                await self._closing.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            if not ready.done():
                ready.set_exception(self._failure(error))
        finally:
            if not ready.done():
                ready.set_exception(self._unreachable(reason="closed"))

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except StonechatError:
            raise
        except TimeoutError:
            raise UpstreamTimedOut(f"The server of “{self._server.name}” did not answer in time.") from None
        except (MCPError, ValidationError, RuntimeError, httpx2.HTTPError, BaseExceptionGroup) as error:
            # Without its cause: the library's errors quote requests and answers.
            raise self._failure(error) from None

    def _failure(self, error: BaseException) -> StonechatError:
        """What went wrong, in a sentence without secrets."""
        for cause in _leaves(error):
            if isinstance(cause, StonechatError):
                return self._unreachable(reason=self._secret.hide(cause.detail or cause.title))
        for cause in _leaves(error):
            if isinstance(cause, TimeoutError | httpx2.TimeoutException):
                return UpstreamTimedOut(f"The server of “{self._server.name}” did not answer in time.")
            if isinstance(cause, MCPError):
                said = self._secret.hide(cause.message).partition("\n")[0][:_ERROR_CHARACTERS]
                return UpstreamFailed(f"The server of “{self._server.name}” refused, in its own words: {said}")
        return self._unreachable(reason=type(error).__name__)

    def _unreachable(self, *, reason: str) -> UpstreamFailed:
        """`reason` is for the trace: it may name addresses, which are nothing for visitors."""
        said = f"The server of “{self._server.name}” could not be reached, or does not speak MCP."
        return UpstreamFailed(said, reason=reason)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
        return
    seen = 0
    current: BaseException | None = error
    while current is not None and seen < 10:
        yield current
        current, seen = current.__cause__ or current.__context__, seen + 1


def _look_at(ready: asyncio.Future[Client]) -> None:
    """An exception that nobody waits for any more is no news."""
    if not ready.cancelled():
        ready.exception()
