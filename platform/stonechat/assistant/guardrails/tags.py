"""HTML tags and `<https://…>` in a text that may go on, read as leniently as browsers read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

MAX_TAG = 2_000
Span = tuple[int, int]

_ACTIVE_NAMES = """
applet audio base bgsound body button embed form frame frameset iframe image input isindex keygen link math meta object param
picture portal script source style svg template track video
"""
_ACTIVE = frozenset(_ACTIVE_NAMES.split())
"""Elements that load, run, send or restyle something by themselves."""
_LOADING_NAMES = """
action background cite classid code codebase data dynsrc formaction href icon imagesrcset longdesc lowsrc manifest ping poster
profile src srcdoc srcset style usemap xlink:href
"""
_LOADING = frozenset(_LOADING_NAMES.split())
_NAME = re.compile(r"</?([A-Za-z][A-Za-z0-9:\-]*)")
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9:\-]*(?:[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*)?>")
_TAG_BEGUN = re.compile(r"</?[A-Za-z][A-Za-z0-9:\-]*(?:[\s/](?:[^<>\"']|\"[^\"]*\"|'[^']*')*(?:\"[^\"]*|'[^']*)?)?\Z")
_ADDRESS = re.compile(r"<([A-Za-z][A-Za-z0-9+.\-]{1,31}:[^\s<>]*)>")
_ADDRESS_BEGUN = re.compile(r"<[A-Za-z][A-Za-z0-9+.\-]{0,31}(?::[^\s<>]*)?\Z")
_ATTRIBUTE = re.compile(r"([^\s\"'<>/=]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+)))?")


@dataclass(frozen=True)
class Tag:
    """One tag, complete. `address` is set for `<https://…>`, which is none."""

    name: str
    text: str
    start: int
    closes: bool = False
    address: str | None = None

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def is_active(self) -> bool:
        """Whether the element does something by itself."""
        return self.name in _ACTIVE

    def attribute(self, name: str) -> str | None:
        """What the attribute is set to; None without it."""
        place = self.place_of(name)
        return None if place is None else self.text[place[0] - self.start : place[1] - self.start]

    def place_of(self, name: str) -> Span | None:
        """Where the attribute's value stands in the text."""
        return self._attributes.get(name)

    def loads_beside(self, expected: str) -> bool:
        """Whether any other attribute loads, leads or runs something."""
        return any(name != expected and (name in _LOADING or name.startswith("on")) for name in self._attributes)

    @cached_property
    def _attributes(self) -> dict[str, Span]:
        found: dict[str, Span] = {}
        begin = _NAME.match(self.text)
        for part in _ATTRIBUTE.finditer(self.text, begin.end() if begin else 1):
            group = part.lastindex or 1
            span = part.span(group) if group > 1 else (part.end(), part.end())
            found.setdefault(part[1].lower(), (self.start + span[0], self.start + span[1]))
        return found


def read_tag(text: str, at: int, *, final: bool) -> Tag | Literal["more", "none", "markup", "unsafe"]:
    """What begins with the `<` at `at`.

    `more`: it is not finished. `none`: it is no tag. `markup`: a comment or declaration. `unsafe`: a tag of an active
    element that does not end.
    """
    end = at + MAX_TAG
    if text[at + 1 : at + 2] in ("!", "?"):
        return "markup"
    address = _ADDRESS.match(text, at, end)
    if address is not None:
        return Tag("", address[0], at, address=address[1])
    name = _NAME.match(text, at, end)
    whole = _TAG.match(text, at, end)
    if whole is not None and name is not None:
        return Tag(name[1].lower(), whole[0], at, closes=text[at + 1] == "/")
    begun = text[at:] in ("<", "</") or _TAG_BEGUN.match(text, at) or _ADDRESS_BEGUN.match(text, at)
    if begun and len(text) < end and not final:
        return "more"
    if name is None or text[name.end() : name.end() + 1] not in ("", " ", "\t", "\n", "\r", "\f", "/"):
        return "none"
    return "unsafe" if name[1].lower() in _ACTIVE or name[1].lower() in ("a", "img") else "none"
