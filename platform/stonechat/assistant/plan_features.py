"""Which features of a plan a configuration uses, and what is left of it without them."""

from __future__ import annotations

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import HttpTool, McpServer
from stonechat.plans.terms import Feature


def features_of(config: AgentConfig) -> frozenset[Feature]:
    """What the plan must include for all of the configuration to work."""
    used = {
        Feature.HTTP_TOOLS: any(isinstance(tool, HttpTool) for tool in config.tools),
        Feature.MCP_SERVERS: any(isinstance(tool, McpServer) for tool in config.tools),
        Feature.ATTACHMENTS: config.attachments.enabled,
        Feature.DICTATION: config.dictation.enabled,
        Feature.HAND_OVER: config.hand_over.enabled,
    }
    return frozenset(feature for feature, is_used in used.items() if is_used)
