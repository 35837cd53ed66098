"""Links, pictures and tags in Markdown that is still being written: what each becomes where it is not allowed.

Every function looks at one place of the text and says what to do with it, or `Hold` while more text could change that.
Where readers of Markdown differ, the stricter reading counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from stonechat.assistant.guardrails.addresses import Addresses, looks_like_address
from stonechat.assistant.guardrails.recognisers import Swallow, prefixes
from stonechat.assistant.guardrails.tags import Span, Tag, read_tag

REMOVED = "[…]"
"""What stands for an address that has no text of its own."""

IMAGE = r"(?P<image>!\[|!\Z)"
LINK = r"(?P<link>\[|\]\(|\]:|\]\Z)"
DEFINITION = r"(?P<definition>\]:[ \t]*(?:\n|\Z)|\]\Z)"
TAG = r"(?P<tag><(?=[A-Za-z/!?])|<\Z)"
FENCE = r"(?P<fence>[`~]{3,}|[`~]{1,2}\Z)"
SCHEMES = ("http://", "https://", "ftp://", "www.")
_START = rf"(?<![A-Za-z0-9])(?i:{prefixes(SCHEMES)})"
URL = rf"(?P<url>{_START})"
URL_START = re.compile(_START)
URL_REST = Swallow(re.compile(r"(?:[.,:;!?*_~'\")\]]*[^\s<>|`.,:;!?*_~'\")\]])*"), re.compile(r"[.,:;!?*_~'\")\]]*"))

MAX_LABEL = 800
MAX_DEPTH = 8
"""Of brackets within brackets."""
MAX_DESTINATION = 2_000
_MAX_INFO = 200
_IN_LABEL = re.compile(r"(?:\\.)+|[\[\]]|\n[ \t]*\n", re.DOTALL)
_GAP = re.compile(r"[ \t]*(?:\n[ \t]*)?")
_BARE = re.compile(r"[^\s()\\]+|\\[^\n]?|[()]")
_ENCLOSED = re.compile(r"<[^<>\n]*>")
_TITLES = {quote: re.compile(rf"(?:[^{quote}\\\n]|\\[^\n]|\n(?![ \t]*\n))*") for quote in "\"'"}
_TITLES["("] = re.compile(r"(?:[^()\\\n]|\\[^\n]|\n(?![ \t]*\n))*")
_CLOSES = {'"': '"', "'": "'", "(": ")"}
_AUTHORITY = re.compile(r"[^\s/?#<>]*")
_AFTER_HOST = re.compile(r"[\[\]()|`\"'*,;{}^!].*", re.DOTALL)
_DEFINITION = re.compile(r"\]:[ \t]*(?:\n[ \t]*)?(\S+)")


@dataclass(frozen=True, slots=True)
class Hold:
    """More text is needed."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The text up to `end` stays. `doubtful`: readers may take what follows differently."""

    end: int
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """These spans leave the text, and what is between them is looked at again."""

    spans: tuple[Span, ...]
    rule: str


@dataclass(frozen=True, slots=True)
class Drop:
    """The text up to `end` leaves; `anchor` counts opening tags of links whose closing tag must leave too."""

    end: int
    rule: str
    anchor: int = 0


@dataclass(frozen=True, slots=True)
class Replace:
    """The text up to `end` becomes something else."""

    end: int
    instead: str
    rule: str


Step = Hold | Keep | Cut | Drop | Replace


@dataclass(frozen=True, slots=True)
class _Destination:
    """What stands in the parentheses after a link's text, and where they end."""

    written: str
    end: int


@dataclass(frozen=True, slots=True)
class Fence:
    """A run of backticks or tildes: the block of code that is open after it, and whether all readers would agree."""

    opened: str
    end: int
    is_clear: bool


def image(text: str, at: int, *, final: bool, images: Addresses) -> Step:  # noqa: PLR0911  one line a case
    """`![alt](…)`, `![alt][…]` and `![alt]`: without permission only the alternative text is left.

    Pictures by reference never have it: where they lead may be said much later.
    """
    if text[at + 1 : at + 2] != "[":
        return Keep(at + 1) if final else Hold()
    closing = _closing_bracket(text, at + 1)
    if closing is None:
        return Keep(at + 1)
    if closing < 0:
        return Cut(((at, at + 1),), "images") if closing == _TOO_LONG else (Keep(at + 1) if final else Hold())
    after = text[closing + 1 : closing + 2]
    if not after and not final:
        return Hold()
    if after == "(":
        found = _destination(text, closing + 2)
        if isinstance(found, _Destination):
            if images.allow(found.written):
                return Keep(at + 1)
            return Cut(((at, at + 2), (closing, found.end)), "images")
        if found == _MORE and not final:
            return Hold()
        return Cut(((at, at + 1),), "images" if found == _TOO_LONG else "")
    if after == "[":
        reference = _closing_bracket(text, closing + 1)
        if reference == _MORE and not final:
            return Hold()
        if reference is not None and reference >= 0:
            return Cut(((at, at + 2), (closing, reference + 1)), "images")
    return Cut(((at, at + 1),), "")


