"""The forms of an agent's model, of files, and of how it talks with people: values, and changes of the draft."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from starlette.datastructures import FormData

from stonechat.assistant.config import AgentConfig
from stonechat.errors import InvalidInput
from stonechat.providers.service import BUILT_IN_MODELS
from stonechat_admin.forms import Filled

MAX_ROWS = 20
EFFORTS = [
    ("", "The model’s own"),
    ("none", "None"),
    ("minimal", "Very little"),
    ("low", "A little"),
    ("medium", "Some"),
    ("high", "A lot"),
]
TITLES = [
    ("question", "The first words of its question", ""),
    ("model", "A title that the AI model writes", "One more short call to the model for each new conversation."),
]
_MB = 1_048_576
_MODEL = "Choose a provider, and write the model’s name as the provider writes it, without spaces."
_MESSAGES = {
    "model_name": _MODEL,
    "choices": "Each needs a provider, the model’s name without spaces, and a label of up to 60 characters. Up to eight.",
    "fallbacks": f"{_MODEL} Up to three.",
    "dictation_name": _MODEL,
    "temperature": "Write a number from 0 to 2, or leave it empty.",
    "max_output_tokens": "Write a whole number from 16 to 32,000, or leave it empty.",
    "max_tokens": "Write a whole number from 500 to 500,000.",
    "megabytes": "Write a number from 0.001 to 20.",
    "max_files": "Write a whole number from 1 to 10.",
    "message": "Write what visitors are told, in up to 500 characters.",
    "waiting": "Write what visitors are told, in up to 500 characters.",
}
_FIELD_OF = {
    "model": "model_name",
    "model_choices": "choices",
    "fallback_models": "fallbacks",
    "dictation.model": "dictation_name",
    "reasoning.effort": "effort",
    "history.max_tokens": "max_tokens",
    "attachments.max_bytes": "megabytes",
    "attachments.max_files": "max_files",
    "hand_over.message": "message",
    "hand_over.waiting": "waiting",
}


@dataclass(frozen=True)
class SettingsForm:
    """What a tab shows and saves."""

    values_of: Callable[[AgentConfig], dict[str, Any]]
    boxes: tuple[str, ...]
    """Fields that send nothing when they are not ticked."""
    rows: Mapping[str, tuple[str, ...]]
    """Lists: the names of a row's fields, sent as `<list>_<field>`, once for each row."""
    to_patch: Callable[[Mapping[str, Any], AgentConfig], dict[str, Any]]

    def typed_values(self, form: FormData, saved: AgentConfig) -> dict[str, Any]:
        """What somebody typed, over what is saved where the form has no such field."""
        values = self.values_of(saved)
        for name in values:
            if name in self.boxes:
                values[name] = name in form
            elif name in self.rows:
                values[name] = typed_rows(form, name, self.rows[name])
            elif isinstance(sent := form.get(name), str):
                values[name] = sent.replace("\r\n", "\n")
        return values

    def patch_of(self, values: Mapping[str, Any], saved: AgentConfig) -> dict[str, Any]:
        """A change of the draft to what the form says."""
        return self.to_patch(values, saved)

    def complaints(self, error: InvalidInput, values: Mapping[str, Any]) -> Filled:
        """The form after a refusal: each field at fault says what to write instead."""
        errors: dict[str, str] = {}
        for fault in error.members.get("errors", ()):
            field = str(fault.get("field", ""))
            name = _FIELD_OF.get(field, _FIELD_OF.get(field.partition(".")[0], field))
            if name in values:
                errors[name] = _MESSAGES.get(name, "Choose one of these.")
        return Filled(values, errors, "" if errors else str(error))


