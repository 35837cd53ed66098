"""Which features of a plan a configuration uses, and what is left of it without them."""

from __future__ import annotations

from collections.abc import Collection

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import HttpTool, McpServer, WidgetTool
from stonechat.plans.terms import Feature

_TOOLS: dict[Feature, type[HttpTool] | type[McpServer]] = {
    Feature.HTTP_TOOLS: HttpTool,
    Feature.MCP_SERVERS: McpServer,
}
_PARTS = {Feature.ATTACHMENTS: "attachments", Feature.DICTATION: "dictation", Feature.HAND_OVER: "hand_over"}


def features_of(config: AgentConfig) -> frozenset[Feature]:
    """What the plan must include for all of the configuration to work."""
    tools = {feature: any(isinstance(tool, kind) for tool in config.tools) for feature, kind in _TOOLS.items()}
    used = tools | {feature: getattr(config, part).enabled for feature, part in _PARTS.items()}
    return frozenset(feature for feature, is_used in used.items() if is_used)


def within_plan(config: AgentConfig, features: Collection[Feature]) -> AgentConfig:
    """The configuration with what the plan lacks switched off; the very same one where it lacks nothing.

    Widgets whose actions would run an HTTP tool go with the tools.
    """
    lacking = features_of(config).difference(features)
    if not lacking:
        return config
    changed: dict[str, object] = {}
    dropped = tuple(kind for feature, kind in _TOOLS.items() if feature in lacking)
    if dropped:
        tools = [tool for tool in config.tools if not isinstance(tool, dropped)]
        left = {tool.name for tool in tools}
        changed["tools"] = tuple(
            tool for tool in tools if not isinstance(tool, WidgetTool) or left.issuperset(tool.actions.values())
        )
    for feature, part in _PARTS.items():
        if feature in lacking:
            changed[part] = getattr(config, part).model_copy(update={"enabled": False})
    return config.model_copy(update=changed)
