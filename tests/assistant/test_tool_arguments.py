"""What arguments of a model can do to an address, and which schemas and arguments are taken."""

from __future__ import annotations

from typing import Any

import pytest

from stonechat.assistant.config import parse_config
from stonechat.assistant.schemas import argument_faults
from stonechat.assistant.tools import http
from stonechat.assistant.tools.urls import add_query, fill_url
from stonechat.errors import InvalidInput, TargetNotAllowed

# Addresses


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("a b", "/orders/a%20b"), ("a/b", "/orders/a%2Fb"), ("ü", "/orders/%C3%BC"), ("7?admin=1", "/orders/7%3Fadmin%3D1"),
        ("7#x", "/orders/7%23x"), ("%2e%2e", "/orders/%252e%252e"), ("@evil.example", "/orders/%40evil.example"),
        ("//evil.example/", "/orders/%2F%2Fevil.example%2F"), (7, "/orders/7"), (True, "/orders/true"), (1.5, "/orders/1.5"),
    ],
)  # fmt: skip
def test_a_value_stays_one_segment_of_the_path(value: Any, path: str) -> None:
    url, left_over = fill_url("https://shop.example/orders/{number}", {"number": value, "more": 1})
    assert url == f"https://shop.example{path}"
    assert left_over == {"more": 1}


@pytest.mark.parametrize(
    "value", ["..", ".", "", " ", "../admin", "a/../b", "..\\admin", "a/ .. /b", "7\r\nX: y", "\x00", None, ["7"], {"a": 1}]
)  # fmt: skip
def test_a_value_that_would_change_the_path_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput):
        fill_url("https://shop.example/orders/{number}/lines", {"number": value})


def test_two_values_cannot_climb_together() -> None:
    with pytest.raises(InvalidInput):
        fill_url("https://shop.example/orders/{a}{b}/lines", {"a": ".", "b": "."})


def test_a_query_takes_values_and_leaves_out_what_is_missing() -> None:
    url, _ = fill_url("https://shop.example/s?limit=5&q={q}&page={page}", {"q": "a&b=c d"})
    assert url == "https://shop.example/s?limit=5&q=a%26b%3Dc%20d"
    assert add_query(url, {"tag": ["x", "&y"], "none": None}) == f"{url}&tag=x&tag=%26y"
    assert add_query("https://shop.example", {}) == "https://shop.example"


@pytest.mark.parametrize(
    "url",
    [
        "https://{number}/orders", "https://{number}.example/", "https://shop.example{number}/", "{number}://shop.example/",
        "https://shop.example:{number}/", "https://user@shop.example/", "ftp://shop.example/", "/orders/{number}",
        "https://shop.example/{other}", "https://shop.example/#{number}", "https://shop.example/{{number}}",
        "https://shop.example/?{number}=1", "https://shop.example/../{number}", "https://shop.example/?number=5&id=7",
        "https://shop.example\\@evil.example/{number}", "https://shop.example/{number", "https://shop.example /x",
    ],
)  # fmt: skip
def test_an_address_that_is_not_plain_is_no_configuration(url: str) -> None:
    schema = {"type": "object", "properties": {"number": {"type": "string"}, "id": {"type": "string"}}}
    bad = {"kind": "http", "name": "t", "description": "d", "url": url, "parameters": schema}
    with pytest.raises(InvalidInput):
        parse_config({"name": "x", "tools": [bad]})


@pytest.mark.parametrize("header", ["Host", "content-length", "Cookie", "Transfer-Encoding", "Idempotency-Key"])
def test_headers_of_the_transport_are_no_configuration(header: str) -> None:
    bad = {"kind": "http", "name": "t", "description": "d", "url": "https://shop.example/", "headers": {header: "x"}}
    with pytest.raises(InvalidInput):
        parse_config({"name": "x", "tools": [bad]})


# Schemas


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "properties": []},
        {"type": "object", "properties": {"a": {"$ref": "https://evil.example/schema"}}},
        {"type": "object", "patternProperties": {"(a+)+$": {}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=x)y"}}},
        {"type": "object", "properties": {"a": {"type": "nonsense"}}},
        {"type": "object", "properties": {"a": {"enum": ["x" * 9000]}}},
    ],
)
def test_schemas_that_cannot_be_checked_safely_are_no_configuration(schema: dict[str, Any]) -> None:
    bad = {"kind": "http", "name": "t", "description": "d", "url": "https://shop.example/", "parameters": schema}
    with pytest.raises(InvalidInput):
        parse_config({"name": "x", "tools": [bad]})


def test_a_pattern_that_would_backtrack_for_ever_does_not() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}
    assert argument_faults(schema, {"a": "a" * 5000}) == []
    assert len(argument_faults(schema, {"a": "a" * 5000 + "!"})) == 1


def test_large_and_deep_arguments_are_refused_before_they_are_looked_at() -> None:
    schema = {"type": "object", "properties": {"a": {}}}
    assert "more than" in argument_faults(schema, {"a": [0] * 2000})[0]
    deep: Any = 0
    for _ in range(50):
        deep = [deep]
    assert "deeply" in argument_faults(schema, {"a": deep})[0]


@pytest.mark.parametrize(
    ("pointer", "found"),
    [("", {"a": [1], "b/c": 2, "~": 3}), ("/a/0", 1), ("/b~1c", 2), ("/~0", 3), ("/a/-", None), ("/a/01x", None), ("/x/y", None)],
)  # fmt: skip
def test_pointers(pointer: str, found: Any) -> None:
    assert http.point({"a": [1], "b/c": 2, "~": 3}, pointer) == found


def test_addresses_are_https_unless_the_operator_allows_others() -> None:
    with pytest.raises(TargetNotAllowed):
        fill_url("http://shop.example/", {}, allow_http=False)
