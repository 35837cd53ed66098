"""robots.txt, as RFC 9309 has it.

Own, because the parsers at hand turn a stranger's patterns into regular expressions, which a hostile file can make
run for hours; here matching takes time in proportion to pattern and path.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from stonechat.knowledge.web.urls import normal_escapes

TOKEN = "stonechat"
"""Our product token: what a robots.txt calls us."""
MAX_BYTES = 500 * 1024
"""What lies beyond is not looked at; the RFC asks for at least that much."""
MAX_RULES = 1000
MAX_SITEMAPS = 20
_SAFE = "/*$%?=&:;,@!'()+~[]"


@dataclass(frozen=True, slots=True)
class _Rule:
    allows: bool
    pattern: str


@dataclass(frozen=True, slots=True)
class Robots:
    """What one site's robots.txt says to us."""

    rules: tuple[_Rule, ...] = ()
    delay: float | None = None
    """Seconds between two requests."""
    sitemaps: tuple[str, ...] = ()

    def allows(self, url: str) -> bool:
        """The longest rule that matches decides, allowing if two are as long; without any it is allowed."""
        parts = urlsplit(url)
        path = normal_escapes(parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if path == "/robots.txt":
            return True
        best, allowed = -1, True
        for rule in self.rules:
            length = len(rule.pattern)
            if (length > best or (length == best and rule.allows)) and _matches(rule.pattern, path):
                best, allowed = length, rule.allows
        return allowed


def parse_robots(data: bytes) -> Robots:
    """Read a robots.txt: the groups that name us, together; if none does, those for everybody."""
    ours, everybodys = _Group(), _Group()
    agents: set[str] = set()
    collecting = False
    sitemaps: list[str] = []
    for field, value in _lines(data):
        if field == "user-agent":
            if not collecting:
                agents.clear()
            collecting = True
            found = re.match(r"[A-Za-z_-]+|\*", value)
            agents.add(found[0].lower() if found else "")
            if TOKEN in agents:
                ours.named = True
        elif field == "sitemap":
            sitemaps.append(value)
        elif field in ("allow", "disallow", "crawl-delay"):
            collecting = False
            for agent, group in ((TOKEN, ours), ("*", everybodys)):
                if agent in agents:
                    group.add(field, value)
    group = ours if ours.named else everybodys
    return Robots(tuple(group.rules), group.delay, tuple(sitemaps[:MAX_SITEMAPS]))


class _Group:
    def __init__(self) -> None:
        self.named = False
        self.rules: list[_Rule] = []
        self.delay: float | None = None

    def add(self, field: str, value: str) -> None:
        if field == "crawl-delay":
            try:
                seconds = float(value)
            except ValueError:
                return
            if math.isfinite(seconds) and seconds >= 0:
                self.delay = max(self.delay or 0, seconds)
        elif value and len(self.rules) < MAX_RULES:
            self.rules.append(_Rule(field == "allow", normal_escapes(quote(value, safe=_SAFE))))


def _lines(data: bytes) -> list[tuple[str, str]]:
    if len(data) >= MAX_BYTES:  # a line that is cut in two would say something else
        data = data[:MAX_BYTES].rpartition(b"\n")[0]
    text = data.decode("utf-8", errors="replace").lstrip("\ufeff")
    found = []
    for line in re.split(r"\r\n|\r|\n", text):
        field, colon, value = line.partition("#")[0].partition(":")
        if colon:
            found.append((field.strip().lower(), value.strip()[:2000]))
    return found


def _matches(pattern: str, path: str) -> bool:
    """Whether `pattern` matches the beginning of `path`; `*` is anything, a `$` at the end is the end."""
    anchored = pattern.endswith("$")
    first, *rest = (pattern[:-1] if anchored else pattern).split("*")
    if not path.startswith(first):
        return False
    if not rest:
        return not anchored or path == first
    at = len(first)
    for part in rest[:-1] if anchored else rest:
        at = path.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return not anchored or (len(path) - len(rest[-1]) >= at and path.endswith(rest[-1]))
