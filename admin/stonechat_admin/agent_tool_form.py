"""One tool of an agent as a form, and a form as a tool."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import FormData

from stonechat.assistant.config_tools import ClientTool, HttpTool, McpServer, Tool, WidgetTool
from stonechat.errors import InvalidInput
from stonechat_admin import agent_arguments
from stonechat_admin.agent_settings import number, typed_rows
from stonechat_admin.agent_tool_starts import STARTS
from stonechat_admin.forms import Filled

METHODS = [
    ("GET", "GET: looks something up"),
    ("POST", "POST: sends something new"),
    ("PUT", "PUT: replaces something"),
    ("PATCH", "PATCH: changes something"),
    ("DELETE", "DELETE: takes something away"),
]
ROWS: dict[str, tuple[str, ...]] = {
    "arguments": agent_arguments.FIELDS,
    "headers": ("name", "value"),
    "secret_headers": ("name", "secret"),
    "result": ("name", "path"),
    "actions": ("type", "tool"),
}
_OF_KIND: dict[str, tuple[str, ...]] = {
    "http": ("method", "url", "headers", "secret_headers", "result", "timeout_seconds", "approval"),
    "mcp": ("url", "secret_headers", "allowed", "approval", "timeout_seconds"),
    "client": (),
    "widget": ("template", "copy_text", "actions"),
}
_MESSAGES = {
    "name": "Give it a name that begins with a letter, such as order_status. Up to 48 letters, digits and underscores.",
    "description": "Say in up to 1,000 characters what it does and when to use it. The AI model decides by this.",
    "offered_as": "A label has at most 40 characters, on one line.",
    "url": "Write the whole address, beginning with https://.",
    "headers": "A header’s name has letters, digits and hyphens; its value plain characters. Up to ten.",
    "secret_headers": "Each needs a header’s name of letters, digits and hyphens, and a secret. Up to five.",
    "result": "Each needs a name of small letters, digits and underscores, and where it stands, such as order.status.",
    "timeout_seconds": "Write a number of seconds from 1 to {most}.",
    "allowed": "Tick at least one tool, and at most twenty.",
    "copy_text": "This has at most 2,000 characters.",
    "actions": "Each needs the type of an action that stands in the template. Up to ten.",
}


def values_of(tool: Tool | None, kind: str, *, start: str = "") -> dict[str, Any]:
    """Every field of the form, as it shows a saved tool or a new one."""
    if tool is None:
        return _empty(kind, start)
    values: dict[str, Any] = {"name": tool.name}
    if not isinstance(tool, McpServer):
        rows = agent_arguments.rows_of(tool.parameters)
        values |= {"description": tool.description, "offered_as": tool.offered_as, "arguments": rows or []}
        values["schema"] = "" if rows is not None else _json(tool.parameters)
    match tool:
        case HttpTool():
            values |= {"method": tool.method, "headers": _pairs(tool.headers, "name", "value")}
            values["result"] = [{"name": name, "path": _path(pointer)} for name, pointer in tool.result.items()]
        case WidgetTool():
            values |= {"template": _json(tool.template), "copy_text": tool.copy_text}
            values["actions"] = _pairs(tool.actions, "type", "tool")
        case McpServer():
            values |= {"allowed": list(tool.allowed), "allowed_more": ""}
        case ClientTool():
            pass
    if isinstance(tool, HttpTool | McpServer):
        values |= {"url": tool.url, "secret_headers": _pairs(tool.secret_headers, "name", "secret")}
        values |= {"timeout_seconds": f"{tool.timeout_seconds:g}", "approval": tool.approval}
    return values


def _empty(kind: str, start: str) -> dict[str, Any]:
    values: dict[str, Any] = {"name": ""}
    if kind != "mcp":
        values |= {"description": "", "offered_as": "", "arguments": [], "schema": ""}
    values |= dict.fromkeys(_OF_KIND[kind], "")
    values |= {name: [] for name in ROWS if name in values}
    if kind in ("http", "mcp"):
        values |= {"timeout_seconds": "10" if kind == "http" else "20", "approval": "changes"}
    if kind == "http":
        values["method"] = "GET"
    if kind == "mcp":
        values |= {"allowed": [], "allowed_more": ""}
    if kind == "widget" and (begun := STARTS.get(start)) is not None:
        values |= begun.values | {"template": _json(begun.template)}
    return values


def typed_values(form: FormData, kind: str) -> dict[str, Any]:
    """What somebody typed."""
    values = _empty(kind, "")
    for name in values:
        if name in ROWS:
            values[name] = typed_rows(form, name, ROWS[name])
        elif name == "allowed":
            values[name] = [str(each) for each in form.getlist("allowed")]
        elif isinstance(sent := form.get(name), str):
            values[name] = sent.replace("\r\n", "\n")
    if "arguments" in values:  # an empty row's choices are not empty
        values["arguments"] = [
            row for row in values["arguments"] if any(row[key] for key in ("name", "about", "example"))
        ]
    if kind == "mcp":
        more = [each for each in re.split(r"[\s,]+", values["allowed_more"]) if each]
        values |= {"allowed": list(dict.fromkeys([*values["allowed"], *more])), "allowed_more": ""}
    if kind == "http":
        ticked = [{"name": "", "path": _path(str(pointer))} for pointer in form.getlist("part")]
        values["result"] = _named([*values["result"], *ticked])
    return values


def tool_of(
    values: Mapping[str, Any], kind: str, *, saved: Tool | None = None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The tool as JSON, for the configuration to judge, and what is wrong already."""
    errors: dict[str, str] = {}
    tool: dict[str, Any] = {"kind": kind, "name": slug(str(values["name"]))}
    if kind != "mcp":
        tool |= {"description": values["description"], "offered_as": values["offered_as"]}
        tool["parameters"] = _parameters(values, errors, saved)
    for name in _OF_KIND[kind]:
        value = values[name]
        match name:
            case "headers" | "secret_headers" | "actions":
                key, part = ROWS[name]
                tool[name] = {row[key]: row[part] for row in value}
                if len(tool[name]) < len(value):
                    errors[name] = "Two rows begin alike."
            case "result":
                tool[name] = {slug(row["name"]): _pointer(row["path"]) for row in value}
                if len(tool[name]) < len(value):
                    errors[name] = "Two rows have the same name."
            case "timeout_seconds":
                tool[name] = number(value) or "none"
            case "template":
                tool[name] = _object(str(value), errors, "template")
            case "url":
                tool[name] = str(value).strip()
            case _:
                tool[name] = value
    return tool, errors


