"""What an agent can do beyond talking: the tools of an `AgentConfig`, one class a kind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from stonechat.assistant.config_parts import Line, Part, Text

MAX_TOOLS = 20
ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
"""How the model calls it; unique within the agent."""
SecretName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,47}$")]
"""A secret of the tenant, kept encrypted and apart from configurations; configurations only name it."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


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


class HttpTool(_Parametrised):
    """Asks a web service of the tenant's."""

    kind: Literal["http"] = "http"
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: Annotated[str, Field(min_length=1, max_length=2000)]
    """`https://…`, with `{argument}` in the path or the query; what is left over goes into the query of a GET or DELETE
    and into the JSON body of the others."""
    headers: Annotated[dict[HeaderName, Annotated[Line, Field(max_length=500)]], Field(max_length=10)] = Field(
        default_factory=dict
    )
    secret_headers: Annotated[dict[HeaderName, SecretName], Field(max_length=5)] = Field(default_factory=dict)
    """Header → the name of the tenant's secret that is its value."""
    result: Annotated[dict[ToolName, Annotated[str, Field(pattern=r"^(/[^\r\n]{0,200})?$")]], Field(max_length=20)] = (
        Field(default_factory=dict)
    )
    """What the model is shown of the answer: a name → a JSON Pointer into it. Empty shows all of it, cut to size."""
    timeout_seconds: Annotated[float, Field(ge=1, le=30)] = 10.0
    approval: Literal["changes", "always", "never"] = "changes"
    """When the visitor is asked first; `changes`: unless the method is GET."""


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


class ClientTool(_Parametrised):
    """Runs in the visitor's page, which sends back what came of it."""

    kind: Literal["client"] = "client"


class WidgetTool(_Parametrised):
    """Shows a form, a card or a list in the conversation."""

    kind: Literal["widget"] = "widget"
    template: Annotated[dict[str, Any], Field(min_length=1, max_length=40)]
    """A ChatKit widget as JSON; `{argument}` in its strings is replaced."""
    copy_text: Annotated[Text, Field(max_length=2000)] = ""
    """What is copied, and what the model later reads, in place of the widget; `{argument}` is replaced."""
    actions: Annotated[dict[Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,64}$")], ToolName], Field(max_length=10)] = (
        Field(default_factory=dict)
    )
    """The type of an action of the widget → the HTTP tool of this agent that it runs. Others are told to the model."""


Tool = Annotated[HttpTool | McpServer | ClientTool | WidgetTool, Field(discriminator="kind")]


class HandOver(Part):
    """Letting a person take over."""

    enabled: bool = False
    message: Annotated[Text, Field(min_length=1, max_length=500)] = (
        "I have asked a colleague to take over. Please leave a way to reach you, and we will answer as soon as we can."
    )
    """What the visitor is told."""
