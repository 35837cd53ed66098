"""A hostile site: five hundred pages with every trap there is. The crawl ends, obeys, and fetches nothing private."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from html import escape
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from stonechat.db.session import Database
from stonechat.errors import InvalidInput, TargetNotAllowed
from stonechat.knowledge.web.progress import Progress
from support.forbidden import FORBIDDEN_ADDRESSES, FORBIDDEN_URLS
from support.knowledge import scratch_knowledge
from support.outbound import PUBLIC
from support.site import BRISK, Asked, Crawl, Reply, Site, html, redirect, serving, sitemap, web_access

PAGES = 340
PRIVATE = [f"http://[{address}]/" if ":" in address else f"http://{address}/" for address in FORBIDDEN_ADDRESSES]
HOSTILE = [*PRIVATE, *FORBIDDEN_URLS]
LOCATIONS = [url for url in HOSTILE if url.isascii() and url.isprintable() and url.strip() == url and "://" in url][
    :110
]
"""Those that a header can carry."""


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever."""
    with suppress(ConnectionError):
        while not writer.is_closing():
            writer.write(b"<")
            await writer.drain()
            await asyncio.sleep(0.05)


async def flood(writer: asyncio.StreamWriter) -> None:
    """A gigabyte."""
    with suppress(ConnectionError):
        for _ in range(16 * 1024):
            writer.write(b"x" * 65536)
            await writer.drain()


def page(number: int) -> Reply:
    """Linked in circles, to what lies ahead, and into traps."""
    ahead = [f"/p/{(number * 3 + step) % PAGES}?utm_source=page{number}#top" for step in (1, 2, 3)]
    return html(
        f"Page number {number} tells of subject{number}.",
        *ahead,
        "/",
        f"/calendar?month={number}",
        *([f"/p/{number}/", f"/print?of={number}&by=x"] if number % 10 == 0 else []),
    )


def traps(asked: Asked) -> Reply:
    """Pages without end, each leading to more of them."""
    parts = urlsplit(asked.path)
    return html(f"Trap {asked.path}", f"{parts.path}loop/", f"{parts.path}?x={len(asked.path)}", "loop/../loop/")


def hostile_site() -> Site:
    site = Site()
    everything = "".join(f'<a href="{escape(url)}">x</a>' for url in HOSTILE)
    site.pages |= {f"/p/{number}": page(number) for number in range(PAGES)}
    site.pages |= {f"/away/{number}": redirect(location) for number, location in enumerate(LOCATIONS)}
    site.pages |= {
        "/robots.txt": Reply(
            b"User-agent: *\nDisallow: /private\nDisallow: /*.cgi$\nDisallow: /calendar\nCrawl-delay: 60\n"
            b"Sitemap: /sitemap.xml\nSitemap: http://169.254.169.254/sitemap.xml\n"
        ),
        "/sitemap.xml": sitemap("http://shop.example/more.xml", *PRIVATE, index=True),
        "/more.xml": sitemap("http://shop.example/listed", "http://shop.example/private/listed", *PRIVATE),
        "/": html("Start", "/p/0", "/links", "/slow", "/giant", "/endless", "/bomb", "/loop/", "/private/a", "/x.cgi",
                  "/empty", "/rebound", *(f"/away/{number}" for number in range(len(LOCATIONS)))),
        "/links": Reply(f"<title>Links</title><p>Links</p><base href='/'>{everything}".encode()),
        "/listed": html("Only in the sitemap"),
        "/private/a": html("Private"),
        "/x.cgi": html("Private"),
        "/slow": Reply(drip),
        "/giant": Reply(flood, headers={"Content-Type": "text/html", "Content-Length": str(1024**3)}),
        "/endless": Reply(flood),
        "/bomb": Reply(
            gzip.compress(b"<p>" + bytes(60_000_000)), headers={"Content-Type": "text/html", "Content-Encoding": "gzip"}
        ),
        "/empty": html("", title=" "),
        "/rebound": redirect("http://rebind.example/"),
        **{f"/loop/{'loop/' * depth}": traps for depth in range(10)},
    }  # fmt: skip
    return site


