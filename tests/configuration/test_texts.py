"""The document as text: read back to the letter, refused with the place of each fault."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from stonechat.configuration import texts
from stonechat.configuration.document import filled_in, placeholder
from stonechat.configuration.texts import Format, as_values, check_values, read_document, write_document
from stonechat.errors import InvalidInput, MalformedBody, PayloadTooLarge
from support.configurations import configurations, everything


@settings(max_examples=60, deadline=None)
@given(configurations)
def test_what_is_written_is_read_back_to_the_letter(values: dict[str, Any]) -> None:
    document = check_values(values)
    for form in ("yaml", "json"):
        assert read_document(write_document(document, form=form).encode(), form=form) == document
    assert check_values(as_values(document)) == document


def test_texts_of_several_lines_are_readable() -> None:
    written = write_document(
        check_values({"version": 1, "agents": [{"draft": _agent("One.\nTwo: x\n\nThree.")}]}), form="yaml"
    )
    assert "instructions: |-\n      One.\n      Two: x\n\n      Three.\n" in written


def _agent(instructions: str) -> dict[str, Any]:
    return {"name": "A", "instructions": instructions}


@pytest.mark.parametrize(
    ("at", "value", "field"),
    [
        (("agents", 0, "draft", "model"), "no such thing", "agents.0.draft.model"),
        (("agents", 0, "draft", "tools", 0, "url"), "ftp://x", "agents.0.draft.tools.0"),
        (("agents", 1, "published", "greeting"), 7, "agents.1.published.greeting"),
        (("agents", 2, "published"), "live", "agents.2.published"),
        (("agents", 0, "domain_keys", 1, "environment"), "moon", "agents.0.domain_keys.1.environment"),
        (("knowledge", "sources", 2), {"type": "site"}, "knowledge.sources.2.url"),
        (("knowledge", "sources", 2, "type"), "zip", "knowledge.sources.2"),
        (("usage", "budget", "max_tokens"), -1, "usage.budget.max_tokens"),
        (("limits", "visitor", "messages"), 1, "limits.visitor.messages"),
        (("identity_keys", 0, "kid"), "", "identity_keys.0.kid"),
        (("version",), 2, "version"),
        (("members",), [], "members"),
        (("secrets", 0, "value"), "with a \x00", "secrets.0.value"),
    ],
)
@pytest.mark.parametrize("form", ["json", "yaml"])
def test_a_fault_is_told_with_its_place(at: tuple[str | int, ...], value: Any, field: str, form: Format) -> None:
    values: Any = everything()
    place = values
    for part in at[:-1]:
        place = place[part]
    place[at[-1]] = value
    text = json.dumps(values) if form == "json" else yaml.safe_dump(values)
    with pytest.raises(InvalidInput) as refused:
        read_document(text.encode(), form=form)
    assert [fault["field"] for fault in refused.value.members["errors"]] == [field]
    assert "swordfish" not in str(refused.value.members)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &x [1]\nb: *x", "anchors and aliases"),
        ("!!python/object/apply:os.system [id]", "tags are not taken"),
        ("version: 1\nversion: 1", "“version” stands there twice (line 2"),
        ("version: 1\n1: x", "in quotes (line 2"),
        ("<<: {version: 1}", "in quotes"),
        ("? [a, b]\n: 1", "a key is text"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ("a: [", "line"),
        ("a: .inf", "float"),
    ],
)
def test_what_makes_yaml_dangerous_is_not_taken(text: str, says: str) -> None:
    with pytest.raises(MalformedBody) as refused:
        read_document(text.encode(), form="yaml")
    assert says in str(refused.value)


@pytest.mark.parametrize(
    "text", ["{", '{"version": 1, "version": 1}', '{"a": NaN}', "[" * 100_000, "", '{"a": ' * 70 + "1" + "}" * 70]
)
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedBody):
        read_document(text.encode(), form="json")


def test_dates_and_the_like_stay_text() -> None:
    read = read_document(b"version: 1\nagents:\n- draft: {name: 2026-01-31}\n", form="yaml")
    assert read.agents is not None
    assert read.agents[0].draft.name == "2026-01-31"


def test_size_and_encoding_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MalformedBody):
        read_document(b"\xff\xfe", form="yaml")
    with pytest.raises(PayloadTooLarge):
        read_document(b" " * 1025, form="json", max_bytes=1024)
    monkeypatch.setattr(texts, "MAX_FAULTS", 2)
    with pytest.raises(InvalidInput, match="2 of 5") as refused:
        check_values({"version": 1} | dict.fromkeys("abcde"))
    assert len(refused.value.members["errors"]) == 2


def test_placeholders_are_told_from_values() -> None:
    assert filled_in(placeholder("model_providers", "open-ai", "api_key")) is None
    assert filled_in(None) is None
    assert filled_in("sk-1") == "sk-1"
    assert filled_in("${x} and more") == "${x} and more"


def test_secrets_do_not_show_in_what_is_logged() -> None:
    shown = repr(check_values(everything()))
    assert not any(fish in shown for fish in ("swordfish", "marlin", "halibut"))


@pytest.mark.parametrize("part", ["secrets", "model_providers"])
def test_a_name_stands_once(part: str) -> None:
    values = everything()
    values[part].append(values[part][0])
    with pytest.raises(InvalidInput) as refused:
        check_values(values)
    assert refused.value.members["errors"][0]["field"] == part
