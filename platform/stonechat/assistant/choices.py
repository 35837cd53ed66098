"""What visitors chose in the composer, within what the agent offers: a tool to be used, a model to answer."""

from __future__ import annotations

from chatkit.types import InferenceOptions, UserMessageItem

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import McpServer
from stonechat.assistant.turn import Turn
from stonechat.errors import InvalidInput


def require_choices(config: AgentConfig, options: InferenceOptions) -> None:
    """Raise `InvalidInput` unless the agent offers what was chosen."""
    if options.model is not None and options.model not in {choice.id for choice in config.model_choices}:
        raise InvalidInput("This assistant does not offer that model. Choose another one.")
    if options.tool_choice is not None and options.tool_choice.id not in _offered(config):
        raise InvalidInput("This assistant does not offer that tool. Choose another one.")


def chosen_tool(turn: Turn) -> str | None:
    """The tool that the model must use first: what the message chose that is being answered, if the agent offers it."""
    last = next((item for item in reversed(turn.history) if item.type != "hidden_context_item"), None)
    if not isinstance(last, UserMessageItem) or last.inference_options.tool_choice is None:
        return None
    chosen = last.inference_options.tool_choice.id
    return chosen if chosen in _offered(turn.config) else None


def _offered(config: AgentConfig) -> set[str]:
    return {tool.name for tool in config.tools if not isinstance(tool, McpServer) and tool.offered_as}