@pytest.fixture
async def crawl(database: Database, tenant_id: UUID, tmp_path: Path) -> AsyncIterator[Crawl]:
    async with serving(hostile_site()) as site, scratch_knowledge(database, tmp_path) as room:
        table = {"rebind.example": [[PUBLIC], [PUBLIC], ["127.0.0.1"]]}
        web, backend, resolver = web_access(site, table, pace=replace(BRISK, longest_delay=0.0))
        yield Crawl(replace(room, web=web), tenant_id, site, backend, resolver)
        await web.aclose()


async def test_a_crawl_of_a_hostile_site_ends_obeys_and_fetches_nothing_private(crawl: Crawl) -> None:
    assert len(PRIVATE) >= 100
    assert len(LOCATIONS) >= 100
    source = await crawl.crawl("http://shop.example/", max_pages=500, max_depth=20)
    progress = Progress.of(source)
    assert source.status == "ready"
    states = await crawl.states(source.source_id)

    # It found what there is ...
    kept = {path for path, state in states.items() if state == "kept"}
    assert {f"/p/{number}" for number in range(PAGES)} <= kept
    assert {"/", "/links", "/listed"} <= kept
    assert progress.documents == len(await crawl.documents()) <= 500
    # ... once each, however it was linked,
    pages = [path for path in crawl.site.paths if path.startswith("/p/") and not path.endswith("/")]
    assert len(pages) == len(set(pages)) == PAGES
    # obeyed,
    assert not [
        path for path in crawl.site.paths if path.startswith(("/private", "/calendar")) or path.endswith(".cgi")
    ]
    # said what was wrong with the rest,
    assert states["/slow"] == "upstream_timed_out"
    assert {states[path] for path in ("/giant", "/endless", "/bomb")} == {"payload_too_large"}
    assert states["/empty"] == "no_text"
    assert {states[f"/away/{number}"] for number in range(len(LOCATIONS))} <= {"redirects_away", "page_moved"}
    # stayed within its bounds in the traps,
    assert len([path for path in crawl.site.paths if path.startswith(("/loop", "/print"))]) < 400
    assert len(crawl.site.asked) <= 1600
    # and went nowhere else.
    assert {each.host for each in crawl.site.asked} == {"shop.example"}
    assert set(crawl.resolver.asked) == {"shop.example"}
    assert {address for address, _ in crawl.backend.connected} == {PUBLIC}
    assert {port for _, port in crawl.backend.connected} == {80}


async def test_no_private_address_can_be_a_source(crawl: Crawl) -> None:
    refused = 0
    for url in HOSTILE:
        for kind in ("url", "sitemap", "site"):
            try:
                source_id = await crawl.add(url, kind)
            except (InvalidInput, TargetNotAllowed, ValueError):
                refused += 1
            else:  # spaces around an address are forgiven, and that it lacks its scheme
                assert urlsplit(str((await crawl.source(source_id)).url)).hostname == "shop.example", url
    assert refused >= 300
    assert crawl.backend.connected == []


async def test_a_host_that_is_rebound_to_a_private_address_is_left_alone(crawl: Crawl) -> None:
    crawl.site.pages["rebind.example/robots.txt"] = Reply(b"", 404, {"Connection": "close"})
    crawl.site.pages["rebind.example/"] = html("Metadata")
    source = await crawl.crawl("http://rebind.example/")
    assert (source.status, source.error_code) == ("failed", "target_not_allowed")
    assert "not on the public internet" in str(source.error)
    assert crawl.resolver.asked == ["rebind.example"] * 3
    assert [(each.host, each.path) for each in crawl.site.asked] == [("rebind.example", "/robots.txt")]
    assert crawl.backend.connected == [(PUBLIC, 80)]
