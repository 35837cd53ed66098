"""Captions (WebVTT, SRT): what is said, in paragraphs, each headed by the time at which it begins."""

from __future__ import annotations

import re

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded

_TIMES = re.compile(r"^(?:(\d{1,3}):)?(\d{2}):(\d{2})[.,]\d{3}\s+-->\s")
_TAG = re.compile(r"<[^>\n]{0,200}>|\{\\[^}\n]{0,50}\}")
_SPEAKER = re.compile(r"<v(?:\.[^ >]+)?\s+([^>\n]{1,80})>")
PARAGRAPH = 600
"""Characters after which, at a sentence's end, another paragraph begins."""


def extract_captions(data: bytes) -> Extracted:
    """What is said. Cues shown twice, as live captions do, are said once."""
    text = decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    out = TextBuilder()
    said: list[str] = []
    begins, length, previous = "", 0, ""
    for cue in re.split(r"\n[ \t]*\n", text):
        lines = cue.strip().split("\n")
        place = next((number for number, line in enumerate(lines[:2]) if _TIMES.match(line)), None)
        if place is None:
            continue  # the file's header, a note, a style
        for raw in lines[place + 1 :]:
            line = _TAG.sub("", _SPEAKER.sub(r"\1: ", raw)).strip()
            if not line or line == previous:
                continue
            begins = begins or _clock(lines[place])
            said.append(line)
            length, previous = length + len(line), line
        if length >= PARAGRAPH and said and said[-1].endswith((".", "!", "?", "。", "！", "？", "…")):
            out.add("paragraph", f"[{begins}] " + " ".join(said))
            said, begins, length = [], "", 0
    if said:
        out.add("paragraph", f"[{begins}] " + " ".join(said))
    return out.build()


def _clock(line: str) -> str:
    found = _TIMES.match(line)
    hours, minutes, seconds = found.groups(default="0") if found else ("0", "00", "00")
    return f"{int(hours)}:{minutes}:{seconds}" if int(hours) else f"{minutes}:{seconds}"
