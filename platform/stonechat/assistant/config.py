"""`AgentConfig`: everything a tenant decides about an agent. Draft, versions, export and console all hold this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from stonechat.errors import InvalidInput

MODEL_PATTERN = r"^(extractive|scripted|[a-z0-9][a-z0-9-]{0,39}/[\x21-\x7e]{1,200})$"


def _storable(text: str) -> str:
    """Postgres keeps no NUL in JSON, and lone surrogates are no text."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


_Stripped = StringConstraints(strip_whitespace=True)
Line = Annotated[str, _Stripped, StringConstraints(pattern=r"^[^\r\n\t]*$"), AfterValidator(_storable)]
Text = Annotated[str, _Stripped, AfterValidator(_storable)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prompt(_Part):
    """A question that a visitor can ask with one click."""

    label: Annotated[Line, Field(min_length=1, max_length=80)]
    """What the button says."""
    prompt: Annotated[Text, Field(min_length=1, max_length=500)]
    """What is asked when it is pressed."""


class Theme(_Part):
    """The widget's looks."""

    accent: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#2563eb"
    """`#rrggbb`, for the launcher, links and the visitor's own messages."""
    scheme: Literal["auto", "light", "dark"] = "auto"
    """`auto` follows the visitor's system."""
    radius: Literal["none", "small", "medium", "large"] = "medium"
    """How round corners are."""
    density: Literal["compact", "normal", "spacious"] = "normal"
    """How much air there is between messages."""


class Launcher(_Part):
    """The button on the customer's page that opens the conversation."""

    label: Annotated[Line, Field(min_length=1, max_length=40)] = "Ask a question"
    """Its accessible name and its text."""
    position: Literal["left", "right"] = "right"
    """Which lower corner it sits in."""


class KnowledgeUse(_Part):
    """How the agent uses the tenant's documents."""

    enabled: bool = True
    """Whether the agent may search them at all. The model `extractive` can answer nothing without."""
    max_passages: Annotated[int, Field(ge=1, le=10)] = 8
    """The most passages that one search gives to the model."""


class Feedback(_Part):
    """Thumbs up and down under answers."""

    enabled: bool = True
    """Whether they are shown."""


class AgentConfig(_Part):
    """One agent, complete. Every field but the name has a default that works."""

    name: Annotated[Line, Field(min_length=1, max_length=200)]
    """Shown to visitors at the top of the conversation."""
    instructions: Annotated[Text, Field(max_length=8000)] = ""
    """What the model is told before every answer. Never sent to visitors."""
    model: Annotated[str, Field(pattern=MODEL_PATTERN)] = "extractive"
    """`extractive` (quotes documents, needs no key), `scripted` (load tests), or `<provider>/<model>`."""
    greeting: Annotated[Text, Field(max_length=500)] = "Hello! How can I help?"
    """The first line of an empty conversation."""
    prompts: Annotated[tuple[Prompt, ...], Field(max_length=6)] = ()
    """Questions to start with."""
    disclaimer: Annotated[Text, Field(max_length=500)] = ""
    """A line under the composer, such as a word about mistakes or privacy."""
    placeholder: Annotated[Line, Field(max_length=120)] = "Ask a question…"
    """Shown in the empty composer."""
    theme: Theme = Theme()
    """The widget's looks."""
    launcher: Launcher = Launcher()
    """The button on the page."""
    knowledge: KnowledgeUse = KnowledgeUse()
    """How the tenant's documents are used."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Passed to the model; None leaves the model's own default, which some models insist on."""
    max_output_tokens: Annotated[int, Field(ge=16, le=32_000)] | None = None
    """The longest answer, in the model's tokens; None leaves the model's own limit."""
    feedback: Feedback = Feedback()
    """Thumbs up and down under answers."""

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
        "theme": {
            "accent": config.theme.accent,
            "scheme": config.theme.scheme,
            "radius": config.theme.radius,
            "density": config.theme.density,
        },
        "launcher": {"label": config.launcher.label, "position": config.launcher.position},
    }
