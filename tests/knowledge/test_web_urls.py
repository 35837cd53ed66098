"""One spelling for each page, and what belongs to a source."""

from __future__ import annotations

from typing import Literal

import pytest

from stonechat.knowledge.web.urls import Scope, is_worth_a_look, leads_astray, normalise, same_page

BASE = "https://shop.example/docs/intro.html?x=1"


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("HTTPS://Shop.EXAMPLE:443/A", "https://shop.example/A"),
        ("http://shop.example:80", "http://shop.example/"),
        ("a.html#part", "https://shop.example/docs/a.html"),
        ("../b/./c/../d", "https://shop.example/b/d"),
        ("/a/%2e%2e/b", "https://shop.example/b"),
        ("/../../x", "https://shop.example/x"),
        ("?page=2", "https://shop.example/docs/intro.html?page=2"),
        ("//other.example/x", "https://other.example/x"),
        ("/caf%c3%a9", "https://shop.example/caf%C3%A9"),
        ("/café", "https://shop.example/caf%C3%A9"),
        ("/%7ejo/%41", "https://shop.example/~jo/A"),
        ("/100%", "https://shop.example/100%25"),
        ("/two words", "https://shop.example/two%20words"),
        (" /a\n b ", "https://shop.example/a%20b"),
        ("/a?", "https://shop.example/a"),
        ("/a?utm_source=x&id=3&gclid=y&FBCLID=z", "https://shop.example/a?id=3"),
        ("/a?b=2&a=1", "https://shop.example/a?b=2&a=1"),
        ("/a;jsessionid=0123?PHPSESSID=4", "https://shop.example/a"),
        ("https://münchen.example/", "https://xn--mnchen-3ya.example/"),
        ("mailto:a@shop.example", None),
        ("javascript:void(0)", None),
        ("tel:+49", None),
        ("data:text/html,x", None),
        ("https://user:pw@shop.example/", None),
        ("https://shop.example\\@127.0.0.1/", None),
        ("https://[::1", None),
        ("/" + "a" * 2001, None),
        ("", None),
    ],
)
def test_addresses_have_one_spelling(written: str, normal: str | None) -> None:
    assert normalise(written, base=BASE) == normal
    if normal is not None:
        assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("kind", "start", "url", "inside"),
    [
        ("site", "https://shop.example/", "https://shop.example/a/b", True),
        ("site", "https://shop.example/", "http://www.shop.example/a", True),
        ("site", "https://shop.example/", "https://shop.example.evil.example/a", False),
        ("site", "https://shop.example/", "https://blog.shop.example/a", False),
        ("site", "https://shop.example/", "https://shop.example:8443/a", False),
        ("site", "https://shop.example/docs/", "https://shop.example/docs/a", True),
        ("site", "https://shop.example/docs", "https://shop.example/docs/a", True),
        ("site", "https://shop.example/docs", "https://shop.example/docs-old/a", False),
        ("site", "https://shop.example/docs/intro.html", "https://shop.example/docs/a", True),
        ("site", "https://shop.example/docs/", "https://shop.example/blog/", False),
        ("site", "https://shop.example/docs/", "https://shop.example/docs/private/a", False),
        ("site", "https://shop.example/docs/", "https://shop.example/docs/privately", True),
        ("sitemap", "https://shop.example/a/sitemap.xml", "https://shop.example/b", True),
        ("url", "https://shop.example/a", "https://other.example/a", False),
    ],
)
def test_what_belongs_to_a_source(kind: Literal["url", "sitemap", "site"], start: str, url: str, inside: bool) -> None:
    assert Scope.of(kind, start, exclude=("/docs/private",)).holds(url) is inside


@pytest.mark.parametrize(
    ("path", "astray"),
    [
        ("/a/b/c", False),
        ("/a/b/a/b/a/b", False),
        ("/a/b/a/b/a/b/a/b", True),
        ("/" + "/".join(map(str, range(21))), True),
        ("////////x", True),
        ("/a?" + "&".join(f"{n}=1" for n in range(9)), True),
    ],
)
def test_addresses_that_lead_astray(path: str, astray: bool) -> None:
    assert leads_astray(f"https://shop.example{path}") is astray


def test_what_the_name_tells() -> None:
    assert is_worth_a_look("https://shop.example/prices.pdf")
    assert not is_worth_a_look("https://shop.example/logo.PNG?v=3")
    assert same_page("https://www.shop.example/a/", "http://shop.example/a")
    assert not same_page("https://shop.example/a?b", "https://shop.example/a")
