"""`/demo/<tenant>`: what a customer's site looks like with the snippet pasted, and where the sources open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path

from fastapi import APIRouter, Depends, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from markdown_it import MarkdownIt

from stonechat.demo.tenants import SHOP_FOLDER, guide_folder, slug
from stonechat.errors import NotFound
from stonechat.limits.addresses import limit_address

_PAGES = Path(__file__).parent / "templates"
_HEADERS = {"Content-Security-Policy": "frame-ancestors 'self'; object-src 'none'; base-uri 'none'"}


def demo_router(domain_keys: Mapping[str, str]) -> APIRouter:
    """Routes of the demo. `domain_keys` maps `shop` and `docs` to public keys, and may be filled later."""
    router = APIRouter(prefix="/demo", include_in_schema=False, dependencies=[Depends(limit_address)])

    @router.get("")
    async def index() -> Response:
        return RedirectResponse("/demo/shop")

    @router.get("/shop")
    async def shop() -> Response:
        return _page("shop.html", domain_key=_key(domain_keys, "shop"))

    @router.get("/shop/{name}")
    async def shop_document(name: str) -> Response:
        return _shop_document(name)

    @router.get("/docs")
    async def docs() -> Response:
        return _guide_page("what-it-is", _key(domain_keys, "docs"))

    @router.get("/docs/{name}")
    async def guide_page(name: str) -> Response:
        return _guide_page(name, _key(domain_keys, "docs"))

    @router.get("/images/{name}")
    async def image(name: str) -> Response:
        for path in _images_folder().glob("*.png"):
            if path.name == name:
                return FileResponse(path, media_type="image/png", headers=_HEADERS)
        raise NotFound("There is no such picture.")

    return router


def _images_folder() -> Path:
    """The guide's pictures: beside the sources. An installed package has none, and its guide is words."""
    return guide_folder().parent / "images"


def _key(domain_keys: Mapping[str, str], name: str) -> str:
    if name not in domain_keys:
        raise NotFound("The demo is still being loaded. Try again in a moment.")
    return domain_keys[name]


def _page(template: str, **values: str) -> HTMLResponse:
    html = (_PAGES / template).read_text(encoding="utf-8")
    for name, value in values.items():
        html = html.replace("{{ " + name + " }}", value)
    return HTMLResponse(html, headers=_HEADERS)


@lru_cache
def _guide() -> dict[str, tuple[str, str]]:
    """Slug → (title, article as HTML), in reading order."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    pages = {}
    for path in sorted(guide_folder().glob("*.md")):
        text = path.read_text(encoding="utf-8")
        article = markdown.render(text)
        if not _images_folder().is_dir():
            article = re.sub(r"<p><img [^>]*></p>\n", "", article)
        pages[slug(path)] = (text.splitlines()[0].removeprefix("# "), article)
    return pages


def _guide_page(name: str, domain_key: str) -> Response:
    pages = _guide()
    if name not in pages:
        raise NotFound("There is no such page in the guide.")
    links = "".join(
        f'<a href="/demo/docs/{key}"{" aria-current=page" if key == name else ""}>{escape(title)}</a>'
        for key, (title, _) in pages.items()
    )
    return _page("docs.html", navigation=links, article=pages[name][1], domain_key=domain_key)


_ARTICLE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title} — Alder &amp; Loom</title>
<style>:root{{color-scheme:light dark;--paper:#faf6ee;--ink:#26312b;--line:#e2d9c6}}
@media (prefers-color-scheme:dark){{:root{{--paper:#191d1a;--ink:#ece6d8;--line:#343a35}}}}
body{{margin:0 auto;max-width:42em;padding:40px 24px 120px;background:var(--paper);color:var(--ink);
font:17px/1.65 "Iowan Old Style",Palatino,Georgia,serif}}h1,h2{{font-weight:500;line-height:1.2}}
table{{border-collapse:collapse;width:100%;font:15px/1.5 system-ui,sans-serif}}
th,td{{text-align:left;padding:8px 12px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}}
a{{color:inherit}}</style></head><body><p><a href="/demo/shop">← Alder &amp; Loom</a></p>{article}</body></html>"""


def _shop_document(name: str) -> Response:
    for path in SHOP_FOLDER.iterdir():
        if path.stem != name:
            continue
        if path.suffix == ".pdf":
            return FileResponse(path, media_type="application/pdf", headers=_HEADERS)
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            found = re.search(r"<main>(.*)</main>", text, re.DOTALL)
            article = found.group(1) if found else ""
        else:
            article = MarkdownIt("commonmark", {"html": False}).enable("table").render(text)
        return HTMLResponse(_ARTICLE.format(title=escape(name.replace("-", " ")), article=article), headers=_HEADERS)
    raise NotFound("The shop has no such page.")
