"""Plain text, and question-answer pairs written in the console."""

from __future__ import annotations

import json
import re

from stonechat.errors import DocumentUnreadable
from stonechat.knowledge.chunk import MAX_HEADING, Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded

_SETEXT = re.compile(r"^(={3,}|-{3,}|~{3,})\s*$")
BULLET = re.compile(r"^\s*(?:[-*+•·–]|\d{1,3}[.)]|[a-z][.)])\s+(?=\S)")


def extract_text(data: bytes) -> Extracted:
    """Plain text: paragraphs between blank lines; underlined or all-capital lines that stand alone are headings."""
    out = TextBuilder()
    for paragraph in re.split(
        r"\n[ \t]*\n",
        decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"),
    ):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        while len(lines) >= 2 and _SETEXT.match(lines[1]) and len(lines[0]) <= MAX_HEADING:
            out.add("heading", lines[0], level=1 if lines[1].startswith("=") else 2)
            lines = lines[2:]
        if len(lines) == 1 and _is_capitals(lines[0]):
            out.add("heading", lines[0], level=2)
        elif sum(1 for line in lines if BULLET.match(line)) >= 2:
            _add_list(out, lines)
        elif _is_prose(lines):
            out.add("paragraph", " ".join(lines))
        elif lines and all(line.startswith(("    ", "\t")) for line in lines):
            out.add("code", "\n".join(lines), verbatim=True)
        else:
            out.add("paragraph", "\n".join(lines))
    return out.build()


def _is_prose(lines: list[str]) -> bool:
    """Whether lines are a paragraph broken to a width, to be joined, rather than an address, a poem or code."""
    full = [line.strip() for line in lines[:-1]]
    return bool(full) and sum(len(line) >= 45 and line.count(" ") >= 4 for line in full) >= 0.7 * len(full)


def _add_list(out: TextBuilder, lines: list[str]) -> None:
    item: list[str] = []
    listed = False
    for line in lines:
        if found := BULLET.match(line):
            if item:
                out.add("list" if listed else "paragraph", " ".join(item))
            mark = found.group().strip()
            item, listed = [line.strip() if mark[0].isalnum() else line[found.end() :]], True
        else:
            item.append(line.strip())
    if item:
        out.add("list" if listed else "paragraph", " ".join(item))


def _is_capitals(line: str) -> bool:
    line = line.strip()
    letters = [character for character in line if character.isalpha()]
    return len(letters) >= 3 and len(line) <= 80 and line.isupper() and not line.endswith((".", ",", ";"))


def extract_faq(data: bytes) -> Extracted:
    """Question-answer pairs: each question a heading; below, other ways to ask it, and its answer (Markdown)."""
    from stonechat.knowledge.extractors.markdown import add_markdown

    out = TextBuilder()
    try:
        pairs = [
            (str(pair["question"]), [str(each) for each in pair.get("variants") or ()], str(pair["answer"]))
            for pair in json.loads(data)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DocumentUnreadable("These question-answer pairs are not in the expected form.") from None
    for question, variants, answer in pairs:
        out.add("heading", question, level=1)
        for variant in variants:
            out.add("paragraph", f"{variant.rstrip(' ?？')}?")
        add_markdown(out, answer, deeper=1)
    document = out.build()
    return Extracted(document.text, document.blocks, None)
