"""What an agent's rules look for in an answer, as regular expressions made once for all of its answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stonechat.assistant.guardrails import markup
from stonechat.assistant.guardrails.recognisers import ALL, DIGITS, Recogniser, Redaction, prefixes


@dataclass(frozen=True, slots=True)
class OutputPattern:
    """`quick` finds something wherever `outside` would, and is made to be fast where there is nothing."""

    recognisers: tuple[Recogniser, ...]
    quick: re.Pattern[str]
    outside: re.Pattern[str]
    in_code: re.Pattern[str]
    """Within a fenced block of code nothing is a link, a picture or a tag."""


def compile_patterns(redact: frozenset[Redaction], *, links: bool) -> OutputPattern:
    """The patterns for these redactions; `links` says whether links are looked at too."""
    recognisers = tuple(each for each in ALL if each.kind in redact)
    starts = [start for each in recognisers for start in each.starts]
    triggers = list(dict.fromkeys(each.trigger for each in recognisers if each.trigger))
    atoms = [*triggers, *([rf"(?<![A-Za-z0-9])(?:{prefixes(starts)})"] if starts else [])]
    parts = [f"(?P<atom>{'|'.join(atoms)})"] if atoms else []
    addresses = [markup.LINK, markup.URL] if links else [markup.DEFINITION]
    outside = [*parts, markup.IMAGE, markup.TAG, markup.FENCE, *addresses]
    return OutputPattern(
        recognisers,
        re.compile(_quick(starts, triggers, links=links)),
        re.compile("|".join(outside)),
        re.compile("|".join([*parts, markup.FENCE])),
    )


def _quick(starts: list[str], triggers: list[str], *, links: bool) -> str:
    """One set of characters first: `re` skips everything else at the speed of C, and looks closer at what is left.

    Patterns that begin with anything else are tried at every character instead, which is slower.
    """
    signs, closer = "!<`~]", [r"(?<=!)(?:\[|\Z)", r"(?<=<)(?:[A-Za-z/!?]|\Z)", "(?<=[`~])"]
    if links:
        signs += "["
        closer.append(r"(?<=[\[\]])")
    else:
        closer.append(r"(?<=\])(?::|\Z)")
    others, digits = [], ""
    for trigger in triggers:
        if trigger == DIGITS:
            digits = r"\d"
            closer.append(r"(?<=\d)(?<![A-Za-z0-9_]\d)")
        elif trigger.startswith("-"):
            signs += "-"
            closer.append(r"(?<=-)(?:-|\Z)")
        else:
            others.append(trigger)
    words = []
    for first in sorted({start[0] for start in starts}):
        rest = prefixes(start[1:] for start in starts if start[0] == first)
        words.append(rf"(?<={re.escape(first)})(?:{rest}|\Z)")
        signs += first
    if links:
        for first in sorted({scheme[0] for scheme in markup.SCHEMES}):
            rest = prefixes(scheme[1:] for scheme in markup.SCHEMES if scheme[0] == first)
            words.append(rf"(?<=[{first}{first.upper()}])(?i:{rest}|\Z)")
            signs += first + first.upper()
    if words:
        closer.append(rf"(?<![A-Za-z0-9].)(?:{'|'.join(words)})")
    pattern = f"[{re.escape(''.join(sorted(set(signs))))}{digits}](?:{'|'.join(closer)})"
    return "|".join([pattern, *others]) if others else pattern
