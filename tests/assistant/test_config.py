"""What a tenant may configure, and what visitors see of it."""

from typing import Any

import pytest

from stonechat.assistant.config import AgentConfig, merge_patch, parse_config, public_config
from stonechat.errors import InvalidInput


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", "x" * 201),
        ("name", "two\nlines"),
        ("name", "nul\x00"),
        ("name", "half \ud800 a pair"),
        ("name", None),
        ("instructions", "x" * 8001),
        ("instructions", "nul\x00"),
        ("model", ""),
        ("model", "gpt"),
        ("model", "openai/"),
        ("model", "/gpt"),
        ("model", "OpenAI/gpt"),
        ("model", "acme/two words"),
        ("model", "acme/gpt\n"),
        ("model", "extractive\n"),
        ("model", "-acme/x"),
        ("greeting", "x" * 501),
        ("prompts", [{"label": "a", "prompt": "b"}] * 7),
        ("prompts", [{"label": "", "prompt": "b"}]),
        ("prompts", [{"label": "a"}]),
        ("prompts", [{"label": "a", "prompt": "b", "icon": "c"}]),
        ("theme", {"accent": "red"}),
        ("theme", {"accent": "#12345"}),
        ("theme", {"accent": "#123456;}"}),
        ("theme", {"accent": "#123456\n"}),
        ("theme", {"scheme": "sepia"}),
        ("theme", {"font": "x"}),
        ("launcher", {"position": "top"}),
        ("launcher", {"label": ""}),
        ("launcher", {"icon": "skull"}),
        ("launcher", {"teaser": {"text": "Hi", "delay_seconds": -1}}),
        ("launcher", {"hidden_paths": ["checkout"]}),
        ("launcher", {"hidden_paths": ["/a b"]}),
        ("knowledge", {"max_passages": 0}),
        ("knowledge", {"max_passages": 11}),
        ("temperature", 2.1),
        ("temperature", -0.1),
        ("temperature", float("nan")),
        ("max_output_tokens", 15),
        ("max_output_tokens", 32_001),
        ("feedback", {"enabled": "perhaps"}),
        ("surprise", 1),
    ],
)
def test_what_is_refused_names_its_field(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_config({"name": "Shop", field: value})
    assert [error["field"].split(".")[0] for error in caught.value.members["errors"]] == [field]
    assert all(error["message"] for error in caught.value.members["errors"])


@pytest.mark.parametrize("model", ["extractive", "scripted", "openai/gpt-5.6", "my-host/meta-llama/Llama-3:8b"])
def test_models(model: str) -> None:
    assert parse_config({"name": "Shop", "model": model}).model == model


def test_a_name_is_enough_and_everything_survives_storage() -> None:
    config = parse_config({"name": "  Shop  ", "prompts": [{"label": "a", "prompt": "b\nc"}], "temperature": 0.5})
    assert config.name == "Shop"
    assert config.model == "extractive"
    assert AgentConfig.model_validate(config.as_json()) == config


def test_visitors_see_exactly_this() -> None:
    config = parse_config(
        {
            "name": "Shop",
            "instructions": "the secret recipe",
            "model": "acme/secret-model",
            "greeting": "Hi",
            "prompts": [{"label": "Refunds", "prompt": "How do refunds work?"}],
            "disclaimer": "May err.",
            "placeholder": "Ask",
            "theme": {"accent": "#ff0000", "scheme": "dark", "radius": "large", "density": "compact"},
            "launcher": {"label": "Help", "position": "left"},
        }
    )
    assert public_config(config) == {
        "name": "Shop",
        "greeting": "Hi",
        "prompts": [{"label": "Refunds", "prompt": "How do refunds work?"}],
        "disclaimer": "May err.",
        "placeholder": "Ask",
        "locale": "",
        "theme": {"accent": "#ff0000", "scheme": "dark", "radius": "large", "density": "compact"},
        "launcher": {
            "label": "Help",
            "position": "left",
            "icon": "chat",
            "teaser": {"text": "", "delay_seconds": 5},
            "hidden_paths": [],
        },
        "renderer": "stonechat",
        "feedback": True,
        "models": [],
        "tools": [],
        "attachments": {"enabled": False},
        "dictation": False,
        "image_hosts": [],
    }
    assert "secret" not in str(public_config(config))


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # from RFC 7396, appendix A, as far as the patch is an object
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: dict[str, Any], patch: dict[str, Any], merged: dict[str, Any]) -> None:
    before = repr(target)
    assert merge_patch(target, patch) == merged
    assert repr(target) == before
