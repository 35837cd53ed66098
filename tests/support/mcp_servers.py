"""Servers of tools on loopback: the library's own, and one that says what the test wants, over plain JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp_types import ToolAnnotations

from support.loopback import Loopback, Received, plain, serve

JSON = {"Content-Type": "application/json"}


@asynccontextmanager
async def library_server(**options: Any) -> AsyncIterator[str]:
    """The address of a server made with the library, with tools `add`, `find_ticket` and `close_ticket`."""
    made = MCPServer("Tickets")

    @made.tool(annotations=ToolAnnotations(read_only_hint=True))
    def find_ticket(number: int) -> dict[str, Any]:
        """Finds a ticket by its number."""
        if number == 13:
            raise ValueError("no thirteen")
        return {"number": number, "state": "open"}

    @made.tool()
    def close_ticket(number: int) -> str:
        """Closes a ticket for good."""
        return f"closed {number}"

    @made.tool(annotations=ToolAnnotations(read_only_hint=True))
    def internal_margin() -> str:
        """Not for agents."""
        return "40 %"

    app = made.streamable_http_app(**options)
    config = uvicorn.Config(app, port=0, log_level="critical", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    config.load()
    running = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        server.should_exit = True
        server.force_exit = True
        await running


Respond = Callable[[str, dict[str, Any]], Awaitable[Any] | Any]
"""From a method and its parameters to the result, or the raw bytes of an answer."""


@dataclass
class PlainMcp:
    """A server of the handshake era that answers in JSON."""

    loopback: Loopback
    tools: list[dict[str, Any]]
    output: str = "found"
    override: dict[str, bytes] = field(default_factory=dict)
    """Method → the raw answer to give instead; `b""` says nothing at all."""

    @property
    def url(self) -> str:
        return f"{self.loopback.url}/mcp"

    def asked(self, method: str) -> list[dict[str, Any]]:
        """The parameters of the requests of one method."""
        bodies = [json.loads(request.body) for request in self.loopback.requests if request.body]
        return [body.get("params", {}) for body in bodies if body.get("method") == method]

    def result(self, method: str, params: dict[str, Any]) -> Any:
        match method:
            case "initialize":
                return {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "plain", "version": "1"},
                }
            case "tools/list":
                return {"tools": self.tools}
            case "tools/call":
                return {"content": [{"type": "text", "text": self.output}]}
            case _:
                return None


def described(name: str, *, only_reads: bool = True, description: str = "", **schema: Any) -> dict[str, Any]:
    """A tool as servers list it."""
    return {
        "name": name,
        "description": description or f"Does {name}.",
        "inputSchema": {"type": "object", "properties": {"q": {"type": "string"}}} | schema,
        "annotations": {"readOnlyHint": only_reads},
    }


@asynccontextmanager
async def plain_server(*tools: dict[str, Any]) -> AsyncIterator[PlainMcp]:
    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        if request.method != "POST":
            writer.write(plain(b"", status=405))
            return
        body = json.loads(request.body)
        method = body["method"]
        if (raw := double.override.get(method)) is not None:
            writer.write(raw)
        elif "id" not in body:
            writer.write(plain(b"", status=202))
        elif (result := double.result(method, body.get("params", {}))) is None:
            error = {"jsonrpc": "2.0", "id": body["id"], "error": {"code": -32601, "message": "Method not found"}}
            writer.write(plain(json.dumps(error).encode(), status=404, headers=JSON))
        else:
            whole = {"jsonrpc": "2.0", "id": body["id"], "result": result}
            writer.write(plain(json.dumps(whole).encode(), headers=JSON | {"Mcp-Session-Id": "session-4711"}))

    async with serve(answer) as loopback:
        double = PlainMcp(loopback, list(tools))
        yield double
