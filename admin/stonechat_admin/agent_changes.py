"""What differs between two configurations of an agent, in the words of the forms."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from stonechat.assistant.config import AgentConfig
from stonechat_admin.agent_form import DENSITIES, ICONS, LANGUAGES, RADII, RENDERERS, SCHEMES, SIDES
from stonechat_admin.agent_rules import RULE_LABELS, RULE_WORDS
from stonechat_admin.agent_rules import values_of as rule_values
from stonechat_admin.agent_settings import EFFORTS, TITLES
from stonechat_admin.agent_tool_words import tools_text

MAX_WORDS = 4000
Part = tuple[Literal["same", "gone", "new"], str]


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs."""

    label: str
    before: str
    after: str
    is_colour: bool = False
    is_long: bool = False

    @property
    def parts(self) -> list[Part]:
        """The text with what went and what came marked, word by word."""
        old, new = _words(self.before), _words(self.after)
        if len(old) + len(new) > MAX_WORDS:
            old, new = self.before.splitlines(keepends=True), self.after.splitlines(keepends=True)
        parts: list[Part] = []
        for kind, a, b, c, d in SequenceMatcher(None, old, new).get_opcodes():
            if kind == "equal":
                parts.append(("same", "".join(old[a:b])))
                continue
            if a < b:
                parts.append(("gone", "".join(old[a:b])))
            if c < d:
                parts.append(("new", "".join(new[c:d])))
        return parts


def config_changes(before: AgentConfig, after: AgentConfig) -> list[Change]:
    """The fields whose values differ, in the order of the forms."""
    found = []
    for label, read in _FIELDS:
        old, new = read(before), read(after)
        if old != new:
            found.append(
                Change(
                    label,
                    old,
                    new,
                    is_colour=label == "Accent colour",
                    is_long="\n" in old + new or len(old) + len(new) > 160,
                )
            )
    return found


def _model(model: str) -> str:
    built_in = {"extractive": "Quotes from your documents", "scripted": "A fixed text"}
    return built_in.get(model, model)


def _choices(config: AgentConfig) -> str:
    return "\n".join(
        f"{choice.label}: {_model(choice.id)}" + (f", {choice.description}" if choice.description else "")
        for choice in config.model_choices
    )


def _questions(config: AgentConfig) -> str:
    return "\n".join(
        prompt.prompt if prompt.label == prompt.prompt else f"{prompt.label}: {prompt.prompt}"
        for prompt in config.prompts
    )


def _rule(name: str) -> Callable[[AgentConfig], str]:
    def read(config: AgentConfig) -> str:
        value = rule_values(config.guardrails)[name]
        if isinstance(value, bool):
            return _switch(value)
        if name in RULE_WORDS:
            several = value if isinstance(value, list) else [value]
            return ", ".join(RULE_WORDS[name][each] for each in several)
        return str(value)

    return read


def _switch(on: bool) -> str:
    return "On" if on else "Off"


def _size(size: int) -> str:
    return f"{size / 1_048_576:.3g} MB ({size:,} bytes)"


def _or_own(value: float | None) -> str:
    return "The model’s own" if value is None else f"{value:g}"


_FIELDS: tuple[tuple[str, Callable[[AgentConfig], str]], ...] = (
    ("Name", lambda config: config.name),
    ("Greeting", lambda config: config.greeting),
    ("Instructions", lambda config: config.instructions),
    ("Answers come from", lambda config: _model(config.model)),
    ("If the model cannot be reached", lambda config: ", ".join(map(_model, config.fallback_models))),
    ("Models visitors may choose", _choices),
    ("Creativity", lambda config: _or_own(config.temperature)),
    ("Longest answer", lambda config: _or_own(config.max_output_tokens)),
    ("Thinks first", lambda config: dict(EFFORTS)[config.reasoning.effort or ""]),
    ("Shows what it thought", lambda config: _switch(config.reasoning.show)),
    ("Shown of a long conversation", lambda config: f"{config.history.max_tokens:,} tokens"),
    ("Sums up what is older", lambda config: _switch(config.history.summarise)),
    ("Titles of conversations", lambda config: {value: words for value, words, _ in TITLES}[config.titles]),
    ("Speaking instead of typing", lambda config: _switch(config.dictation.enabled)),
    ("Speech is written down by", lambda config: config.dictation.model),
    ("Abilities", lambda config: tools_text(config.tools)),
    ("Asks visitors by forms", lambda config: _switch(config.ask)),
    ("A person can take over", lambda config: _switch(config.hand_over.enabled)),
    ("Said when a person is asked for", lambda config: config.hand_over.message),
    ("Said while a person is waited for", lambda config: config.hand_over.waiting),
    ("Files from visitors", lambda config: _switch(config.attachments.enabled)),
    ("Pictures from visitors", lambda config: _switch(config.attachments.images)),
    ("Documents from visitors", lambda config: _switch(config.attachments.documents)),
    ("Largest file", lambda config: _size(config.attachments.max_bytes)),
    ("Files in one message", lambda config: str(config.attachments.max_files)),
    ("Searches your documents", lambda config: _switch(config.knowledge.enabled)),
    ("Passages per search", lambda config: str(config.knowledge.max_passages)),
    ("Starting questions", _questions),
    ("Notice under the field", lambda config: config.disclaimer),
    ("Hint in the empty field", lambda config: config.placeholder),
    ("Thumbs under answers", lambda config: _switch(config.feedback.enabled)),
    ("Accent colour", lambda config: config.theme.accent.lower()),
    ("Light or dark", lambda config: dict(SCHEMES)[config.theme.scheme]),
    ("Corners", lambda config: dict(RADII)[config.theme.radius]),
    ("Spacing", lambda config: dict(DENSITIES)[config.theme.density]),
    ("Drawn by", lambda config: dict(RENDERERS)[config.renderer]),
    ("Button’s label", lambda config: config.launcher.label),
    ("Language of the widget", lambda config: dict(LANGUAGES).get(config.locale, config.locale)),
    ("Button’s icon", lambda config: dict(ICONS)[config.launcher.icon]),
    ("Button says by itself", lambda config: config.launcher.teaser.text),
    ("Seconds before it speaks", lambda config: str(config.launcher.teaser.delay_seconds)),
    ("Pages without the button", lambda config: ", ".join(config.launcher.hidden_paths)),
    ("Button’s place", lambda config: dict(SIDES)[config.launcher.position]),
    *((label, _rule(name)) for name, label in RULE_LABELS.items()),
)


def _words(text: str) -> list[str]:
    return re.findall(r"\s+|[^\s]+", text)
