"""What an agent can do beyond talking: the tools of an `AgentConfig`, one class a kind."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote_plus

from pydantic import Field, field_validator, model_validator

from stonechat.assistant.config_parts import Line, Part, Text
from stonechat.assistant.schemas import declared, schema_fault
from stonechat.assistant.tools.templates import actions_of

MAX_TOOLS = 20
MAX_TEMPLATE_CHARACTERS = 32_000
ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
"""How the model calls it; unique within the agent."""
RESERVED_NAMES = frozenset({"search_knowledge", "ask_visitor", "hand_over"})
"""Names of built-in tools."""
SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]
"""A secret of the tenant, kept encrypted and apart from configurations; configurations only name it."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]
HeaderValue = Annotated[str, Field(pattern=r"^[\x20-\x7e]{0,500}$")]
PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""`{argument}` in the URL of an HTTP tool."""
_LITERAL_ORIGIN = re.compile(r"https?://[^/?#{}@\s\\]+(?=[/?]|$)")
_TRANSPORT_HEADERS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
        "cookie",
        "idempotency-key",
        "content-encoding",
        "accept-encoding",
        "content-type",
    ]
)


class _Tool(Part):
    name: ToolName
    description: Annotated[Text, Field(min_length=1, max_length=1000)]
    """Tells the model what it does and when to use it."""
    offered_as: Annotated[Line, Field(max_length=40)] = ""
    """If given, visitors may choose the tool by this label in the composer."""


class _Parametrised(_Tool):
    parameters: Annotated[dict[str, Any], Field(max_length=20)] = Field(
        default_factory=lambda: {"type": "object", "properties": {}, "additionalProperties": False}
    )
    """JSON Schema of the arguments, an object."""

    @field_validator("parameters")
    @classmethod
    def _schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        if (fault := schema_fault(value)) is not None:
            raise ValueError(fault)
        return value


class HttpTool(_Parametrised):
    """Asks a web service of the tenant's."""

    kind: Literal["http"] = "http"
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: Annotated[str, Field(min_length=1, max_length=2000)]
    """`https://…`, with `{argument}` in the path or the query; what is left over goes into the query of a GET or DELETE
    and into the JSON body of the others. The host is literal: no argument can change where a request goes."""
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=10)] = Field(default_factory=dict)
    secret_headers: Annotated[dict[HeaderName, SecretName], Field(max_length=5)] = Field(default_factory=dict)
    """Header → the name of the tenant's secret that is its value."""
    result: Annotated[dict[ToolName, Annotated[str, Field(pattern=r"^(/[^\r\n]{0,200})?$")]], Field(max_length=20)] = (
        Field(default_factory=dict)
    )
    """What the model is shown of the answer: a name → a JSON Pointer into it. Empty shows all of it, cut to size."""
    timeout_seconds: Annotated[float, Field(ge=1, le=30)] = 10.0
    approval: Literal["changes", "always", "never"] = "changes"
    """When the visitor is asked first; `changes`: unless the method is GET."""

    @property
    def needs_approval(self) -> bool:
        """Whether a call waits for the visitor."""
        return self.approval == "always" or (self.approval == "changes" and self.method != "GET")

    @model_validator(mode="after")
    def _address(self) -> Self:
        origin = _LITERAL_ORIGIN.match(self.url)
        if origin is None:
            raise ValueError(
                "the address is https://, a host written out, and a path; only path and query have arguments"
            )
        rest = self.url[origin.end() :]
        if "#" in rest or "{" in PLACEHOLDER.sub("", rest) or "}" in PLACEHOLDER.sub("", rest):
            raise ValueError("{argument} stands in the path or the query, in single braces")
        used, known = set(PLACEHOLDER.findall(rest)), declared(self.parameters)
        if used - known:
            raise ValueError(f"the address names {{{min(used - known)}}}, which is not among the parameters")
        path, _, query = rest.partition("?")
        fixed = {unquote_plus(pair.partition("=")[0]) for pair in query.split("&")} if query else set()
        if any(PLACEHOLDER.search(name) for name in fixed):
            raise ValueError("the names of a query are written out; only their values have arguments")
        left_over = known - used if self.method in ("GET", "DELETE") else set()
        if fixed & left_over:
            raise ValueError(f"“{min(fixed & left_over)}” is an argument and stands in the address already")
        if any(segment in (".", "..") for segment in path.split("/")):
            raise ValueError("the path has no “.” or “..” in it")
        return self

    @model_validator(mode="after")
    def _own_headers(self) -> Self:
        names = [name.lower() for name in (*self.headers, *self.secret_headers)]
        if len(set(names)) < len(names):
            raise ValueError("a header is given twice")
        if taken := set(names) & _TRANSPORT_HEADERS:
            raise ValueError(f"the header “{min(taken)}” is set by the platform")
        return self


