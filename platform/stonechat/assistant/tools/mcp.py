"""The tools of servers that speak MCP: those the agent may use, named after their server, and how they are called."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from mcp_types import CallToolResult, TextContent, Tool

from stonechat.assistant.config_tools import McpServer
from stonechat.assistant.schemas import MAX_SCHEMA_CHARACTERS
from stonechat.assistant.tools.calls import Ability, Call, Outcome, title_of
from stonechat.assistant.tools.context import ToolAccess, TurnContext
from stonechat.assistant.tools.mcp_connection import McpConnection
from stonechat.assistant.tools.mcp_lists import McpKey, McpList, OfferedTool
from stonechat.assistant.tools.secrets import SecretHeaders, secret_headers
from stonechat.errors import StonechatError

MAX_NAME_CHARACTERS = 64
"""What models take as a function's name."""
MAX_DESCRIPTION_CHARACTERS = 1_000
_ANYTHING: Mapping[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}


@asynccontextmanager
async def mcp_abilities(context: TurnContext, access: ToolAccess) -> AsyncIterator[list[Ability]]:
    """The tools of all of the agent's servers; connections are closed with the context. Never fails for a server."""
    servers = [_Server(tool, context, access) for tool in context.turn.config.tools if isinstance(tool, McpServer)]
    try:
        offered = await asyncio.gather(*(server.abilities() for server in servers))
        yield [ability for abilities in offered for ability in abilities]
    finally:
        await asyncio.gather(*(server.aclose() for server in servers), return_exceptions=True)


async def list_offered(config: McpServer, context: TurnContext, access: ToolAccess) -> McpList:
    """Everything that a server offers, whether the agent may use it or not; asked anew. Never fails for the server."""
    server = _Server(config, context, access)
    try:
        return await server.everything()
    finally:
        await server.aclose()


class _Server:
    """One server in one turn."""

    def __init__(self, config: McpServer, context: TurnContext, access: ToolAccess) -> None:
        self._config = config
        self._context = context
        self._access = access
        self._digest = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
        self._secret: SecretHeaders | None = None
        self._connection: McpConnection | None = None

    async def abilities(self) -> list[Ability]:
        """What it offers; if it cannot be asked, its tools by name, each of which says so when it is called."""
        offered = await self._offered()
        if offered.failure is not None:
            return [self._absent(name, offered.failure) for name in self._config.allowed]
        return [self._ability(tool) for tool in offered.tools]

    async def everything(self) -> McpList:
        """What it offers to anybody who has its secrets."""
        noted: dict[str, Any] = {}
        try:
            connection = await self._connect(noted)
            return McpList(tuple(_offer(tool) for tool in await connection.tools(everything=True)))
        except StonechatError as error:
            if missing := noted.get("missing"):
                return McpList(failure=f"There is no secret called “{'”, “'.join(missing)}”.")
            return _failed(error)

    async def aclose(self) -> None:
        """Close its connection, if there is one."""
        if self._connection is not None:
            await self._connection.aclose()

    async def _offered(self) -> McpList:
        """Its list of tools, remembered or asked for."""
        lists = self._access.mcp_lists
        with self._context.turn.trace.span("tool", f"{self._config.name}: list") as span:
            try:
                connection = await self._connect(span.data)
                key = McpKey(self._context.caller.tenant_id, self._digest, self._versions())
                held = lists.get(key)
                span.data["remembered"] = held is not None
                if held is None:
                    held = await _list(connection)
                    lists.put(key, held)
            except StonechatError as error:
                held = _failed(error)
            span.data["tools"] = [tool.name for tool in held.tools]
            if held.failure is not None:
                span.error, span.data["reason"] = "failed", held.reason or held.failure
        return held

    async def _connect(self, trace: dict[str, Any]) -> McpConnection:
        """The connection, which opens with the first thing asked of it. Secrets are read once a turn."""
        if self._connection is None:
            missing: list[str] = []
            try:
                self._secret = await secret_headers(
                    self._context, self._access, names=self._config.secret_headers, missing=missing
                )
            finally:
                if missing:
                    trace["missing"] = missing
            self._connection = McpConnection(self._config, access=self._access, secret=self._secret)
        return self._connection

    def _versions(self) -> tuple[tuple[str, str], ...]:
        return self._secret.versions if self._secret is not None else ()

    def _ability(self, tool: OfferedTool) -> Ability:
        approval = self._config.approval
        return Ability(
            name=tool_name(self._config.name, tool.name),
            description=tool.description or f"{tool.name} of {self._config.name}",
            # Not the server's words: visitors are told what the tenant vouches for.
            title=title_of(f"{self._config.name}: {tool.name}"),
            parameters=tool.parameters,
            needs_approval=approval == "always" or (approval == "changes" and not tool.only_reads),
            fingerprint=f"{self._digest}/{tool.name}",
            run=self._runner(tool.name),
        )

    def _absent(self, name: str, failure: str) -> Ability:
        async def run(_context: TurnContext, _call: Call) -> Outcome:
            return Outcome(error=f"The tools of “{self._config.name}” cannot be used right now. {failure}")

        return Ability(
            name=tool_name(self._config.name, name),
            description=f"{name} of {self._config.name}. Its server does not answer right now.",
            title=title_of(f"{self._config.name}: {name}"),
            parameters=_ANYTHING,
            needs_approval=False,
            fingerprint="",
            run=run,
        )

    def _runner(self, name: str) -> Any:
        async def run(context: TurnContext, call: Call) -> Outcome:
            with context.turn.trace.span("tool", f"{self._config.name}: {name}") as span:
                connection = await self._connect(span.data)
                result = await connection.call(name, call.arguments)
                outcome = self._read(result)
                span.data["parts"] = len(result.content)
                if outcome.error is not None:
                    span.error = "failed"
                return outcome

        return run

    def _read(self, result: CallToolResult) -> Outcome:
        """The result as data, without what is no text and without secrets that the server repeats."""
        data: Any = result.structured_content
        if data is None:
            data = "\n".join(_text_of(part) for part in result.content)
        if self._secret is not None:
            data = self._secret.hide_in(data)
        return Outcome(data=data, error="The tool says that it failed." if result.is_error else None)


async def _list(connection: McpConnection) -> McpList:
    try:
        return McpList(tuple(_offer(tool) for tool in await connection.tools()))
    except StonechatError as error:
        return _failed(error)


def _failed(error: StonechatError) -> McpList:
    return McpList(failure=error.detail or error.title, reason=error.members.get("reason"))


def _offer(tool: Tool) -> OfferedTool:
    schema = tool.input_schema
    usable = schema.get("type") == "object" and len(json.dumps(schema, default=str)) <= MAX_SCHEMA_CHARACTERS
    return OfferedTool(
        name=tool.name,
        description=" ".join((tool.description or "").split())[:MAX_DESCRIPTION_CHARACTERS],
        parameters=schema if usable else _ANYTHING,
        only_reads=tool.annotations is not None and tool.annotations.read_only_hint is True,
    )


def tool_name(server: str, tool: str) -> str:
    """`server_tool`, as models take it; a name that had to be changed for that ends in a few digits of its own."""
    name = f"{server}_{tool}"
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    if plain == name and len(name) <= MAX_NAME_CHARACTERS:
        return name
    return f"{plain[: MAX_NAME_CHARACTERS - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _text_of(part: object) -> str:
    return part.text if isinstance(part, TextContent) else f"[{getattr(part, 'type', 'something')} left out]"
