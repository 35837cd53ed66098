"""`[n]` in a model's answer becomes a citation while the text streams by.

The marker leaves the text, and the citation remembers where it stood: `index` counts the characters (Unicode code
points) of the text given out before it. Markers that mean nothing leave without a trace. What is no marker stays as it
is: links `[1](…)` and `[1]: …`, escaped `\\[1]`, and all of code, fenced or inline.

The parser decides character by character and looks ahead by at most a marker and one character more, so its output does
not depend on how the text was cut into deltas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Source = TypeVar("Source")

MAX_MARKER_LENGTH = 48
MAX_CITATIONS = 100
"""In one message; further markers leave the text and cite nothing."""

_ONE = r"\d{1,2}(?:[-–]\d{1,2})?"
_MARKER = re.compile(rf"\[\^?{_ONE}(?:, ?{_ONE})*\]|【\d{{1,2}}(?:†[^【】\n]*)?】")
_NUMBERS = re.compile(r"(\d{1,2})(?:[-–](\d{1,2}))?")
_UNREMARKABLE = re.compile(r"[^\[【`~\\\n]*[^\[【`~\\\n ]")
_BEFORE_FENCE = frozenset(" \t>-*+.)0123456789")
_CLOSING = {"[": "]", "【": "】"}


@dataclass(frozen=True, slots=True)
class Citation(Generic[Source]):
    """A source, and how many characters of text came before it."""

    source: Source
    index: int


class CitationParser(Generic[Source]):
    """Feed it deltas; it gives back pieces, text and citations, in order. `finish` gives what was held back."""

    def __init__(self, resolve: Callable[[int], Source | None]) -> None:
        self._resolve = resolve
        self._pieces: list[str | Citation[Source]] = []
        self._text: list[str] = []
        self._length = 0
        self._last = "\n"
        self._cited_here: set[int] = set()
        self._citations = 0
        self._spaces = 0
        """Spaces held back: a marker swallows those before it."""
        self._gap = 0
        """Spaces that a marker swallowed; one returns if a word follows at once."""
        self._marker = ""
        self._marker_starts_line = False
        self._escaped = False
        self._line_blank = True
        """Whether the line so far could still open or close a fence."""
        self._run = ""
        """The backticks or tildes just read."""
        self._run_could_fence = False
        self._inline = 0
        """Inside inline code: how many backticks close it."""
        self._fence = ""
        """Inside a fence: the run that opened it."""
        self._opening = False
        """Still on the line that opened the fence."""
        self._closing = False
        """After a run that closes the fence, if nothing else follows on its line."""

    def feed(self, delta: str) -> list[str | Citation[Source]]:
        """The pieces that this delta settles."""
        position, end = 0, len(delta)
        while position < end:
            if not (self._marker or self._run or self._inline or self._fence or self._escaped):
                plain = _UNREMARKABLE.match(delta, position)
                if plain is not None:
                    self._take_plain(plain[0])
                    position = plain.end()
                    continue
            self._take(delta[position])
            position += 1
        return self._give()

    def finish(self) -> list[str | Citation[Source]]:
        """The last pieces. The parser is done with."""
        if self._marker:
            if _MARKER.fullmatch(self._marker):
                self._cite()
            else:
                self._release_marker()
        if not self._gap:
            self._emit_spaces()
        return self._give()

    def _give(self) -> list[str | Citation[Source]]:
        if self._text:
            self._pieces.append("".join(self._text))
            self._text = []
        pieces, self._pieces = self._pieces, []
        return pieces

    def _emit(self, text: str) -> None:
        self._text.append(text)
        self._length += len(text)
        self._last = text[-1]
        self._cited_here.clear()

    def _emit_spaces(self) -> None:
        if self._spaces:
            self._emit(" " * self._spaces)
            self._spaces = 0

    def _before_text(self, character: str) -> None:
        """Settle the spaces held back, now that `character` is known to follow."""
        if self._gap:
            if not self._spaces and character.isalnum() and self._last != "\n":
                self._emit(" ")
            self._gap = 0
            if self._last == "\n":
                self._spaces = 0
        self._emit_spaces()

    def _take_plain(self, text: str) -> None:
        stripped = text.lstrip(" ")
        self._spaces += len(text) - len(stripped)
        self._before_text(stripped[0])
        self._emit(stripped)
        if self._line_blank and not _BEFORE_FENCE.issuperset(stripped):
            self._line_blank = False

    def _take(self, character: str) -> None:
        if self._run and character != self._run[0]:
            self._end_run()
        if self._fence:
            self._take_in_fence(character)
        elif self._inline:
            self._take_in_inline(character)
        elif self._marker:
            self._take_in_marker(character)
        else:
            self._take_in_text(character)

    def _take_in_text(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
            self._take_newline_or(character)
        elif character == " ":
            self._spaces += 1
        elif character in _CLOSING:
            self._marker = character
            self._marker_starts_line = self._last == "\n"
        elif character in "`~":
            if not self._run:
                self._run_could_fence = self._line_blank
            self._before_text(character)
            self._run += character
            self._emit(character)
            self._line_blank = False
        else:
            self._escaped = character == "\\"
            self._take_newline_or(character)

    def _take_newline_or(self, character: str) -> None:
        self._before_text(character)
        self._emit(character)
        if character == "\n":
            self._line_blank = True
        elif character not in _BEFORE_FENCE:
            self._line_blank = False

    def _take_in_marker(self, character: str) -> None:
        if self._marker[-1] == _CLOSING[self._marker[0]]:
            # A complete marker was waiting for this character.
            is_link = self._marker[0] == "[" and (character == "(" or (character == ":" and self._marker_starts_line))
            if is_link:
                self._release_marker()
            else:
                self._cite()
            self._take_in_text(character)
            return
        candidate = self._marker + character
        if character == _CLOSING[self._marker[0]]:
            if _MARKER.fullmatch(candidate):
                self._marker = candidate
                return
        elif len(candidate) < MAX_MARKER_LENGTH and self._fits_marker(character):
            self._marker = candidate
            return
        self._release_marker()
        self._take_in_text(character)

    def _fits_marker(self, character: str) -> bool:
        if self._marker[0] == "【":
            return character != "\n" and character not in _CLOSING
        return character.isdigit() or character in ", ^-–"

    def _release_marker(self) -> None:
        """It was no marker: give it out as it stands."""
        text, self._marker = self._marker, ""
        self._before_text(text[0])
        self._emit(text)
        self._line_blank = False

    def _cite(self) -> None:
        marker, self._marker = self._marker, ""
        self._gap = self._gap + self._spaces or int(self._last == "\n")
        self._spaces = 0
        for number in _numbers(marker.partition("†")[0]):
            source = self._resolve(number)
            if source is None or number in self._cited_here or self._citations >= MAX_CITATIONS:
                continue
            self._cited_here.add(number)
            self._citations += 1
            if self._text:
                self._pieces.append("".join(self._text))
                self._text = []
            self._pieces.append(Citation(source, self._length))

    def _end_run(self) -> None:
        """A run of backticks or tildes outside fences has ended: what did it open or close?"""
        run, self._run = self._run, ""
        if self._fence:
            self._closing = self._run_could_fence and run[0] == self._fence[0] and len(run) >= len(self._fence)
        elif self._inline:
            if len(run) == self._inline:
                self._inline = 0
        elif len(run) >= 3 and self._run_could_fence:
            self._fence, self._opening = run, True
        elif run[0] == "`":
            self._inline = len(run)

    def _take_in_inline(self, character: str) -> None:
        if character == "`":
            self._run += character
        if character == "\n":
            if self._line_blank:
                self._inline = 0  # a paragraph ends here, and so does code that nobody closed
            self._line_blank = True
        elif character not in " \t":
            self._line_blank = False
        self._emit(character)

    def _take_in_fence(self, character: str) -> None:
        if character == "\n":
            if self._closing:
                self._fence = ""
            self._opening = self._closing = False
            self._line_blank = True
        elif character == self._fence[0]:
            if self._opening and character == "`":
                # Backticks cannot stand in the line that opens a fence: this is inline code after all.
                self._inline, self._fence, self._opening = len(self._fence), "", False
                self._run = character
            else:
                if not self._run:
                    self._run_could_fence = self._line_blank
                self._run += character
                self._line_blank = False
        elif character not in " \t>":
            self._line_blank = self._closing = False
        self._emit(character)


def _numbers(marker: str) -> Iterator[int]:
    """The numbers that a marker names, those between the ends of a range too."""
    for first, last in _NUMBERS.findall(marker):
        yield from range(int(first), int(last or first) + 1)
