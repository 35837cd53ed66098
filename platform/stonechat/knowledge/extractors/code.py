"""Source code and configuration: verbatim, cut where a definition or a section begins."""

from __future__ import annotations

import re

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded

_BEGINS = re.compile(
    r"^(?:(?:export|public|private|protected|internal|static|async|abstract|final|pub(?:\([a-z]+\))?|default|unsafe)\s+)*"
    r"(?:def|class|function|fn|func|struct|enum|interface|trait|impl|type|module|namespace|object|sub|create\s+\w+)\b"
    r"\s*\**\s*([^\s({:<;=]{1,80})|^\[([^\]\n]{1,80})\]\s*$",
    re.IGNORECASE,
)


def extract_code(data: bytes) -> Extracted:
    """A source file. Definitions that begin at the margin become sections, named as in the code."""
    text = decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    out = TextBuilder()
    block: list[str] = []
    for line in text.split("\n"):
        found = _BEGINS.match(line)
        if found:
            above = _comment_above(block)
            _add(out, block[: len(block) - len(above)])
            out.add("heading", found.group(1) or found.group(2) or "", level=2)
            block = above
        block.append(line)
    _add(out, block)
    document = out.build()
    return Extracted(document.text, document.blocks, None)


def _comment_above(block: list[str]) -> list[str]:
    """The comment or the decorators right above a definition, which belong to it."""
    taken = 0
    while taken < min(len(block), 30) and block[-1 - taken].lstrip().startswith(("#", "//", "/*", "*", "--", "@", ";")):
        taken += 1
    return block[len(block) - taken :]


def _add(out: TextBuilder, lines: list[str]) -> None:
    out.add("code", "\n".join(lines).strip("\n"), verbatim=True)
