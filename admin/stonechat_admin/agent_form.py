"""An agent's draft as a form, and a form as a change of the draft."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.datastructures import FormData

from stonechat.assistant.config import AgentConfig
from stonechat.errors import InvalidInput
from stonechat.providers.service import BUILT_IN_MODELS
from stonechat_admin.forms import Filled

MAX_PROMPTS = 6

SCHEMES = [("auto", "Follows the visitor’s device"), ("light", "Always light"), ("dark", "Always dark")]
RADII = [("none", "Square"), ("small", "Slightly round"), ("medium", "Round"), ("large", "Very round")]
DENSITIES = [("compact", "Compact"), ("normal", "Normal"), ("spacious", "Airy")]
SIDES = [("right", "Bottom right"), ("left", "Bottom left")]
ICONS = [("chat", "Speech bubble"), ("question", "Question mark"), ("spark", "Spark"), ("heart", "Heart")]
RENDERERS = [("stonechat", "Our own"), ("chatkit", "OpenAI’s ChatKit")]
LANGUAGES = [
    ("", "English"),
    ("ar", "العربية"),
    ("de", "Deutsch"),
    ("es", "Español"),
    ("fr", "Français"),
    ("it", "Italiano"),
    ("ja", "日本語"),
    ("nl", "Nederlands"),
    ("pl", "Polski"),
    ("pt", "Português"),
    ("sv", "Svenska"),
    ("tr", "Türkçe"),
]
"""What the widget speaks (`widget/src/locale`), each by its own name."""
ACCENTS = ("#2563eb", "#0f766e", "#15803d", "#b45309", "#be123c", "#7c3aed", "#1f2937")
"""Colours to start from, each readable in light and in dark."""

_MESSAGES = {
    "name": "Give it a name of up to 200 characters, on one line.",
    "greeting": "A greeting has at most 500 characters.",
    "instructions": "Instructions have at most 8,000 characters. Put facts into documents instead: it finds them there.",
    "model": "Write the model’s name as the provider writes it, without spaces.",
    "disclaimer": "A notice has at most 500 characters.",
    "placeholder": "This hint has at most 120 characters, on one line.",
    "max_passages": "Write a whole number from 1 to 10.",
    "temperature": "Write a number from 0 to 2, or leave it empty.",
    "max_output_tokens": "Write a whole number from 16 to 32,000, or leave it empty.",
    "accent": "Write the colour as # and six digits, such as #2563eb.",
    "launcher_label": "Give the button a label of up to 40 characters, on one line.",
    "teaser_text": "This has at most 160 characters, on one line.",
    "teaser_delay": "Write a whole number of seconds from 0 to 600.",
    "hidden_paths": "Write one path a line, such as /checkout or /account/*, beginning with a slash. Up to 20.",
    "prompts": "There is room for six questions.",
}
_FIELD_OF = {
    "model": "model_name",
    "theme.accent": "accent",
    "launcher.label": "launcher_label",
    "launcher.icon": "launcher_icon",
    "launcher.teaser.text": "teaser_text",
    "launcher.teaser.delay_seconds": "teaser_delay",
    "knowledge.max_passages": "max_passages",
}


def model_choices(
    providers: Iterable[str], *, platform_key: bool, production: bool, sources: Iterable[str]
) -> list[tuple[str, str]]:
    """Where answers can come from, as (value, label); `sources`, those chosen, are always among them."""
    choices = [("extractive", "Quotes from your documents")]
    names = list(providers)
    if platform_key and "openai" not in names:
        choices.append(("openai", "OpenAI"))
    choices += [(name, name) for name in names]
    if not production:
        choices.append(("scripted", "A fixed text, for trying out the page"))
    for source in sources:
        if source and source not in [value for value, _ in choices]:
            choices.append((source, f"{source} (not set up here)"))
    return choices


def languages(chosen: str) -> list[tuple[str, str]]:
    """What the widget can speak, as (value, label); `chosen` is always among them."""
    return LANGUAGES if chosen in dict(LANGUAGES) else [*LANGUAGES, (chosen, chosen)]


def values_of(config: AgentConfig) -> dict[str, Any]:
    """Every field of both forms, as they show a saved configuration."""
    source, _, name = config.model.partition("/")
    values: dict[str, Any] = {
        "name": config.name,
        "greeting": config.greeting,
        "instructions": config.instructions,
        "model_source": source,
        "model_name": name,
        "knowledge": config.knowledge.enabled,
        "max_passages": config.knowledge.max_passages,
        "disclaimer": config.disclaimer,
        "placeholder": config.placeholder,
        "feedback": config.feedback.enabled,
        "temperature": "" if config.temperature is None else f"{config.temperature:g}",
        "max_output_tokens": config.max_output_tokens or "",
        "accent": config.theme.accent,
        "scheme": config.theme.scheme,
        "radius": config.theme.radius,
        "density": config.theme.density,
        "launcher_label": config.launcher.label,
        "launcher_position": config.launcher.position,
        "launcher_icon": config.launcher.icon,
        "teaser_text": config.launcher.teaser.text,
        "teaser_delay": config.launcher.teaser.delay_seconds,
        "hidden_paths": "\n".join(config.launcher.hidden_paths),
        "locale": config.locale,
        "renderer": config.renderer,
    }
    rows = [(prompt.prompt, "" if prompt.label == prompt.prompt else prompt.label) for prompt in config.prompts]
    return values | _prompt_fields(rows)


def typed_values(form: FormData, saved: AgentConfig) -> dict[str, Any]:
    """What somebody typed, over what is saved where the form has no such field."""
    sent = {key: _text(value) for key, value in form.multi_items() if isinstance(value, str)}
    values = values_of(saved)
    for box in ("knowledge", "feedback"):
        if f"{box}_sent" in sent:  # a box that is not ticked sends nothing
            values[box] = sent.pop(box, None) is not None
    if "prompts_sent" in sent:
        values |= _prompt_fields(_prompt_rows(sent))
    values |= {key: sent[key] for key in sent.keys() & values.keys() if not key.startswith("prompt_")}
    return values


def patch_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """A change of the draft (see `assistant.config.merge_patch`) to what the form says."""
    source, name = str(values["model_source"]), str(values["model_name"]).strip()
    rows = [(values[f"prompt_text_{at}"], values[f"prompt_label_{at}"]) for at in range(MAX_PROMPTS)]
    return {
        "name": values["name"],
        "greeting": values["greeting"],
        "instructions": values["instructions"],
        "model": source if source in BUILT_IN_MODELS else f"{source}/{name}",
        "knowledge": {"enabled": values["knowledge"], "max_passages": _number(values["max_passages"])},
        "prompts": [{"prompt": text, "label": label or text[:80]} for text, label in rows if text or label],
        "disclaimer": values["disclaimer"],
        "placeholder": values["placeholder"],
        "feedback": {"enabled": values["feedback"]},
        "temperature": _number(values["temperature"]),
        "max_output_tokens": _number(values["max_output_tokens"]),
        "theme": {key: values[key] for key in ("accent", "scheme", "radius", "density")},
        "launcher": {
            "label": values["launcher_label"],
            "position": values["launcher_position"],
            "icon": values["launcher_icon"],
            "teaser": {"text": values["teaser_text"], "delay_seconds": _number(values["teaser_delay"])},
            "hidden_paths": [line.strip() for line in values["hidden_paths"].splitlines() if line.strip()],
        },
        "locale": values["locale"],
        "renderer": values["renderer"],
    }


def complaints(error: InvalidInput, values: Mapping[str, Any]) -> Filled:
    """The form after a refusal: each field at fault says what to write instead."""
    errors: dict[str, str] = {}
    for fault in error.members.get("errors", ()):
        field = str(fault.get("field", ""))
        prompt = re.fullmatch(r"prompts\.(\d)\.(prompt|label)", field)
        if prompt is not None:
            part = "text" if prompt[2] == "prompt" else "label"
            longest = "a question of up to 500" if part == "text" else "a label of up to 80"
            errors[f"prompt_{part}_{prompt[1]}"] = f"Write {longest} characters."
            continue
        name = "hidden_paths" if "hidden_paths" in field else _FIELD_OF.get(field, field.rpartition(".")[2])
        if name in values:
            errors[name] = _MESSAGES.get("model" if name == "model_name" else name, "Choose one of these.")
    return Filled(values, errors, "" if errors else str(error))


def _prompt_rows(sent: Mapping[str, str]) -> list[tuple[str, str]]:
    rows = [(sent.get(f"prompt_text_{at}", ""), sent.get(f"prompt_label_{at}", "")) for at in range(MAX_PROMPTS)]
    return [(text, label) for text, label in rows if text.strip() or label.strip()]


def _prompt_fields(rows: list[tuple[str, str]]) -> dict[str, str]:
    rows = [*rows, *[("", "")] * (MAX_PROMPTS - len(rows))]
    return {f"prompt_{part}_{at}": row[part == "label"] for at, row in enumerate(rows) for part in ("text", "label")}


def _text(value: str) -> str:
    """Browsers send line ends of their own, which would count as changes."""
    return value.replace("\r\n", "\n")


def _number(value: object) -> object:
    """None for an empty field, which means the default; anything else is for the configuration to judge."""
    text = str(value).strip().replace(",", ".")
    return text[:40] if text else None
