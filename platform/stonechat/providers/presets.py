"""Hosts that speak OpenAI's Chat Completions, as data: where they are, whether they need a key, how they differ.

Each fact comes from the host's own documentation, or from an error that it answers with. What is not known of a host is
learnt from its refusals: see `adaptation.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from stonechat.errors import InvalidInput

PresetId = Literal["anthropic", "gemini", "mistral", "cohere", "ollama", "vllm"]
Effort = Literal["none", "minimal", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Quirks:
    """How a host differs from OpenAI's own Chat Completions."""

    include_usage: bool = True
    """Whether `stream_options.include_usage` may be sent."""
    max_temperature: float = 2.0
    efforts: Mapping[Effort, Effort | None] = field(default_factory=dict)
    """What to send in place of a `reasoning_effort`; None sends nothing. Those that are not named are sent as they are."""
    parallel_tool_calls: bool = True
    """Whether that parameter is known."""


@dataclass(frozen=True, slots=True)
class Preset:
    """One kind of host."""

    id: PresetId
    label: str
    base_url: str | None
    """None for hosts that everyone runs at an address of their own."""
    needs_key: bool
    hint: str
    """Where the key comes from, or what to know before choosing it. For people."""
    address_example: str = ""
    models_url: str | None = None
    """Where its models are listed, if not at `<base_url>/models`."""
    key_header: str | None = None
    """The header that carries the key when its models are listed, if that is not `Authorization: Bearer`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent along when its models are listed."""
    quirks: Quirks = Quirks()

    @property
    def private(self) -> bool:
        """Whether it usually runs on the operator's own network."""
        return self.base_url is None


_NO_EFFORT: Mapping[Effort, Effort | None] = {
    "none": None, "minimal": None, "low": None, "medium": None, "high": None,
}  # fmt: skip

_ALL = (
    Preset(
        id="anthropic",
        label="Anthropic",
        base_url="https://api.anthropic.com/v1",
        needs_key=True,
        hint="With a key from the Claude Console. Its models’ thoughts are not shown through this kind of connection.",
        # The list of models is the native API's: it wants the native headers.
        key_header="x-api-key",
        headers={"anthropic-version": "2023-06-01"},
        # Effort is ignored there; temperatures above 1 count as 1.
        quirks=Quirks(max_temperature=1.0, efforts=_NO_EFFORT),
    ),
    Preset(
        id="gemini",
        label="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        needs_key=True,
        hint="With a key from Google AI Studio.",
        quirks=Quirks(parallel_tool_calls=False),
    ),
    Preset(
        id="mistral",
        label="Mistral",
        base_url="https://api.mistral.ai/v1",
        needs_key=True,
        hint="With a key from Mistral’s console.",
        # `stream_options` is answered with 422; its last chunk tells the use unasked.
        quirks=Quirks(include_usage=False, max_temperature=1.5, efforts=_NO_EFFORT),
    ),
    Preset(
        id="cohere",
        label="Cohere",
        base_url="https://api.cohere.ai/compatibility/v1",
        needs_key=True,
        hint="With a key from Cohere’s dashboard. A trial key allows few questions a minute.",
        # Only the native API lists models.
        models_url="https://api.cohere.com/v1/models?endpoint=chat&page_size=200",
        # Of the efforts it knows none and high.
        quirks=Quirks(
            max_temperature=1.0,
            efforts={"minimal": "none", "low": "none", "medium": "high"},
            parallel_tool_calls=False,
        ),
    ),
    Preset(
        id="ollama",
        label="Ollama",
        base_url=None,
        needs_key=False,
        hint="On a machine of your own network. Whoever runs this installation must allow that network first.",
        address_example="http://ollama:11434/v1",
        quirks=Quirks(efforts={"minimal": "low"}, parallel_tool_calls=False),
    ),
    Preset(
        id="vllm",
        label="vLLM",
        base_url=None,
        needs_key=False,
        hint="On a machine of your own network. The key is what the server was started with as --api-key, if anything.",
        address_example="http://vllm:8000/v1",
        quirks=Quirks(),
    ),
)
PRESETS: Mapping[PresetId, Preset] = {preset.id: preset for preset in _ALL}
assert tuple(PRESETS) == get_args(PresetId)  # noqa: S101  a preset for each name

_BY_HOST = {urlsplit(preset.base_url).hostname: preset for preset in _ALL if preset.base_url is not None}


def preset_of(preset: str | None, base_url: str | None) -> Preset | None:
    """The preset of that name, or the one whose host an address names; None for any other host."""
    for known in _ALL:
        if known.id == preset:
            return known
    return _BY_HOST.get(urlsplit(base_url).hostname) if base_url else None


def require_preset(preset: str) -> Preset:
    """The preset of that name, or `InvalidInput`."""
    found = preset_of(preset, None)
    if found is None:
        message = f"Choose one of {', '.join(PRESETS)}, or leave it out."
        raise InvalidInput(message, errors=[{"field": "preset", "message": message}])
    return found