def link(text: str, at: int, *, final: bool, links: Addresses) -> Step:  # noqa: PLR0911  one line a case
    """`[text](…)` and the definitions of references, `[name]: …`. A link that is not allowed becomes its text."""
    if text[at] == "]":
        return _tail(text, at, final=final, links=links)
    closing = _closing_bracket(text, at)
    if closing is None or closing < 0:
        return Hold() if closing == _MORE and not final else Keep(at + 1)
    after = text[closing + 1 : closing + 2]
    if not after and not final:
        return Hold()
    if after != "(":
        return Keep(at + 1)
    found = _destination(text, closing + 2)
    if isinstance(found, _Destination):
        if links.allow(found.written):
            return Keep(at + 1)
        return Cut(((at, at + 1), (closing, found.end)), "links")
    if found == _MORE and not final:
        return Hold()
    return Cut(((closing + 1, closing + 2),), "links") if found == _TOO_LONG else Keep(at + 1)


def _tail(text: str, at: int, *, final: bool, links: Addresses) -> Step:  # noqa: PLR0911  one line a case
    after = text[at + 1 : at + 2]
    if not after:
        return Keep(at + 1) if final else Hold()
    if after == "(":
        found = _destination(text, at + 2)
        if isinstance(found, _Destination):
            return Keep(at + 2) if links.allow(found.written) else Replace(found.end, "]", "links")
        if found == _MORE and not final:
            return Hold()
        return Replace(at + 2, "] (", "links") if found == _TOO_LONG else Keep(at + 2)
    if after != ":":
        return Keep(at + 1)
    found_at = _DEFINITION.match(text, at, at + MAX_DESTINATION)
    if found_at is None or found_at.end() == len(text):
        waits = len(text) - at < MAX_DESTINATION and (found_at is not None or not text[at + 2 :].strip(" \t\n"))
        if waits and not final and text.count("\n", at) < 2:
            return Hold()
    if found_at is not None and looks_like_address(found_at[1]) and not links.allow(found_at[1]):
        return Replace(found_at.end(), "]", "links")
    return Keep(at + 2, doubtful=True)


def definition(text: str, at: int, *, final: bool) -> Step:
    """The start of a reference's definition: a fence of code after it may be taken for its address."""
    whole = text.find("\n", at, at + 100) >= 0 or len(text) - at > 100
    return Keep(at + 1, doubtful=True) if whole or final else Hold()


def bare_url(text: str, at: int, *, final: bool, links: Addresses) -> Step:
    """An address without any text: what is not allowed becomes `[…]`, as soon as its host is known."""
    start = URL_START.match(text, at)
    if start is None or start[0].lower() not in SCHEMES:
        return Hold() if start is not None and not final else Keep(at + 1)
    # In `www.…` the host has begun already.
    host_at = at if start[0].lower() == "www." else start.end()
    authority = _AUTHORITY.match(text, host_at, at + MAX_DESTINATION)
    end = authority.end() if authority else host_at
    if end == len(text) and not final and end - at < MAX_DESTINATION:
        return Hold()
    written = text[host_at:end]
    # With a user's name in front, or what may become a slash, the host is elsewhere than it seems.
    in_doubt = "@" in written or "\\" in written
    host = written if in_doubt else _AFTER_HOST.sub("", written).rstrip(".,:;!?_~")
    if not in_doubt and links.allow(("http://" if host_at == at else start[0]) + host):
        return Keep(start.end())
    return Replace(host_at + len(host) if host else start.end(), REMOVED, "links")


def tag(text: str, at: int, *, final: bool, links: Addresses, images: Addresses, closes: bool) -> Step:
    """`<https://…>` and HTML. A tag that would load or lead somewhere leaves; of a picture the `alt` text is left."""
    found = read_tag(text, at, final=final)
    match found:
        case "more":
            return Hold()
        case "unsafe":
            return Cut(((at, at + 1),), "images")
        case "none" | "markup":
            return Keep(at + 1, doubtful=found == "markup")
    return _whole_tag(found, at, links=links, images=images, closes=closes)


