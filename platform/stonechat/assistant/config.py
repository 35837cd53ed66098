"""`AgentConfig`: everything a tenant decides about an agent. Draft, versions, export and console all hold this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from stonechat.assistant.config_parts import (
    Attachments,
    Dictation,
    Feedback,
    HistoryUse,
    KnowledgeUse,
    Launcher,
    Line,
    ModelChoice,
    ModelName,
    Part,
    Prompt,
    Reasoning,
    Text,
    Theme,
)
from stonechat.assistant.config_rules import Guardrails
from stonechat.assistant.config_tools import MAX_TOOLS, RESERVED_NAMES, HandOver, HttpTool, McpServer, Tool, WidgetTool
from stonechat.assistant.tools.templates import picture_hosts
from stonechat.errors import InvalidInput


class AgentConfig(Part):
    """One agent, complete. Every field but the name has a default that works."""

    name: Annotated[Line, Field(min_length=1, max_length=200)]
    """Shown to visitors at the top of the conversation."""
    instructions: Annotated[Text, Field(max_length=8000)] = ""
    """What the model is told before every answer. Never sent to visitors."""
    model: ModelName = "extractive"
    """`extractive` (quotes documents, needs no key), `scripted` (load tests), or `<provider>/<model>`."""
    model_choices: Annotated[tuple[ModelChoice, ...], Field(max_length=8)] = ()
    """Models that visitors may choose instead."""
    fallback_models: Annotated[tuple[ModelName, ...], Field(max_length=3)] = ()
    """Asked in this order when the model cannot be reached, and only then."""
    greeting: Annotated[Text, Field(max_length=500)] = "Hello! How can I help?"
    """The first line of an empty conversation."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=6)] = ()
    """Questions to start with."""
    disclaimer: Annotated[Text, Field(max_length=500)] = ""
    """A line under the composer, such as a word about mistakes or privacy."""
    placeholder: Annotated[Line, Field(max_length=120)] = "Ask a question…"
    """Shown in the empty composer."""
    locale: Annotated[str, Field(pattern=r"^([a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3})?$")] = ""
    """The language of the widget's own words for visitors whose browser asks for none that it speaks, such as `de`."""
    theme: Theme = Theme()
    """The widget's looks."""
    launcher: Launcher = Launcher()
    """The button on the page."""
    renderer: Literal["stonechat", "chatkit"] = "stonechat"
    """What draws the conversation: our own widget, which needs nobody else; or OpenAI's, which each visitor's browser loads
    from OpenAI. For that a domain key needs its `openai_domain_key`; wherever it does not come, ours is drawn."""
    knowledge: KnowledgeUse = KnowledgeUse()
    """How the tenant's documents are used."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Passed to the model; None leaves the model's own default, which some models insist on."""
    max_output_tokens: Annotated[int, Field(ge=16, le=32_000)] | None = None
    """The longest answer, in the model's tokens; None leaves the model's own limit."""
    reasoning: Reasoning = Reasoning()
    """For models that think before they speak."""
    history: HistoryUse = HistoryUse()
    """How much of a long conversation the model is shown."""
    tools: Annotated[tuple[Tool, ...], Field(max_length=MAX_TOOLS)] = ()
    """What it can do beyond talking."""
    ask: bool = False
    """Whether it may ask visitors by forms, with choices and fields, rather than only in words."""
    hand_over: HandOver = HandOver()
    """Letting a person take over."""
    titles: Literal["question", "model"] = "question"
    """What a conversation is called: the first words of its first question, or what the model makes of it in one short call,
    where the model is no built-in one."""
    guardrails: Guardrails = Guardrails()
    """Rules for what goes in and what comes out."""
    attachments: Attachments = Attachments()
    """What files visitors may send along."""
    dictation: Dictation = Dictation()
    """Speaking instead of typing."""
    feedback: Feedback = Feedback()
    """Thumbs up and down under answers."""

    @model_validator(mode="after")
    def _tools_differ(self) -> Self:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("two tools have the same name")
        if taken := RESERVED_NAMES & set(names):
            raise ValueError(f"“{min(taken)}” is the name of a built-in tool")
        return self

    @model_validator(mode="after")
    def _actions_lead_somewhere(self) -> Self:
        targets: dict[str, str] = {}
        callable_tools = {tool.name for tool in self.tools if isinstance(tool, HttpTool)}
        for tool in self.tools:
            for action, target in tool.actions.items() if isinstance(tool, WidgetTool) else ():
                if target not in callable_tools:
                    raise ValueError(f"the action “{action}” runs “{target}”, which is no HTTP tool of this agent")
                if targets.setdefault(action, target) != target:
                    raise ValueError(f"the action “{action}” runs two different tools")
        return self

    def as_json(self) -> dict[str, Any]:
        """Every field, as stored and as exported."""
        return self.model_dump(mode="json")


def parse_config(values: Mapping[str, Any]) -> AgentConfig:
    """Validate a configuration that someone wrote; raises `InvalidInput` naming each field at fault."""
    try:
        return AgentConfig.model_validate(values)
    except ValidationError as error:
        errors = [
            {"field": ".".join(str(part) for part in fault["loc"]), "message": fault["msg"]}
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        raise InvalidInput("The agent's configuration is not valid.", errors=errors) from None


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`patch` laid over `target` as RFC 7396 says: objects merge, null removes (back to the default), the rest replaces."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            present = merged.get(key)
            merged[key] = merge_patch(present if isinstance(present, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def public_config(config: AgentConfig) -> dict[str, Any]:
    """What visitors may know. Named field by field, so that a new field is private until someone decides otherwise."""
    return {
        "name": config.name,
        "greeting": config.greeting,
        "prompts": [{"label": prompt.label, "prompt": prompt.prompt} for prompt in config.prompts],
        "disclaimer": config.disclaimer,
        "placeholder": config.placeholder,
        "locale": config.locale,
        "theme": {
            "accent": config.theme.accent,
            "scheme": config.theme.scheme,
            "radius": config.theme.radius,
            "density": config.theme.density,
        },
        "launcher": {
            "label": config.launcher.label,
            "position": config.launcher.position,
            "icon": config.launcher.icon,
            "teaser": {"text": config.launcher.teaser.text, "delay_seconds": config.launcher.teaser.delay_seconds},
            "hidden_paths": list(config.launcher.hidden_paths),
        },
        "renderer": config.renderer,
        "feedback": config.feedback.enabled,
        "models": [
            {"id": choice.id, "label": choice.label, "description": choice.description}
            for choice in config.model_choices
        ],
        "tools": [
            {"id": tool.name, "label": tool.offered_as}
            for tool in config.tools
            if not isinstance(tool, McpServer) and tool.offered_as
        ],
        "attachments": _public_attachments(config.attachments),
        "dictation": config.dictation.enabled,
        "image_hosts": image_hosts(config),
    }


def image_hosts(config: AgentConfig) -> list[str]:
    """Where pictures may be loaded from: hosts that the tenant listed for them, and those written out in its widgets."""
    rules = config.guardrails.output
    listed = rules.link_hosts if rules.images == "listed" else ()
    written = (host for tool in config.tools if isinstance(tool, WidgetTool) for host in picture_hosts(tool.template))
    return sorted({*listed, *written})


def _public_attachments(attachments: Attachments) -> dict[str, Any]:
    if not attachments.enabled:
        return {"enabled": False}
    return attachments.model_dump(mode="json")
