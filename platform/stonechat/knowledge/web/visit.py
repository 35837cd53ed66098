"""Visiting one address: what it turned out to be, in the words of the frontier. Touches no database."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from stonechat.errors import (
    DocumentUnreadable,
    PayloadTooLarge,
    StonechatError,
    TargetNotAllowed,
    UnsupportedMediaType,
)
from stonechat.knowledge.extraction import ask_reader
from stonechat.knowledge.media import MediaType, detect
from stonechat.knowledge.web.access import WebAccess
from stonechat.knowledge.web.fetch import Answer, fetch, filename_of
from stonechat.knowledge.web.urls import Scope, is_worth_a_look, normalise

Outcome = Literal["read", "unchanged", "moved", "skipped", "failed", "gone", "listed"]
MAX_REDIRECTS = 5
_READ_SECONDS = 30.0
_PERMANENT = frozenset({301, 308})
_LEFT_OUT = frozenset({MediaType.ARCHIVE, MediaType.CODE, MediaType.JSON, MediaType.EML, MediaType.FAQ})
"""Kinds of files that are read when somebody uploads them, not when a page links to them."""


@dataclass(frozen=True, slots=True)
class Address:
    """What is to be visited, and under which rules."""

    url: str
    scope: Scope
    sitemap: bool = False
    redirects: int = 0
    etag: str | None = None
    last_modified: str | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """What came of it."""

    outcome: Outcome
    code: str | None = None
    reason: str | None = None
    temporary: bool = False
    """Whether trying again later in the same sync may help."""
    status: int | None = None
    etag: str | None = None
    last_modified: str | None = None
    retry_after: float | None = None
    target: str | None = None
    """Where it has moved to."""
    canonical: str | None = None
    links: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()
    body: bytes = b""
    media_type: MediaType = MediaType.HTML
    title: str | None = None
    filename: str | None = None
    digest: bytes | None = None


async def visit(web: WebAccess, address: Address) -> Visit:
    """Fetch, and have the child read it. Never raises for what the site or the page did."""
    try:
        answer = await fetch(
            web,
            address.url,
            etag=address.etag,
            last_modified=address.last_modified,
            sitemap=address.sitemap,
        )
    except StonechatError as error:
        return _refused(error)
    if not 200 <= answer.status < 300:
        return _without_page(answer, address)
    try:
        return await (_sitemap(answer, address) if address.sitemap else _page(answer, address))
    except DocumentUnreadable as error:
        return Visit("failed", error.code, error.detail or error.title, status=answer.status)


def _refused(error: StonechatError) -> Visit:
    match error:
        case TargetNotAllowed():
            return Visit("failed", error.code, f"This address cannot be fetched from here. {error}")
        case PayloadTooLarge():
            return Visit("failed", error.code, f"{error} Split it, or upload the part that matters as a file.")
        case _:
            return Visit("failed", error.code, str(error), temporary=True)


def _without_page(answer: Answer, address: Address) -> Visit:
    status = answer.status
    if status == 304:
        return Visit("unchanged", status=status, etag=answer.etag, last_modified=answer.last_modified)
    if answer.location is not None:
        return _redirected(answer, answer.location, address)
    if status in (404, 410):
        return Visit(
            "gone", "page_gone", f"There is no such page (any more): the site answers {status}.", status=status
        )
    if status in (401, 403):
        reason = (
            f"The site refuses to show this page ({status}). If it needs a sign-in, upload it as a file; if the site "
            "blocks robots, let the user agent “Stonechat” in."
        )
        return Visit("failed", "page_forbidden", reason, status=status)
    if status == 429 or status >= 500:
        reason = f"The site answers with an error ({status}). What was read before keeps answering."
        return Visit("failed", "site_error", reason, temporary=True, status=status, retry_after=answer.retry_after)
    return Visit("failed", "unexpected_answer", f"The site answers with the status {status}.", status=status)


def _redirected(answer: Answer, location: str, address: Address) -> Visit:
    target = normalise(location, base=address.url)
    if target == address.url or address.redirects >= MAX_REDIRECTS:
        return Visit("failed", "redirect_loop", "The page redirects in circles.", status=answer.status)
    if target is None or not address.scope.holds(target):
        reason = f"The page redirects out of this source's bounds, to {location[:300]}. Add that address instead."
        return Visit(
            "skipped" if answer.status in _PERMANENT else "failed", "redirects_away", reason, status=answer.status
        )
    return Visit("moved", "page_moved", f"The page redirects to {target}.", status=answer.status, target=target)


async def _sitemap(answer: Answer, address: Address) -> Visit:
    entries = await ask_reader("sitemap", answer.body or b"", MediaType.TEXT, _READ_SECONDS)
    return Visit(
        "listed",
        status=answer.status,
        links=_within(entries["pages"], address.scope, None),
        sitemaps=_within(entries["sitemaps"], Scope(address.scope.host, "/"), None, sitemaps=True),
        body=answer.body or b"",
    )


async def _page(answer: Answer, address: Address) -> Visit:
    if answer.body is None:
        kind = answer.media_type or "of a kind that is not named"
        return Visit("skipped", "not_readable", f"It holds no text that could be read ({kind}).", status=answer.status)
    if not answer.is_html:
        return _file(answer, address)
    facts = await ask_reader("links", answer.body, MediaType.HTML, _READ_SECONDS)
    told = directives([*answer.robots, *(f"{value}" for value in facts["robots"])])
    base = normalise(facts["base"], base=address.url) if facts["base"] else address.url
    links = () if "nofollow" in told else _within(facts["links"], address.scope, base or address.url)
    if "noindex" in told:
        return Visit(
            "skipped", "noindex", "The page asks robots not to keep it (noindex).", status=answer.status, links=links
        )
    if facts["digest"] is None:
        reason = (
            "No text could be read from this page. If scripts build it in the browser, the text is not in the page that "
            "the site sends: offer a plain version, or upload the text."
        )
        return Visit("skipped", "no_text", reason, status=answer.status, links=links)
    return Visit(
        "read",
        status=answer.status,
        etag=answer.etag,
        last_modified=answer.last_modified,
        canonical=normalise(facts["canonical"], base=base or address.url) if facts["canonical"] else None,
        links=links,
        body=answer.body,
        title=facts["title"],
        digest=bytes.fromhex(facts["digest"]),
    )


def _file(answer: Answer, address: Address) -> Visit:
    body, filename = answer.body or b"", filename_of(address.url)
    if "noindex" in directives(answer.robots):
        return Visit(
            "skipped", "noindex", "The site asks robots not to keep this file (noindex).", status=answer.status
        )
    if not body.strip():
        return Visit("skipped", "no_text", "This file is empty.", status=answer.status)
    try:
        media_type = detect(body, filename)
    except UnsupportedMediaType as error:
        return Visit("skipped", "not_readable", error.detail, status=answer.status)
    if media_type in _LEFT_OUT:
        reason = "Files of this kind are not read from web sites. Upload it, if it matters."
        return Visit("skipped", "not_readable", reason, status=answer.status)
    return Visit(
        "read",
        status=answer.status,
        etag=answer.etag,
        last_modified=answer.last_modified,
        body=body,
        media_type=media_type,
        filename=filename or None,
        digest=hashlib.sha256(body).digest(),
    )


def directives(values: list[str] | tuple[str, ...]) -> frozenset[str]:
    """Of X-Robots-Tag and robots meta tags: those for everybody, and those for us. `none` is both of them."""
    told: set[str] = set()
    for value in values:
        agent, colon, rest = value.partition(":")
        if colon and agent.strip().lower() not in ("stonechat", "unavailable_after"):
            if "," not in agent:
                continue  # for another robot
            rest = value
        told |= {word.strip().lower() for word in (rest if colon else value).split(",")}
    return frozenset(told | {"noindex", "nofollow"} if "none" in told else told)


def _within(written: list[Any], scope: Scope, base: str | None, *, sitemaps: bool = False) -> tuple[str, ...]:
    """The normal forms of those addresses that belong to the source, each once."""
    found: dict[str, None] = {}
    for each in written:
        url = normalise(str(each), base=base)
        if url is not None and scope.holds(url) and (sitemaps or is_worth_a_look(url)):
            found[url] = None
    return tuple(found)