def _whole_tag(  # noqa: PLR0911  one line a kind of tag
    found: Tag, at: int, *, links: Addresses, images: Addresses, closes: bool
) -> Step:
    if found.address is not None:
        return Keep(at + 1) if links.allow(found.address) else Replace(found.end, REMOVED, "links")
    if found.closes:
        if found.name == "a" and closes:
            return Drop(found.end, "", -1)
        return Drop(found.end, "") if found.is_active else Keep(found.end, doubtful=True)
    if found.name == "img":
        source = found.attribute("src")
        if source is not None and images.allow(source) and not found.loads_beside("src"):
            return Keep(at + 1, doubtful=True)
        alt = found.place_of("alt")
        if alt is None:
            return Drop(found.end, "images")
        return Cut(((at, alt[0]), (alt[1], found.end)), "images")
    if found.name == "a" and not found.loads_beside("href"):
        target = found.attribute("href")
        if target is None or links.allow(target):
            return Keep(at + 1, doubtful=True)
        return Drop(found.end, "links", 1)
    if found.is_active or found.loads_beside(""):
        return Drop(found.end, "images", int(found.name == "a"))
    return Keep(at + 1, doubtful=True)


def fence(text: str, at: int, *, opened: str, final: bool) -> Fence | None:
    """See `Fence`; None while more text is needed. In doubt a fence hides nothing: see `is_clear`."""
    run = text[at]
    while at + len(run) < len(text) and text[at + len(run)] == run[0] and len(run) <= _MAX_INFO:
        run += run[0]
    end = at + len(run)
    if end == len(text) and not final and len(run) <= _MAX_INFO:
        return None
    if len(run) < 3 or (opened and (run[0] != opened[0] or len(run) < len(opened))):
        return Fence(opened, end, is_clear=True)
    if at > 0 and text[at - 1] != "\n":
        return Fence(opened, end, is_clear=False)
    newline = text.find("\n", end, end + _MAX_INFO)
    if newline < 0 and not final and len(text) - end < _MAX_INFO:
        return None
    line = text[end:newline] if newline >= 0 else text[end : end + _MAX_INFO]
    if opened:
        return Fence("", end, is_clear=not line.strip())
    return Fence(run, end, is_clear=newline >= 0 and run[0] not in line)


_MORE = -1
_TOO_LONG = -2


def _closing_bracket(text: str, at: int) -> int | None:
    """Where the bracket at `at` closes; None if it does not, `_MORE` if it may yet, `_TOO_LONG` if it takes too long."""
    depth = 0
    for found in _IN_LABEL.finditer(text, at, at + MAX_LABEL):
        sign = found[0]
        if sign == "[":
            depth += 1
            if depth > MAX_DEPTH:
                return _TOO_LONG
        elif sign == "]":
            depth -= 1
            if depth == 0:
                return found.start()
        elif sign[0] == "\n":
            return None
    return _TOO_LONG if len(text) - at >= MAX_LABEL else _MORE


def _destination(text: str, at: int) -> _Destination | int | None:  # noqa: PLR0911  one line a case
    """What follows the opening parenthesis: a destination, None if it is none, `_MORE` or `_TOO_LONG`."""
    limit = at + MAX_DESTINATION
    unknown = _TOO_LONG if len(text) >= limit else _MORE
    end = min(len(text), limit)
    start = _after(_GAP, text, at, end)
    if start == end:
        return unknown
    if text[start] == "<":
        enclosed = _ENCLOSED.match(text, start, end)
        if enclosed is None:
            return unknown if not re.search(r"[>\n]", text[start:end]) else None
        place = enclosed.end()
    else:
        found = _bare_end(text, start, end)
        if found is None:
            return None
        place = found
    if place == end:
        return unknown
    written = text[start:place]
    place = _after(_GAP, text, place, end)
    if place < end and text[place] in _TITLES and place > start + len(written):
        title_end = _after(_TITLES[text[place]], text, place + 1, end)
        if title_end == end:
            return unknown
        if text[title_end] != _CLOSES[text[place]]:
            return None
        place = _after(_GAP, text, title_end + 1, end)
    if place == end:
        return unknown
    return _Destination(written, place + 1) if text[place] == ")" else None


def _bare_end(text: str, at: int, end: int) -> int | None:
    """Where a destination without angle brackets ends; None if its parentheses go too deep."""
    depth, place = 0, at
    while (part := _BARE.match(text, place, end)) is not None:
        if part[0] == "(":
            depth += 1
        elif part[0] == ")":
            if depth == 0:
                return place
            depth -= 1
        if depth > 32:
            return None
        place = part.end()
    return place


def _after(pattern: re.Pattern[str], text: str, at: int, end: int) -> int:
    found = pattern.match(text, at, end)
    return found.end() if found is not None else at