def typed_rows(form: FormData, name: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a list that somebody filled in, those that are empty left out."""
    columns = [[str(value).strip() for value in form.getlist(f"{name}_{field}")] for field in fields]
    rows = [dict(zip(fields, row, strict=True)) for row in zip_longest(*columns, fillvalue="")]
    return [row for row in rows[: 2 * MAX_ROWS] if any(row.values())]


def row_sources(form: Filled) -> list[str]:
    """The providers that a form names, in the order of its fields."""
    rows = [*(form.value("choices") or ()), *(form.value("fallbacks") or ())]
    return [str(form.value(name)) for name in ("model_source", "dictation_source")] + [row["source"] for row in rows]


def split_model(model: str) -> dict[str, str]:
    source, _, name = model.partition("/")
    return {"source": source, "name": name}


def joined_model(row: Mapping[str, Any]) -> str:
    source, name = str(row["source"]), str(row["name"]).strip()
    return source if source in BUILT_IN_MODELS else f"{source}/{name}"


def number(value: object) -> object:
    """None for an empty field, which means the default; anything else is for the configuration to judge."""
    text = str(value).strip().replace(",", ".")
    return text[:40] if text else None


def _model_values(config: AgentConfig) -> dict[str, Any]:
    model, dictation = split_model(config.model), split_model(config.dictation.model)
    return {
        "model_source": model["source"],
        "model_name": model["name"],
        "choices": [
            split_model(choice.id) | {"label": choice.label, "description": choice.description}
            for choice in config.model_choices
        ],
        "fallbacks": [split_model(model) for model in config.fallback_models],
        "temperature": "" if config.temperature is None else f"{config.temperature:g}",
        "max_output_tokens": config.max_output_tokens or "",
        "effort": config.reasoning.effort or "",
        "show": config.reasoning.show,
        "max_tokens": config.history.max_tokens,
        "summarise": config.history.summarise,
        "titles": config.titles,
        "dictation": config.dictation.enabled,
        "dictation_source": dictation["source"],
        "dictation_name": dictation["name"],
    }


def _model_patch(values: Mapping[str, Any], _saved: AgentConfig) -> dict[str, Any]:
    return {
        "model": joined_model({"source": values["model_source"], "name": values["model_name"]}),
        "model_choices": [
            {"id": joined_model(row), "label": row["label"], "description": row["description"]}
            for row in values["choices"]
        ],
        "fallback_models": [joined_model(row) for row in values["fallbacks"]],
        "temperature": number(values["temperature"]),
        "max_output_tokens": number(values["max_output_tokens"]),
        "reasoning": {"effort": values["effort"] or None, "show": values["show"]},
        "history": {"max_tokens": number(values["max_tokens"]), "summarise": values["summarise"]},
        "titles": values["titles"],
        "dictation": {
            "enabled": values["dictation"],
            "model": joined_model({"source": values["dictation_source"], "name": values["dictation_name"]}),
        },
    }


def _file_values(config: AgentConfig) -> dict[str, Any]:
    files = config.attachments
    return {
        "enabled": files.enabled,
        "images": files.images,
        "documents": files.documents,
        "megabytes": _megabytes(files.max_bytes),
        "max_files": files.max_files,
    }


def _file_patch(values: Mapping[str, Any], saved: AgentConfig) -> dict[str, Any]:
    typed, kept = str(values["megabytes"]).strip().replace(",", "."), saved.attachments.max_bytes
    size: object = typed[:40] or None
    if typed == _megabytes(kept):
        size = kept  # what is shown is rounded
    else:
        try:
            size = round(float(typed[:40]) * _MB)
        except (ValueError, OverflowError):
            size = typed[:40] or "none"
    return {
        "attachments": {
            "enabled": values["enabled"],
            "images": values["images"],
            "documents": values["documents"],
            "max_bytes": size,
            "max_files": number(values["max_files"]),
        }
    }


def _megabytes(size: int) -> str:
    return f"{size / _MB:.3g}"


def _talk_values(config: AgentConfig) -> dict[str, Any]:
    return {
        "ask": config.ask,
        "hand_over": config.hand_over.enabled,
        "message": config.hand_over.message,
        "waiting": config.hand_over.waiting,
    }


def _talk_patch(values: Mapping[str, Any], _saved: AgentConfig) -> dict[str, Any]:
    return {
        "ask": values["ask"],
        "hand_over": {"enabled": values["hand_over"], "message": values["message"], "waiting": values["waiting"]},
    }


_CHOICE = ("source", "name", "label", "description")
SETTINGS: dict[str, SettingsForm] = {
    "model": SettingsForm(
        _model_values,
        ("show", "summarise", "dictation"),
        {"choices": _CHOICE, "fallbacks": ("source", "name")},
        _model_patch,
    ),
    "files": SettingsForm(_file_values, ("enabled", "images", "documents"), {}, _file_patch),
    "abilities": SettingsForm(_talk_values, ("ask", "hand_over"), {}, _talk_patch),
}
"""By tab."""
