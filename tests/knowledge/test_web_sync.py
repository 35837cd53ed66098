"""Web sources are fetched, kept up to date, and say what happened."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, TargetNotAllowed, TooManySources
from stonechat.knowledge import quota, sources
from stonechat.knowledge.search import search
from stonechat.knowledge.web import service
from stonechat.knowledge.web.sync import sync_part
from support.crawling import crawling
from support.documents import one_line_pdf
from support.knowledge import run_jobs
from support.site import BRISK, Asked, Crawl, Reply, html, redirect, run_part, sitemap

SHOP = "https://shop.example"


async def test_a_page_is_fetched_read_and_answers(crawl: Crawl) -> None:
    crawl.site.pages["/returns"] = html("Parcels go back within thirty days.", "/other", title="Returns")
    source = await crawl.crawl("http://shop.example/returns#how", "url")
    assert (source.status, source.error, source.name) == ("ready", None, "shop.example/returns")
    assert crawl.site.paths == ["/robots.txt", "/returns"], "links of a single page are not followed"
    assert "Stonechat" in crawl.site.asked[0].headers["user-agent"]
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    found = await search(crawl.knowledge, crawl.tenant_id, "parcels back", limit=3)
    assert (found[0].title, found[0].url) == ("Returns", "http://shop.example/returns")


async def test_a_site_is_crawled_within_its_prefix(crawl: Crawl) -> None:
    crawl.site.pages |= {
        "/docs/": html("Start", "a?utm_source=x", "/docs/a#part", "/blog/", "https://other.example/docs/x", "deep/", "p.pdf"),
        "/docs/a": html("About a", "/docs/", "img.png", "mailto:x@shop.example", title="A"),
        "/docs/deep/": html("Deep", "deeper"),
        "/docs/deep/deeper": html("Deeper", "deepest"),
        "/docs/deep/deepest": html("Deepest"),
        "/docs/p.pdf": Reply(one_line_pdf(["Prices are listed here"]), headers={"Content-Type": "application/pdf"}),
        "/blog/": html("Blog"),
    }  # fmt: skip
    source = await crawl.crawl("http://shop.example/docs/", max_depth=2)
    assert source.status == "ready"
    assert await crawl.states(source.source_id) == {
        "/docs/": "kept", "/docs/a": "kept", "/docs/deep/": "kept", "/docs/deep/deeper": "kept", "/docs/p.pdf": "kept",
    }  # fmt: skip
    assert crawl.site.most_at_once == 1
    kinds = {url.rpartition("/")[2]: document.media_type for url, document in (await crawl.documents()).items()}
    assert kinds["p.pdf"] == "application/pdf"
    assert (
        service.progress_of(source).model_dump() | {"bytes": 0}
        == service.Progress(found=5, done=5, documents=5, added=5, files=1, visits=5).model_dump()
    )


async def test_a_sitemap_is_followed_through_its_index(crawl: Crawl) -> None:
    crawl.site.pages |= {
        "/sitemap.xml": sitemap("http://shop.example/s1.xml.gz", "http://shop.example/s2.txt", "http://evil.example/s", index=True),
        "/s1.xml.gz": Reply(gzip.compress(bytes(sitemap(f"{SHOP.replace('https', 'http')}/a", "http://other.example/x").body)), headers={"Content-Type": "application/gzip"}),
        "/s2.txt": Reply(b"http://shop.example/b\nhttp://shop.example/c\n", headers={"Content-Type": "text/plain"}),
        **{f"/{name}": html(f"Page {name}", "/unlisted") for name in "abc"},
    }  # fmt: skip
    source = await crawl.crawl("http://shop.example/sitemap.xml", "sitemap")
    assert sorted(await crawl.documents()) == [f"http://shop.example/{name}" for name in "abc"]
    assert source.status == "ready"
    crawl.site.pages["/s2.txt"] = Reply(b"http://shop.example/b\n", headers={"Content-Type": "text/plain"})
    await crawl.again(source.source_id)
    assert sorted(await crawl.documents()) == ["http://shop.example/a", "http://shop.example/b"], "no longer listed"
    crawl.site.pages["/s2.txt"] = Reply(b"", 503)
    source = await crawl.again(source.source_id)
    assert len(await crawl.documents()) == 2, "a sitemap that cannot be read takes nothing away"


async def test_what_is_unchanged_is_neither_sent_nor_read_again(crawl: Crawl) -> None:
    def tagged(asked: Asked) -> Reply:
        if asked.headers.get("if-none-match") == '"1"':
            return Reply(b"", 304, {"ETag": '"1"'})
        return html("Tagged words", ETag='"1"')

    token = iter(range(100))
    crawl.site.pages |= {
        "/": html("Start", "/tagged", "/form"),
        "/tagged": tagged,
        "/form": lambda _: html("A form", head=f'<meta name="csrf" content="{next(token)}">'),
    }
    source = await crawl.crawl("http://shop.example/")
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    before = {url: (each.document_id, each.version) for url, each in (await crawl.documents()).items()}
    source = await crawl.again(source.source_id)
    assert await run_jobs(crawl.knowledge, crawl.tenant_id) == []
    assert {url: (each.document_id, each.version) for url, each in (await crawl.documents()).items()} == before
    assert service.progress_of(source).unchanged == 3

    crawl.site.pages["/form"] = html("Another form")
    source = await crawl.again(source.source_id)
    assert service.progress_of(source).changed == 1
    assert [document.status for url, document in (await crawl.documents()).items() if "form" in url] == ["pending"]
    assert await search(crawl.knowledge, crawl.tenant_id, "form", limit=3), "the old words answer meanwhile"
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    found = await search(crawl.knowledge, crawl.tenant_id, "another form", limit=1)
    assert found[0].text == "Another form"


async def test_what_is_gone_disappears_and_what_fails_for_now_stays(crawl: Crawl) -> None:
    crawl.site.pages |= {"/": html("Start", "/gone", "/ill", "/shy"), **{f"/{n}": html(f"Words of {n}") for n in ("gone", "ill", "shy")}}  # fmt: skip
    source = await crawl.crawl("http://shop.example/")
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    crawl.site.pages |= {"/gone": Reply(b"", 410), "/ill": Reply(b"", 500), "/shy": html("Words of shy", head='<meta name="robots" content="noindex">')}  # fmt: skip
    crawl.site.asked.clear()
    source = await crawl.again(source.source_id)
    assert sorted(await crawl.documents()) == ["http://shop.example/", "http://shop.example/ill"]
    assert crawl.site.paths.count("/ill") == 2, "tried again at the end"
    assert await crawl.states(source.source_id) == {"/": "kept", "/gone": "page_gone", "/ill": "site_error", "/shy": "noindex"}  # fmt: skip
    assert source.status == "ready"
    assert "keeps answering" in str((await crawl.pages(source.source_id))["http://shop.example/ill"].reason)
    assert await search(crawl.knowledge, crawl.tenant_id, "words of ill", limit=1)
    assert all("gone" not in found.text for found in await search(crawl.knowledge, crawl.tenant_id, "gone", limit=5))
    crawl.site.pages["/gone"] = html("Back again")
    await crawl.again(source.source_id)
    assert "http://shop.example/gone" in await crawl.documents()


async def test_a_redirect_is_followed_within_the_bounds_only(crawl: Crawl) -> None:
    crawl.site.pages |= {
        "/": html("Start", "/old", "/away", "/login", "/round", "/self", *(f"/chain{n}" for n in (0,))),
        "/old": redirect("http://www.shop.example/new", 301),
        "/new": html("New words"),
        "/away": redirect("http://other.example/x", 301),
        "/login": redirect("http://other.example/login", 302),
        "/round": redirect("/dnuor"),
        "/dnuor": redirect("/round"),
        "/self": redirect("/self"),
        **{f"/chain{n}": redirect(f"/chain{n + 1}") for n in range(20)},
        "/x": html("Private"),
    }
    source = await crawl.crawl("http://shop.example/")
    states = await crawl.states(source.source_id)
    assert states["/old"] == "page_moved"
    assert states["http://www.shop.example/new"] == "kept"
    assert (states["/away"], states["/login"]) == ("redirects_away", "redirects_away")
    assert (states["/round"], states["/dnuor"], states["/self"]) == ("page_moved", "page_moved", "redirect_loop")
    assert states["/chain5"] == "redirect_loop"
    assert "/chain6" not in states
    assert {each.host for each in crawl.site.asked} == {"shop.example", "www.shop.example"}


async def test_copies_are_kept_once(crawl: Crawl) -> None:
    crawl.site.pages |= {
        "/": html("Start", "/a", "/a-print", "/b", "/c", "/d", "/e", "/home"),
        "/a": html("Long words about a"),
        "/a-print": html("Long words about a"),
        "/b": html("Words of b", head='<link rel="canonical" href="/b2">'),
        "/b2": html("Words of b2", head='<link rel="canonical" href="http://www.shop.example/b2/">'),
        "/c": html("Words of c", head='<link rel="canonical" href="/missing">'),
        "/d": html("Words of d", head='<link rel="canonical" href="/e">'),
        "/e": html("Words of e", head='<link rel="canonical" href="/d">'),
        "/home": html("Not the home page", head='<link rel="canonical" href="/">'),
    }
    source = await crawl.crawl("http://shop.example/")
    states = await crawl.states(source.source_id)
    assert {path: state for path, state in states.items() if path != "/missing"} == {
        "/": "kept", "/a": "kept", "/a-print": "duplicate", "/b": "duplicate", "/b2": "kept",
        "/c": "kept", "/d": "duplicate", "/e": "kept", "/home": "kept",
    }  # fmt: skip
    assert len(await crawl.documents()) == 6
    # Once the original is gone, its copy stands in for it.
    crawl.site.pages["/a"] = Reply(b"", 404)
    source = await crawl.again(source.source_id)
    states = await crawl.states(source.source_id)
    assert (states["/a"], states["/a-print"]) == ("page_gone", "kept")
    assert service.progress_of(source).documents == 6 == len(await crawl.documents())


@pytest.mark.parametrize(
    ("robots", "status", "code", "said"),
    [
        (Reply(b"", 503), "failed", "robots_unreachable", "robots.txt could not be read"),
        (Reply(b"", 429), "failed", "robots_unreachable", "(429)"),
        (Reply(b"User-agent: *\nDisallow: /"), "failed", "robots", "allow the user agent “Stonechat”"),
        (Reply(b"User-agent: *\nDisallow: /\nUser-agent: Stonechat\nDisallow:"), "ready", None, ""),
        (Reply(b"", 403), "ready", None, ""),
        (redirect("http://other.example/robots"), "ready", None, ""),
        (redirect("http://169.254.169.254/robots"), "failed", "robots_unreachable", "not on the public internet"),
    ],
)
async def test_robots_txt_is_asked_first_and_obeyed(
    crawl: Crawl, robots: Reply, status: str, code: str | None, said: str
) -> None:
    crawl.site.pages |= {"/robots.txt": robots, "/": html("Start")}
    source = await crawl.crawl("http://shop.example/")
    assert (source.status, source.error_code) == (status, code)
    assert said in (source.error or "")
    assert ("/" in crawl.site.paths) is (status == "ready")


async def test_robots_txt_and_tags_keep_pages_out_and_its_sitemaps_bring_them_in(crawl: Crawl) -> None:
    crawl.site.pages |= {
        "/robots.txt": Reply(b"User-agent: *\nDisallow: /secret\nCrawl-delay: 0.01\nSitemap: /all.xml"),
        "/all.xml": sitemap("http://shop.example/island", "http://shop.example/secret/too"),
        "/": html("Start", "/secret/a", "/header", "/quiet", "/other-robot"),
        "/island": html("Linked from nowhere"),
        "/header": Reply(html("Header").body, headers={"Content-Type": "text/html", "X-Robots-Tag": "noindex, nofollow"}),
        "/quiet": html("Quiet", "/behind", head='<meta name="Stonechat" content="nofollow">'),
        "/other-robot": Reply(html("Other").body, headers={"Content-Type": "text/html", "X-Robots-Tag": "googlebot: noindex"}),
        "/behind": html("Behind"),
        "/secret/a": html("Secret"),
    }  # fmt: skip
    source = await crawl.crawl("http://shop.example/")
    assert await crawl.states(source.source_id) == {
        "/": "kept", "/all.xml": "kept", "/island": "kept", "/header": "noindex", "/quiet": "kept", "/other-robot": "kept",
    }  # fmt: skip
    assert not any("secret" in path or path == "/behind" for path in crawl.site.paths)


@pytest.mark.parametrize(
    ("kind", "reply", "code", "said"),
    [
        ("url", Reply(b"", 404), "page_gone", "404"),
        ("url", Reply(b"", 403), "page_forbidden", "upload it as a file"),
        ("url", Reply(b"", 500), "site_error", "500"),
        ("url", html("", title=" "), "no_text", "scripts build it in the browser"),
        ("url", Reply(b"\x89PNG\r\n", headers={"Content-Type": "image/png"}), "not_readable", "image/png"),
        ("url", Reply(b"\x7fELF" + bytes(60), headers={"Content-Type": "application/octet-stream"}), "not_readable", "a program"),
        ("url", redirect("http://other.example/"), "redirects_away", "Add that address instead"),
        ("sitemap", html("No sitemap"), "document_unreadable", "This is not a sitemap"),
        ("sitemap", Reply(b"<urlset><url><loc>cut"), "document_unreadable", "This is not a sitemap"),
        ("sitemap", Reply(b"", 404), "page_gone", "404"),
        ("sitemap", sitemap(), "source_empty", "no page in it"),
        ("sitemap", Reply(b'<!DOCTYPE x [<!ENTITY a "aaa">]><urlset>&a;</urlset>'), "document_unreadable", "not a sitemap"),
    ],
)  # fmt: skip
async def test_a_source_that_brings_nothing_says_why_and_what_to_do(
    crawl: Crawl, kind: str, reply: Reply, code: str, said: str
) -> None:
    crawl.site.pages["/x"] = reply
    source = await crawl.crawl("http://shop.example/x", kind)
    assert (source.status, source.error_code) == ("failed", code)
    assert said in str(source.error)
    assert await crawl.documents() == {}


async def test_a_host_that_does_not_exist_shows_in_the_source(crawl: Crawl) -> None:
    source = await crawl.crawl("https://shpo.example/", "url")
    assert (source.status, source.error_code) == ("failed", "robots_unreachable")
    assert "shpo.example could not be resolved" in str(source.error)
    assert "Check the address" in str(source.error)


async def test_what_is_no_address_or_not_public_is_refused_at_once(crawl: Crawl) -> None:
    for url in ("shop example", "ftp://shop.example/", "https://", "javascript:alert(1)"):
        with pytest.raises(InvalidInput, match="Copy it from the browser"):
            await crawl.add(url, "url")
    for url in ("http://127.0.0.1/", "https://10.0.0.1/x", "http://localhost/", "https://shop.example:22/"):
        with pytest.raises(TargetNotAllowed):
            await crawl.add(url, "site")
    assert (await crawl.source(await crawl.add("shop.example/x", "url"))).url == "https://shop.example/x"


async def test_a_sync_is_a_chain_of_short_jobs_that_can_be_cancelled(
    database: Database, tenant_id: UUID, tmp_path: Path
) -> None:

    pace = replace(BRISK, part_pages=2)
    async with crawling(database, tenant_id, tmp_path, pace=pace) as crawl:
        crawl.site.pages |= {f"/{n}": html(f"Page {n}", f"/{n + 1}", f"/{n + 2}") for n in range(20)}
        crawl.site.pages["/"] = html("Start", "/0")
        source_id = await crawl.add("http://shop.example/", max_depth=50, exclude=["/19"])
        for _ in range(3):
            assert await run_part(database, crawl.knowledge, tenant_id)
        source = await crawl.source(source_id)
        progress = service.progress_of(source)
        assert (source.status, progress.part, progress.done) == ("syncing", 3, 6)
        assert progress.found > progress.done

        # A job that runs again after a crash, or was left over, changes nothing and asks nobody.
        asked = len(crawl.site.asked)
        await sync_part(crawl.knowledge, tenant_id, source_id=source_id, sync_id=str(source.sync_id), part=1)
        await sync_part(crawl.knowledge, tenant_id, source_id=source_id, sync_id="syn_other", part=3)
        assert len(crawl.site.asked) == asked

        async with database.tenant(tenant_id) as session:
            await service.cancel_sync(session, system(tenant_id), source_id=source_id)
        source = await crawl.work(source_id)
        assert source.status == "cancelled"
        assert len(crawl.site.asked) == asked
        assert len(await crawl.documents()) == 6, "what was read so far stays"
        source = await crawl.again(source_id)
        assert (source.status, len(await crawl.documents())) == ("ready", 20)


async def test_one_tenant_syncs_one_source_at_a_time_and_jobs_of_others_find_nothing(
    crawl: Crawl, make_tenant: Any
) -> None:
    crawl.site.pages["/"] = html("Start")
    source_id = await crawl.add("http://shop.example/")
    source = await crawl.source(source_id)
    with crawl.knowledge.web.room_for(crawl.tenant_id) as room:
        assert room
        await run_part(crawl.knowledge.database, crawl.knowledge, crawl.tenant_id)
    assert crawl.site.asked == [], "put off"
    await sync_part(crawl.knowledge, await make_tenant(), source_id=source_id, sync_id=str(source.sync_id), part=0)
    assert crawl.site.asked == [], "another tenant's job finds no such source"
    assert (await crawl.work(source_id)).status == "ready"


async def test_deleting_a_source_deletes_its_pages(crawl: Crawl) -> None:
    crawl.site.pages |= {"/": html("Start", "/a"), "/a": html("Zebras")}
    source = await crawl.crawl("http://shop.example/")
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    assert await search(crawl.knowledge, crawl.tenant_id, "zebras", limit=1)
    async with crawl.knowledge.database.tenant(crawl.tenant_id) as session:
        await sources.delete_source(session, system(crawl.tenant_id), source_id=source.source_id)
    assert await search(crawl.knowledge, crawl.tenant_id, "zebras", limit=1) == []
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    assert await crawl.documents() == {}
    with pytest.raises(NotFound):
        await crawl.source(source.source_id)


async def test_a_tenant_may_have_so_many_pages_and_no_more(crawl: Crawl) -> None:
    for number in range(4):
        await crawl.add(f"http://shop.example/{number}", max_pages=5000)
    with pytest.raises(TooManySources, match="20,000 pages"):
        await crawl.add("http://shop.example/5", "url")


async def test_a_source_holds_as_many_pages_as_it_may(crawl: Crawl) -> None:
    crawl.site.pages |= {"/": html("Start", *(f"/{n}" for n in range(9))), **{f"/{n}": html(f"Page {n}") for n in range(9)}}  # fmt: skip
    source = await crawl.crawl("http://shop.example/", max_pages=4)
    assert len(await crawl.documents()) == 4
    assert service.progress_of(source).notes == ["This source holds 4 pages already, the most it may."]


async def test_where_the_tenant_has_no_more_room_the_source_says_so(
    crawl: Crawl, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl.site.pages |= {"/": html("Start", "/a", "/b"), "/a": html("A"), "/b": html("B")}
    monkeypatch.setattr(quota, "MAX_DOCUMENTS", 1)
    source = await crawl.crawl("http://shop.example/")
    assert (source.status, len(await crawl.documents())) == ("ready", 1)
    assert "room for 1 documents" in " ".join(service.progress_of(source).notes)
    alone = await crawl.crawl("http://shop.example/a", "url")
    assert (alone.status, alone.error_code) == ("failed", "storage_full")
    assert "Delete some that you do not need" in str(alone.error)


async def test_the_encoding_may_stand_in_the_header_alone(crawl: Crawl) -> None:
    page = "<html><title>Доставка</title><body><p>Мы доставляем посылки по всей стране.</p></body></html>"
    crawl.site.pages["/"] = Reply(page.encode("koi8-r"), headers={"Content-Type": "text/html; charset=koi8-r"})
    await crawl.crawl("http://shop.example/", "url")
    await run_jobs(crawl.knowledge, crawl.tenant_id)
    found = await search(crawl.knowledge, crawl.tenant_id, "посылки", limit=1)
    assert found[0].title == "Доставка"
