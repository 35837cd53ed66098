"""What a page says about itself and leads to. Runs in the child process that reads documents: pages are not trusted."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from stonechat.errors import DocumentWithoutText
from stonechat.knowledge.extractors.html import extract_html

MAX_LINKS = 1000
MAX_HREF = 2000
_REFRESH = re.compile(r"\A\s*\d{1,5}(?:\.\d+)?\s*[;,]\s*url\s*=\s*[\"']?([^\"']{1,2000})", re.IGNORECASE)


def page_facts(data: bytes) -> dict[str, Any]:
    """Links and the addresses they are relative to as written, what robots are told, and a digest of the text.

    `digest` is None for a page without text. It does not change with what visitors do not read, such as form tokens.
    """
    tree = LexborHTMLParser(data.decode("utf-8", errors="replace"))  # what is looked for here is ASCII
    robots: list[str] = []
    links: dict[str, None] = {}
    canonical = base = None
    for node in tree.css("base[href], link[rel][href], meta[name][content], meta[http-equiv][content]"):
        attributes = node.attributes
        value = (attributes.get("href") or attributes.get("content") or "").strip()
        if not value or len(value) > MAX_HREF:
            continue
        if node.tag == "base":
            base = base or value
        elif node.tag == "link":
            if "canonical" in (attributes.get("rel") or "").lower().split():
                canonical = canonical or value
        elif (attributes.get("name") or "").lower() in ("robots", "stonechat"):
            robots.append(value)
        elif (attributes.get("http-equiv") or "").lower() == "refresh" and (found := _REFRESH.match(value)):
            links[found[1].strip()] = None
    for node in tree.css("a[href], area[href]"):
        href = (node.attributes.get("href") or "").strip()
        if not href or len(href) > MAX_HREF or href.startswith("#"):
            continue
        if "nofollow" in (node.attributes.get("rel") or "").lower().split():
            continue
        links[href] = None
        if len(links) >= MAX_LINKS:
            break
    title, digest = _text_of(data)
    return {
        "base": base,
        "canonical": canonical,
        "robots": robots,
        "links": list(links),
        "title": title,
        "digest": digest,
    }


def _text_of(data: bytes) -> tuple[str | None, str | None]:
    try:
        extracted = extract_html(data)
    except DocumentWithoutText:
        return None, None
    anchors = ",".join(block.anchor or "" for block in extracted.blocks if block.kind == "heading")
    whole = f"{extracted.title or ''}\n{anchors}\n{extracted.text}"
    return extracted.title, hashlib.sha256(whole.encode("utf-8", errors="replace")).hexdigest()
