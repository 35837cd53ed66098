"""Which pages may show a chat."""

from __future__ import annotations

import pytest

from stonechat.errors import InvalidInput
from stonechat.identity.origins import MAX_ORIGINS, is_allowed, normalise_origin, normalise_origins, parse_origin


@pytest.mark.parametrize(
    ("entered", "stored"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("  https://Shop.Example ", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://shop.example:08443", "https://shop.example:8443"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com:8443", "https://*.example.com:8443"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example", "https://xn--bcher-kva.example"),
        ("https://*.bücher.example", "https://*.xn--bcher-kva.example"),
        ("https://例え.テスト", "https://xn--r8jz45g.xn--zckzah"),
        ("https://my_shop.example", "https://my_shop.example"),
        ("https://192.0.2.7", "https://192.0.2.7"),
        ("https://intranet", "https://intranet"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:5173", "http://127.0.0.1:5173"),
        ("http://shop.localhost", "http://shop.localhost"),
        ("http://*.localhost:3000", "http://*.localhost:3000"),
    ],
)
def test_origins_are_stored_as_browsers_send_them(entered: str, stored: str) -> None:
    assert normalise_origin(entered, environment="production") == stored
    assert normalise_origin(stored, environment="production") == stored
    if "*" not in stored:
        assert parse_origin(stored) == stored


@pytest.mark.parametrize(
    "entered",
    [
        "*",
        "",
        " ",
        "https://",
        "https://*",
        "https://*:443",
        "*://shop.example",
        "//shop.example",
        "shop.example",
        "null",
        "https://*.com",
        "https://*.*.example.com",
        "https://shop.*.example",
        "https://*shop.example",
        "https://shop.*",
        "https://*.",
        "https://shop.example/path",
        "https://shop.example?x",
        "https://shop.example#x",
        "https://shop.example//",
        "https://user@shop.example",
        "https://user:pw@shop.example",
        "https://shop.example:0",
        "https://shop.example:65536",
        "https://shop.example:",
        "https://shop.example:x",
        "ftp://shop.example",
        "file:///etc/passwd",
        "javascript://shop.example",
        "chrome-extension://abcdef",
        "https://shop.example.",
        "https://.shop.example",
        "https://shop..example",
        "https://-shop.example",
        "https://shop.example https://evil.example",
        "https://shop.example;script-src *",
        "https://shop.example\nX: y",
        "https://shop,example",
        "https://[::1]",
        "https://[2001:db8::1]:8443",
        "https://1.2.3",
        "https://0x7f.1",
        "https://2130706433",
        "https://999.1.1.1",
        "https://*.192.0.2.7",
        "https://shop\\.example",
        "https://sho'p.example",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 140 + "b",
        "http://shop.example",
        "http://*.shop.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "https://a\u200b\u2028.example",
        "https://%73hop.example",
    ],
)
def test_what_is_not_an_origin_is_refused(entered: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        normalise_origin(entered, environment="production")
    assert refused.value.detail


def test_plain_http_is_for_development() -> None:
    assert normalise_origin("http://shop.test:8080", environment="development") == "http://shop.test:8080"
    with pytest.raises(InvalidInput, match="https://"):
        normalise_origin("http://shop.test:8080", environment="staging")


def test_a_list_names_each_entry_at_fault_and_drops_repetitions() -> None:
    good = ["https://a.example", "https://A.example:443/", "https://b.example"]
    assert normalise_origins(good, environment="production") == ["https://a.example", "https://b.example"]
    with pytest.raises(InvalidInput) as refused:
        normalise_origins(["https://a.example", "*", "b.example"], environment="production")
    assert [fault["field"] for fault in refused.value.members["errors"]] == ["origins.1", "origins.2"]
    with pytest.raises(InvalidInput):
        normalise_origins([f"https://s{n}.example" for n in range(MAX_ORIGINS + 1)], environment="production")


@pytest.mark.parametrize(
    ("allowed", "origin", "expected"),
    [
        ("https://shop.example", "https://shop.example", True),
        ("https://shop.example", "https://SHOP.example", True),
        ("https://shop.example", "https://shop.example:443", True),
        ("https://shop.example", "http://shop.example", False),
        ("https://shop.example", "https://shop.example:8443", False),
        ("https://shop.example:8443", "https://shop.example:8443", True),
        ("https://shop.example:8443", "https://shop.example", False),
        ("https://shop.example", "https://www.shop.example", False),
        ("https://shop.example", "https://evilshop.example", False),
        ("https://shop.example", "https://shop.example.evil.example", False),
        ("https://shop.example", "https://shop.example.", False),
        ("https://shop.example", "https://shop.example/", False),
        ("https://shop.example", "https://user@shop.example", False),
        ("https://shop.example", "null", False),
        ("https://shop.example", "", False),
        ("https://shop.example", "https://shop.example, https://evil.example", False),
        ("https://*.example.com", "https://a.example.com", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://a.b.c.example.com", True),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://aexample.com", False),
        ("https://*.example.com", "https://a.example.com.evil.example", False),
        ("https://*.example.com", "https://a.example.com:8443", False),
        ("https://*.example.com", "http://a.example.com", False),
        ("https://*.example.com", "https://.example.com", False),
        ("https://*.example.com", "https://*.example.com", False),
        ("https://*.example.com:8443", "https://a.example.com:8443", True),
        ("https://*.example.com:8443", "https://a.example.com", False),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example", True),
        ("https://xn--bcher-kva.example", "https://bücher.example", True),
        ("https://192.0.2.7", "https://192.0.2.7", True),
        ("https://*.0.2.7", "https://192.0.2.7", False),
        ("http://localhost:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "http://localhost:3001", False),
        ("http://*.localhost", "http://shop.localhost", True),
        ("http://*.localhost", "http://localhost", False),
        ("https://intranet", "https://intranet", True),
    ],
)
def test_matching(allowed: str, origin: str, expected: bool) -> None:
    parsed = parse_origin(origin)
    assert (parsed is not None and is_allowed(parsed, [allowed])) is expected


def test_an_empty_list_admits_nobody() -> None:
    assert not is_allowed("https://shop.example", [])
