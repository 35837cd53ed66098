"""Text as it is meant, not as it is written: what blocked phrases and heuristics are compared in."""

from __future__ import annotations

import re
import unicodedata

MAX_FOLDED = 64_000
"""Characters of one message that are looked at; more is refused before."""
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U000e0000-\U000e0fff]"
)
_PILED_MARKS = re.compile("[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
_TOKEN = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ROUGH_TOKEN = re.compile(r"[^\s,;:()\[\]{}\"“”«»…?]+")
_SPELLED = re.compile(r"(?<![^\W_])(?:[^\W_][\s.\-_*·|/]{1,3}){2,}[^\W_](?![^\W_])")
_GAPS = re.compile(r"[\s.\-_*·|/]+")
_LOOKALIKES = str.maketrans("авекмнорстухіјѕԁԛԝһӏьαβεζηικμνορτυχγω", "abekmhopctyxijsdqwhlbabeznikmvoptuxyw")
_LEET = str.maketrans("0134578@$!|+€", "oieastbasiite")
_LEET_SIGNS = re.compile(r"[0134578@$!|+€]")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[a-zß-ɏ]")
_ALIKE = re.compile("[\u0370-\u03ff\u0400-\u052f]")
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """NFKC, without invisible characters and piled-up marks, in no particular case."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", text[:MAX_FOLDED]))
    return unicodedata.normalize("NFKC", _PILED_MARKS.sub("", text).casefold())


def words(text: str) -> str:
    """The words of a folded text between single spaces, one in front and one at the end: ` so it reads `."""
    return f" {' '.join(_TOKEN.findall(text))} "


def disguised(text: str) -> str:
    """A folded text in which words seem to be disguised, with these undisguised: letters of other alphabets that look alike,
    digits and signs for letters, letters spelled out one by one. Empty if there are none. Compare with `skeleton`s.

    Foreign letters count as a disguise within a Latin word, or throughout a text that is mostly Latin.
    """
    spelled = [_GAPS.sub("", each) for each in _SPELLED.findall(text)]
    mostly_latin = len(_LATIN.findall(text)) > len(_ALIKE.findall(text))
    tokens, is_disguised = [], bool(spelled)
    for token in _ROUGH_TOKEN.findall(text):
        foreign = _ALIKE.search(token) and (mostly_latin or _LATIN.search(token))
        if _LETTER.search(token) and (foreign or _LEET_SIGNS.search(token)):
            is_disguised = True
            tokens.append(skeleton(token))
        else:
            tokens.append(token.replace("l", "i"))
    return words(" ".join([*map(skeleton, spelled), "|", *tokens])) if is_disguised else ""


def skeleton(text: str) -> str:
    """One form for letters that look alike; `i`, `l`, `1` and `!` are one too."""
    return text.translate(_LOOKALIKES).translate(_LEET).replace("l", "i")


def is_spaceless(text: str) -> bool:
    """Whether the text is in a script that does not put spaces between words."""
    return _SPACELESS.search(text) is not None


def hidden_characters(text: str) -> int:
    """How many invisible characters it holds that belong to no script: tags and direction overrides."""
    return sum(
        1
        for character in text[:MAX_FOLDED]
        if "\U000e0000" <= character <= "\U000e007f" or "\u202a" <= character <= "\u202e"
    )