def _parameters(values: Mapping[str, Any], errors: dict[str, str], saved: Tool | None) -> dict[str, Any]:
    if values["schema"].strip():
        return _object(values["schema"], errors, "schema")
    held = None if saved is None or isinstance(saved, McpServer) else saved.parameters
    if held is not None and agent_arguments.rows_of(held) == values["arguments"]:
        return held
    schema, wrong = agent_arguments.schema_of(values["arguments"])
    if wrong:
        errors["arguments"] = " ".join(wrong)
    return schema


def complaints(
    error: InvalidInput, values: Mapping[str, Any], *, at: int, kind: str, errors: Mapping[str, str]
) -> Filled:
    """The form after a refusal; `at` is the tool's place among the tools, `errors` what was wrong before it was judged."""
    found = dict(errors)
    rest = []
    for fault in error.members.get("errors", ()):
        parts = str(fault.get("field", "")).split(".")
        said = str(fault.get("message", "")).removeprefix("Value error, ")
        sentence = f"{said[:1].upper()}{said[1:]}".rstrip(".") + "."
        if parts[:2] != ["tools", str(at)]:
            rest.append(sentence)
            continue
        name = parts[3] if len(parts) > 3 else _about(said, kind)
        name = {"parameters": "schema" if values.get("schema") else "arguments"}.get(name, name)
        if name in found or name not in values:
            rest += [] if name in found else [sentence]
            continue
        own = fault.get("message", "").startswith("Value error, ")
        message = _MESSAGES.get(name, "Choose one of these.")
        found[name] = sentence if own else message.format(most=30 if kind == "http" else 60)
    return Filled(values, found, "" if found and not rest else " ".join(dict.fromkeys(rest)) or str(error))


def _about(said: str, kind: str) -> str:
    """The field that a sentence about the whole tool belongs to."""
    if "header" in said:
        return "headers" if kind == "http" else "secret_headers"
    if kind == "widget":
        return "actions" if "action" in said else "template"
    return "url"


def slug(text: str) -> str:
    """A name as models take it: “Order status” becomes `order_status`."""
    return re.sub(r"_+", "_", re.sub(r"[^a-z0-9_]", "_", text.strip().lower())).strip("_")[:48]


def _named(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Rows of the answer's parts, named after their last word where nobody named them, each path once."""
    named: list[dict[str, str]] = []
    for row in rows:
        if any(row["path"] == other["path"] and not row["name"] for other in named):
            continue
        words = [word for word in re.split(r"[./]", row["path"]) if word and not word.isdigit()]
        name = row["name"] or slug(words[-1] if words else "answer")
        taken = {other["name"] for other in named} if not row["name"] else set()
        if name in taken:
            name = slug("_".join(words[-2:]))
        named.append({"name": name, "path": row["path"]})
    return named


def _path(pointer: str) -> str:
    """`/order/status` as `order.status`, where nothing is lost by it."""
    tokens = pointer.split("/")[1:]
    return ".".join(tokens) if tokens and all(re.fullmatch(r"[^.~\s]+", token) for token in tokens) else pointer


def _pointer(path: str) -> str:
    path = path.strip()
    if not path or path.startswith("/"):
        return path
    return "/" + "/".join(token.replace("~", "~0").replace("/", "~1") for token in path.split("."))


def _pairs(values: Mapping[str, str], first: str, second: str) -> list[dict[str, str]]:
    return [{first: key, second: value} for key, value in values.items()]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _object(text: str, errors: dict[str, str], name: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        errors[name] = f"This is not valid JSON: look at line {error.lineno}, near its character {error.colno}."
        return {}
    except (ValueError, RecursionError):
        errors[name] = "This is not valid JSON."
        return {}
    if not isinstance(value, dict):
        errors[name] = "This begins with { and ends with }."
        return {}
    return value
