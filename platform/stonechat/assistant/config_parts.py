"""What an `AgentConfig` is made of: texts with bounds, looks, and how an agent uses what the tenant has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

MODEL_PATTERN = r"^(extractive|scripted|[a-z0-9][a-z0-9-]{0,39}/[\x21-\x7e]{1,200})$"
ModelName = Annotated[str, Field(pattern=MODEL_PATTERN)]
"""`extractive`, `scripted`, or `<provider>/<model>`."""


def _storable(text: str) -> str:
    """Postgres keeps no NUL in JSON, and lone surrogates are no text."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


_Stripped = StringConstraints(strip_whitespace=True)
Line = Annotated[str, _Stripped, StringConstraints(pattern=r"^[^\r\n\t]*$"), AfterValidator(_storable)]
Text = Annotated[str, _Stripped, AfterValidator(_storable)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prompt(Part):
    """A question that a visitor can ask with one click."""

    label: Annotated[Line, Field(min_length=1, max_length=80)]
    """What the button says."""
    prompt: Annotated[Text, Field(min_length=1, max_length=500)]
    """What is asked when it is pressed."""


class Theme(Part):
    """The widget's looks."""

    accent: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#2563eb"
    """`#rrggbb`, for the launcher, links and the visitor's own messages."""
    scheme: Literal["auto", "light", "dark"] = "auto"
    """`auto` follows the visitor's system."""
    radius: Literal["none", "small", "medium", "large"] = "medium"
    """How round corners are."""
    density: Literal["compact", "normal", "spacious"] = "normal"
    """How much air there is between messages."""


class Teaser(Part):
    """What the button says by itself, once for each visit."""

    text: Annotated[Line, Field(max_length=160)] = ""
    """Nothing is said where this is empty."""
    delay_seconds: Annotated[int, Field(ge=0, le=600)] = 5
    """How long the page is left in peace first."""


PathPattern = Annotated[str, Field(pattern=r"^/[^\s\x00-\x1f\x7f]{0,199}$")]
"""A path as the address shows it, such as `/checkout`; `*` stands for any characters, as in `/account/*`."""


class Launcher(Part):
    """The button on the customer's page that opens the conversation."""

    label: Annotated[Line, Field(min_length=1, max_length=40)] = "Ask a question"
    """Its accessible name and its text."""
    position: Literal["left", "right"] = "right"
    """Which lower corner it sits in."""
    icon: Literal["chat", "question", "spark", "heart"] = "chat"
    """What is drawn on it."""
    teaser: Teaser = Teaser()
    """What it says by itself."""
    hidden_paths: Annotated[tuple[PathPattern, ...], Field(max_length=20)] = ()
    """Pages without the button; a script there may still open the chat."""


class KnowledgeUse(Part):
    """How the agent uses the tenant's documents."""

    enabled: bool = True
    """Whether the agent may search them at all. The model `extractive` can answer nothing without."""
    max_passages: Annotated[int, Field(ge=1, le=10)] = 8
    """The most passages that one search gives to the model."""


class Feedback(Part):
    """Thumbs up and down under answers."""

    enabled: bool = True
    """Whether they are shown."""


class ModelChoice(Part):
    """A model that visitors may choose in the composer."""

    id: ModelName
    label: Annotated[Line, Field(min_length=1, max_length=60)]
    """What the menu says."""
    description: Annotated[Line, Field(max_length=120)] = ""


class Attachments(Part):
    """What files visitors may send along."""

    enabled: bool = False
    images: bool = True
    """Shown to models that can look at pictures; others are told the name only."""
    documents: bool = True
    """Read for this conversation only: their text goes to the model, never into the knowledge."""
    max_bytes: Annotated[int, Field(ge=1_024, le=20_971_520)] = 10_485_760
    """Of one file."""
    max_files: Annotated[int, Field(ge=1, le=10)] = 4
    """Of one message."""


class Dictation(Part):
    """Speaking instead of typing."""

    enabled: bool = False
    model: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}/[\x21-\x7e]{1,200}$")] = (
        "openai/gpt-4o-mini-transcribe"
    )
    """`<provider>/<model>` of a transcription endpoint."""


class Reasoning(Part):
    """For models that think before they speak."""

    effort: Literal["none", "minimal", "low", "medium", "high"] | None = None
    """Passed to the model; None leaves the model's own default, which models without reasoning insist on."""
    show: bool = False
    """Whether visitors see a summary of what it thought."""


class HistoryUse(Part):
    """How much of a long conversation the model is shown."""

    max_tokens: Annotated[int, Field(ge=500, le=500_000)] = 16_000
    """Newest first; estimated at four characters a token."""
    summarise: bool = True
    """Whether what no longer fits is summarised, once, by the same model. Built-in models never do."""
