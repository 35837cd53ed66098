"""A filter on an answer while it streams: links, pictures, secrets and personal data.

It goes through the text from left to right. Where something may begin, it decides, or keeps the text from there on until
more of it has come. A decision never depends on text that is not there yet, so the result is the same however the text
was cut into deltas. What is kept is bounded: `MAX_HELD`. The filter stands behind the citations' parser, where the text
is as visitors see it: a card number with a marker in its middle is a card number.
"""

from __future__ import annotations

from collections import Counter
from typing import Generic, TypeVar, assert_never

from stonechat.assistant.guardrails import markup
from stonechat.assistant.guardrails.addresses import Addresses
from stonechat.assistant.guardrails.findings import Finding
from stonechat.assistant.guardrails.markup import Cut, Drop, Hold, Keep, Replace
from stonechat.assistant.guardrails.patterns import OutputPattern
from stonechat.assistant.guardrails.pem import swallow_pem
from stonechat.assistant.guardrails.recognisers import MORE, Recogniser

Mark = TypeVar("Mark")

REDACTED = "█████"
MAX_HELD = 3_000
"""Characters that may be kept waiting, at most: the longest destination of a link, and its text."""


class OutputFilter(Generic[Mark]):
    """One message's. Feed it text, and marks (citations) between; it gives back both, in order."""

    def __init__(self, pattern: OutputPattern, *, links: Addresses, images: Addresses) -> None:
        self._pattern = pattern
        self._may_hold = pattern.quick.search
        self._links, self._images = links, images
        self._text = ""
        """At most one character that is dealt with, for what looks behind; then what is kept."""
        self._at = 0
        self._marks: list[tuple[int, Mark]] = []
        self._out: list[str | Mark] = []
        self._swallowing: Recogniser | None = None
        self._swallowing_url = False
        self._fence = ""
        """The run that opened the block of code we are in."""
        self._trusts_fences = True
        """False once something was seen that readers of Markdown may take differently."""
        self._dropped_anchors = 0
        self._found: Counter[tuple[str, str]] = Counter()

    @property
    def findings(self) -> list[Finding]:
        """What was taken out so far."""
        return [
            Finding("output", rule, "removed", category, count)  # type: ignore[arg-type]  # made of `Rule`s below
            for (rule, category), count in self._found.items()
        ]

    def passes(self, text: str) -> bool:
        """Whether this text goes straight through, as most does where nothing is kept. If so, it is done; else `feed` it."""
        if (
            self._at != len(self._text)
            or self._swallowing is not None
            or self._swallowing_url
            or not text
            or self._marks
            or self._may_hold(text) is not None
        ):
            return False
        self._text, self._at = text[-1], 1
        return True

    def feed(self, text: str) -> list[str | Mark]:
        """What this text settles."""
        if self.passes(text):
            return [text]
        self._text += text
        return self._go(final=False)

    def mark(self, mark: Mark) -> list[str | Mark]:
        """Something that stands after the text so far."""
        self._marks.append((len(self._text), mark))
        return self._go(final=False)

    def finish(self) -> list[str | Mark]:
        """The rest. The filter is done with."""
        return self._go(final=True)

    def _go(self, *, final: bool) -> list[str | Mark]:
        self._scan(final=final)
        if self._at > 1:
            gone = self._at - 1
            self._text, self._at = self._text[gone:], 1
            self._marks = [(place - gone, mark) for place, mark in self._marks]
        out, self._out = self._out, []
        return _joined(out) if len(out) > 1 else out

    def _scan(self, *, final: bool) -> None:
        while True:
            if (self._swallowing or self._swallowing_url) and not self._swallow(final=final):
                return
            pattern = self._pattern.in_code if self._fence and self._trusts_fences else self._pattern.outside
            found = pattern.search(self._text, self._at)
            if found is None:
                self._keep(len(self._text))
                return
            self._keep(found.start())
            if not self._decide(found.lastgroup or "", final=final):
                return

    # What to do with the text from here on

    def _decide(self, group: str, *, final: bool) -> bool:
        """False if more text is needed."""
        text, at = self._text, self._at
        match group:
            case "atom":
                return self._decide_atom(final=final)
            case "image":
                step = markup.image(text, at, final=final, images=self._images)
            case "link":
                step = markup.link(text, at, final=final, links=self._links)
            case "url":
                step = markup.bare_url(text, at, final=final, links=self._links)
            case "definition":
                step = markup.definition(text, at, final=final)
            case "tag":
                step = markup.tag(
                    text, at, final=final, links=self._links, images=self._images, closes=self._dropped_anchors > 0
                )
            case _:
                return self._decide_fence(final=final)
        return self._take(step, group, final=final)

    def _take(self, step: markup.Step, group: str, *, final: bool) -> bool:
        match step:
            case Hold():
                if final or len(self._text) - self._at > MAX_HELD:
                    self._keep(self._at + 1)
                    return True
                return False
            case Keep(end, doubtful):
                self._trusts_fences = self._trusts_fences and not doubtful
                self._keep(end)
            case Cut(spans, rule):
                self._cut(spans)
                self._note(rule)
            case Drop(end, rule, anchor):
                self._dropped_anchors += anchor
                self._replace(end, "")
                self._note(rule)
            case Replace(end, instead, rule):
                self._replace(end, instead)
                self._note(rule)
                self._swallowing_url = group == "url"
            case _:
                assert_never(step)
        return True

    def _decide_atom(self, *, final: bool) -> bool:
        text, at = self._text, self._at
        matched: tuple[Recogniser, int] | None = None
        for recogniser in self._pattern.recognisers:
            end = recogniser.recognise(text, at, final)
            if end == MORE and not final:
                return False
            if end is not None and end != MORE and matched is None:
                matched = recogniser, end
        if matched is None:
            # It was none of them; it may be an address.
            url = markup.URL_START.match(text, at) if self._links.mode != "any" and not self._is_in_code() else None
            if url is not None:
                return self._take(markup.bare_url(text, at, final=final, links=self._links), "url", final=final)
            self._keep(at + 1)
            return True
        recogniser, end = matched
        self._replace(end, REDACTED)
        self._note("redact", recogniser.category)
        self._swallowing = recogniser if recogniser.swallow is not None else None
        return True

    def _is_in_code(self) -> bool:
        return bool(self._fence) and self._trusts_fences

    def _decide_fence(self, *, final: bool) -> bool:
        fence = markup.fence(self._text, self._at, opened=self._fence, final=final)
        if fence is None:
            return False
        self._fence, self._trusts_fences = fence.opened, self._trusts_fences and fence.is_clear
        self._keep(fence.end)
        return True

    def _swallow(self, *, final: bool) -> bool:
        """Take away the rest of what was matched. False if it may go on."""
        text = self._text
        swallow = markup.URL_REST if self._swallowing_url else self._swallowing.swallow if self._swallowing else None
        if swallow == "pem":
            end, more = swallow_pem(text, self._at)
        elif swallow is not None:
            end, more = swallow.step(text, self._at)
        else:
            end, more = self._at, False
        self._replace(end, "")
        if more and not final:
            return False
        self._swallowing, self._swallowing_url = None, False
        return True

    # The buffer

    def _keep(self, end: int) -> None:
        """Give out the text up to `end` as it is."""
        while self._marks and self._marks[0][0] <= end:
            place, mark = self._marks.pop(0)
            if place > self._at:
                self._out.append(self._text[self._at : place])
                self._at = place
            self._out.append(mark)
        if end > self._at:
            self._out.append(self._text[self._at : end])
            self._at = end

    def _replace(self, end: int, instead: str) -> None:
        """Give out something else for the text up to `end`; marks within come after it."""
        if instead:
            self._out.append(instead)
        while self._marks and self._marks[0][0] <= end:
            self._out.append(self._marks.pop(0)[1])
        self._at = end

    def _cut(self, spans: tuple[tuple[int, int], ...]) -> None:
        """Take spans out of what is kept, last first, and look at the rest anew."""
        for start, end in sorted(spans, reverse=True):
            self._text = self._text[:start] + self._text[end:]
            self._marks = [
                (place if place <= start else max(start, place - (end - start)), mark) for place, mark in self._marks
            ]

    def _note(self, rule: str, category: str = "") -> None:
        if rule:
            self._found[rule, category] += 1


def _joined(pieces: list[str | Mark]) -> list[str | Mark]:
    """The same with texts that follow each other made one: what comes in as one delta goes out as one."""
    joined: list[str | Mark] = []
    texts: list[str] = []
    for piece in pieces:
        if isinstance(piece, str):
            texts.append(piece)
            continue
        if texts:
            joined.append("".join(texts))
            texts = []
        joined.append(piece)
    if texts:
        joined.append("".join(texts))
    return joined