class McpServer(Part):
    """A server of tools, reached by MCP over streamable HTTP."""

    kind: Literal["mcp"] = "mcp"
    name: ToolName
    """Goes before the names of its tools."""
    url: Annotated[str, Field(pattern=r"^https?://[^\s]{1,1990}$")]
    secret_headers: Annotated[dict[HeaderName, SecretName], Field(max_length=5)] = Field(default_factory=dict)
    allowed: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")], ...], Field(min_length=1, max_length=20)
    ]
    """The tools of the server that the agent may use; no others are."""
    approval: Literal["changes", "always", "never"] = "changes"
    """When the visitor is asked first; `changes`: unless the server says the tool only reads."""
    timeout_seconds: Annotated[float, Field(ge=1, le=60)] = 20.0

    @field_validator("secret_headers")
    @classmethod
    def _own_headers(cls, value: dict[str, str]) -> dict[str, str]:
        names = [name.lower() for name in value]
        if len(set(names)) < len(names):
            raise ValueError("a header is given twice")
        if taken := [
            name for name in names if name in _TRANSPORT_HEADERS or name == "accept" or name.startswith("mcp-")
        ]:
            raise ValueError(f"the header “{taken[0]}” is set by the platform")
        return value

    @field_validator("url")
    @classmethod
    def _address(cls, value: str) -> str:
        if re.fullmatch(r"https?://[^/?#{}@\\\s]+([/?][^#\\\s]*)?", value) is None:
            raise ValueError("the address is https://, a host and a path, without a user name or a fragment")
        return value


class ClientTool(_Parametrised):
    """Runs in the visitor's page, which sends back what came of it."""

    kind: Literal["client"] = "client"


class WidgetTool(_Parametrised):
    """Shows a form, a card or a list in the conversation."""

    kind: Literal["widget"] = "widget"
    template: Annotated[dict[str, Any], Field(min_length=1, max_length=40)]
    """A ChatKit widget as JSON; `{argument}` in its strings is replaced. `{"$each": "lines", …}` among children stands for
    one component for each element of a list: see `tools/templates.py`."""
    copy_text: Annotated[Text, Field(max_length=2000)] = ""
    """What is copied, and what the model later reads, in place of the widget; `{argument}` is replaced."""
    actions: Annotated[dict[Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")], ToolName], Field(max_length=10)] = (
        Field(default_factory=dict)
    )
    """The type of an action of the widget → the HTTP tool of this agent that it runs, with the action's payload as its
    arguments. Others are told to the model. A tool that answers `{"widget": …}` replaces the widget."""

    @field_validator("template")
    @classmethod
    def _is_a_widget(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("type") not in ("Card", "ListView", "Basic"):
            raise ValueError("the type of a widget is Card, ListView or Basic")
        if len(json.dumps(value)) > MAX_TEMPLATE_CHARACTERS:
            raise ValueError(f"a template has at most {MAX_TEMPLATE_CHARACTERS:,} characters as JSON")
        return value

    @model_validator(mode="after")
    def _has_its_actions(self) -> Self:
        try:
            offered = {action["type"] for action in actions_of(self.template)}
        except RecursionError:
            raise ValueError("the template is nested too deeply") from None
        if missing := set(self.actions) - offered:
            raise ValueError(f"the template has no action of the type “{min(missing)}”")
        return self


Tool = Annotated[HttpTool | McpServer | ClientTool | WidgetTool, Field(discriminator="kind")]


class HandOver(Part):
    """Letting a person take over."""

    enabled: bool = False
    message: Annotated[Text, Field(min_length=1, max_length=500)] = (
        "I have asked a colleague to take over. Please leave a way to reach you, and we will answer as soon as we can."
    )
    """What the visitor is told."""
    waiting: Annotated[Text, Field(min_length=1, max_length=500)] = (
        "Thank you. A colleague will read this and answer here."
    )
    """What the visitor is told who writes on while a person is asked for or answers."""
