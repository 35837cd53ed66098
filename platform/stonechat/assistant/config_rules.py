"""What an agent must not take in and must not say: the guardrails of an `AgentConfig`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stonechat.assistant.config_parts import Line, Part, Text

Host = Annotated[str, Field(pattern=r"^(\*\.)?([a-z0-9-]{1,63}\.)*[a-z0-9-]{1,63}$", max_length=253)]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class BlockedTopic(Part):
    """Something the agent does not talk about."""

    name: Annotated[Line, Field(min_length=1, max_length=60)]
    """Shown to the team, not to visitors."""
    phrases: Annotated[
        tuple[Annotated[Line, Field(min_length=2, max_length=100)], ...], Field(min_length=1, max_length=50)
    ]
    """Whole words or phrases, in any case and form of writing."""


class InputRules(Part):
    """What is checked before anything is answered."""

    max_characters: Annotated[int, Field(ge=50, le=32_000)] = 8_000
    languages: Annotated[tuple[LanguageCode, ...], Field(max_length=20)] = ()
    """ISO 639 codes of the languages it answers; empty for all."""
    blocked_topics: Annotated[tuple[BlockedTopic, ...], Field(max_length=20)] = ()
    moderation: bool = False
    """Asks the moderation endpoint of the agent's provider, where it has one. If it cannot be asked, the message is let
    through, and the conversation says so to the team."""
    moderation_model: Annotated[str, Field(pattern=r"^[\x21-\x7e]{0,200}$")] = ""
    """The model that judges; empty for the provider's own default."""
    injection: Literal["off", "flag", "block"] = "flag"
    """What to do when a message looks like an attempt to change the agent's instructions. A heuristic: it misses some, and
    is wrong sometimes."""


class OutputRules(Part):
    """What is checked of the answer, while it is written."""

    links: Literal["any", "sources", "listed"] = "sources"
    """Which links may stand in answers: any; those to hosts of the passages it was given, to the site the visitor is on,
    and to listed hosts; or to listed hosts only. Others become their text: a link can carry away what was said."""
    link_hosts: Annotated[tuple[Host, ...], Field(max_length=50)] = ()
    """`example.com`, or `*.example.com` with everything below."""
    images: Literal["none", "listed"] = "none"
    """Pictures loaded from elsewhere can carry what was said away."""
    redact: Annotated[
        tuple[Literal["secrets", "cards", "ibans", "emails", "phones", "national_ids"], ...], Field(max_length=6)
    ] = ("secrets", "cards")
    """What is blacked out in answers."""
    strict: bool = False
    """Hold the answer back until all of it was checked, for blocked topics and by moderation too. Slower to show, and nothing
    slips through in pieces. Thoughts are not shown then."""


class Guardrails(Part):
    """Rules for what goes in and what comes out."""

    input: InputRules = InputRules()
    output: OutputRules = OutputRules()
    message: Annotated[Text, Field(min_length=1, max_length=500)] = "I am sorry, I cannot help with that here."
    """What the visitor is told when a rule stops a question or an answer."""
