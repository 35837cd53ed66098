"""An agent's tools in the words of the console: what kind one is, and every setting it has."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from stonechat.assistant.config_tools import ClientTool, HttpTool, McpServer, Tool, WidgetTool

KINDS: list[tuple[str, str, str, str]] = [
    ("http", "Looks something up in your web service", "An order, a price, a free appointment. It can change things too.", "globe"),
    ("mcp", "Uses tools of an MCP server", "Your shop or software offers one: paste its address, and tick what may be used.", "link"),
    ("client", "Does something in the visitor’s page", "Puts something into the basket, or opens a page. Needs a few lines from whoever builds your site.", "monitor"),
    ("widget", "Shows a form or a card", "An order at a glance, a list of products, or fields to fill in.", "file-text"),
]  # fmt: skip
"""Kind, what it is called, what it is for, its drawing."""
KIND_WORDS = {kind: words for kind, words, _, _ in KINDS}
APPROVAL = [
    ("changes", "Before it changes something", "Looking something up needs no question."),
    ("always", "Every time", ""),
    ("never", "Never", "Only for what can do no harm: visitors can talk an AI model into calling it."),
]
_APPROVAL_WORDS = {value: words for value, words, _ in APPROVAL}
LABELS = {
    "description": "what it does",
    "offered_as": "offered to visitors as",
    "parameters": "arguments",
    "method": "method",
    "url": "address",
    "headers": "headers",
    "secret_headers": "secret headers",
    "result": "shown of the answer",
    "timeout_seconds": "seconds to wait",
    "approval": "asks the visitor first",
    "allowed": "may use",
    "template": "template",
    "copy_text": "in words",
    "actions": "its buttons run",
}


def tools_text(tools: tuple[Tool, ...]) -> str:
    """Every setting of every tool, a line each."""
    return "\n".join(_tool_text(tool) for tool in tools)


def _tool_text(tool: Tool) -> str:
    values = tool.model_dump(mode="json", exclude={"name", "kind"})
    lines = [f"{tool.name}: {KIND_WORDS[tool.kind]}"]
    lines += [f"{tool.name}, {LABELS[name]}: {_words(name, value)}" for name, value in values.items() if value]
    return "\n".join(lines)


def _words(name: str, value: Any) -> str:
    match value:
        case list():
            return ", ".join(map(str, value))
        case dict() if name in ("parameters", "template"):
            return json.dumps(value, ensure_ascii=False)
        case dict():
            return ", ".join(f"{key}: {part}" for key, part in value.items())
        case float():
            return f"{value:g}"
        case _:
            return _APPROVAL_WORDS[value] if name == "approval" else str(value)


def facts_of(tool: Tool) -> list[str]:
    """What stands on a tool's card below its description, in a few words each."""
    match tool:
        case HttpTool():
            facts = [f"{tool.method} {urlsplit(tool.url).netloc}"]
            facts.append("Asks the visitor first" if tool.needs_approval else "Never asks first")
        case McpServer():
            facts = [urlsplit(tool.url).netloc, f"{len(tool.allowed)} tool{'s' if len(tool.allowed) > 1 else ''}"]
            facts.append(f"Asks the visitor: {_APPROVAL_WORDS[tool.approval].lower()}")
        case ClientTool():
            facts = ["Runs in the page"]
        case WidgetTool():
            facts = [{"Card": "A card", "ListView": "A list"}.get(str(tool.template.get("type")), "A widget")]
            facts += [f"A button runs {target}" for target in sorted(set(tool.actions.values()))]
    if not isinstance(tool, McpServer) and tool.offered_as:
        facts.append(f"In the visitor’s menu as “{tool.offered_as}”")
    return facts


def secrets_of(tools: tuple[Tool, ...]) -> set[str]:
    """The names of the secrets that tools send along."""
    return {name for tool in tools if isinstance(tool, HttpTool | McpServer) for name in tool.secret_headers.values()}
