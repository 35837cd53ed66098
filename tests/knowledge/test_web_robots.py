"""robots.txt, as RFC 9309 has it."""

from __future__ import annotations

import pytest

from stonechat.knowledge.web.robots import MAX_BYTES, parse_robots

SHOP = "https://shop.example"


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        # nothing said
        ("", "/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("Disallow: /", "/a", True),
        # prefixes; the longest match decides, allowing if two are as long
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
        ("User-agent: *\nDisallow: /shop\nAllow: /shop/open", "/shop/open/a", True),
        ("User-agent: *\nAllow: /shop/open\nDisallow: /shop", "/shop/closed", False),
        ("User-agent: *\nAllow: /page\nDisallow: /page", "/page", True),
        ("User-agent: *\nDisallow: /A", "/a", True),
        # wildcards
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/a/b.pdf?x=1", True),
        ("User-agent: *\nDisallow: /*?sort=", "/list?sort=up", False),
        ("User-agent: *\nDisallow: /a*b*c$", "/axxbxxbc", False),
        ("User-agent: *\nDisallow: /a*b*c$", "/axxbxxcd", True),
        ("User-agent: *\nDisallow: /a*bc$", "/abcbc", False),
        ("User-agent: *\nDisallow: *ab$", "/b", True),
        ("User-agent: *\nDisallow: /$", "/", False),
        ("User-agent: *\nDisallow: /$", "/a", True),
        # one spelling for both
        ("User-agent: *\nDisallow: /caf%c3%a9", "/caf%C3%A9/menu", False),
        ("User-agent: *\nDisallow: /café", "/caf%C3%A9/menu", False),
        ("User-agent: *\nDisallow: /%7Ejo", "/~jo/", False),
        # groups: ours is ours alone; several are one; other robots' are not for us
        ("User-agent: *\nDisallow: /\nUser-agent: Stonechat\nAllow: /", "/a", True),
        ("User-agent: STONECHAT/2.0\nDisallow: /x\nUser-agent: *\nDisallow: /y", "/x", False),
        ("User-agent: stonechat\nDisallow: /x\nUser-agent: *\nDisallow: /y", "/y", True),
        ("User-agent: stonechat\nDisallow: /x\n\nUser-agent: b\nDisallow: /\n\nUser-agent: stonechat\nDisallow: /z", "/z", False),
        ("User-agent: a\nUser-agent: stonechat\nUser-agent: b\nDisallow: /x", "/x", False),
        ("User-agent: stonechatter\nDisallow: /", "/a", True),
        ("User-agent: googlebot\nDisallow: /", "/a", True),
        ("User-agent: stonechat\nCrawl-delay: 2\nUser-agent: *\nDisallow: /", "/a", True),
        # how people write it
        ("\ufeffuser-agent : *\r\n disallow : /x # because\r\n", "/x", False),
        ("User-agent: *\rDisallow: /x", "/x", False),
        ("User-agent: *\n\n\nDisallow: /x\nNonsense\nSitemap: y\nDisallow: /z", "/z", False),
    ],
)  # fmt: skip
def test_what_may_be_fetched(rules: str, path: str, allowed: bool) -> None:
    assert parse_robots(rules.encode()).allows(SHOP + path) is allowed


def test_delays_and_sitemaps_are_read() -> None:
    read = parse_robots(b"Sitemap: https://shop.example/s.xml\nUser-agent: *\nCrawl-delay: 2.5\nsitemap: /t.xml")
    assert (read.delay, read.sitemaps) == (2.5, ("https://shop.example/s.xml", "/t.xml"))
    for nonsense in (b"x", b"nan", b"inf", b"-3", b""):
        assert parse_robots(b"User-agent: *\nCrawl-delay: " + nonsense).delay is None


def test_a_hostile_file_costs_little() -> None:
    """A regular expression made of this pattern would not end."""
    pattern = b"/" + b"*a" * 900
    hostile = b"User-agent: *\n" + b"Disallow: " + pattern + b"b$\n"
    robots = parse_robots(hostile * 300)
    assert robots.allows(SHOP + "/" + "a" * 1500)
    assert parse_robots(b"User-agent: *\n" + b"# padding\n" * MAX_BYTES + b"Disallow: /").allows(SHOP + "/a")
    assert parse_robots(b"\xff\xfe\x00user-agent\x00: *\nDisallow: /x").allows(SHOP + "/x")
