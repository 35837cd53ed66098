"""Whether a message is in one of the languages that an agent answers. Says no only where it is sure."""

from __future__ import annotations

import re
from collections.abc import Collection

from stonechat.knowledge.language import language_of_script, small_word_shares

_MIN_WORDS = 4
_CLEAR_SHARE = 0.2
_LATIN_ONLY = 0.5
_KIN = {
    "ru": {"ru", "uk", "bg", "sr", "mk", "be", "kk", "ky", "tg", "mn"},
    "ar": {"ar", "fa", "ur", "ps", "ckb", "ug"},
    "he": {"he", "yi"},
    "hi": {"hi", "mr", "ne", "sa"},
    "bn": {"bn", "as"},
    "zh": {"zh", "ja", "yue"},
    "ja": {"ja"},
}
"""Languages that share a script; which of them it is cannot be told from the script."""
_MORE_SCRIPTS = (
    ("hi", re.compile("[\u0900-\u097f]")),
    ("pa", re.compile("[\u0a00-\u0a7f]")),
    ("gu", re.compile("[\u0a80-\u0aff]")),
    ("ta", re.compile("[\u0b80-\u0bff]")),
    ("te", re.compile("[\u0c00-\u0c7f]")),
    ("kn", re.compile("[\u0c80-\u0cff]")),
    ("ml", re.compile("[\u0d00-\u0d7f]")),
    ("ka", re.compile("[\u10a0-\u10ff]")),
    ("hy", re.compile("[\u0530-\u058f]")),
    ("am", re.compile("[\u1200-\u137f]")),
)
_LETTER = re.compile(r"[^\W\d_]")


def foreign_language(text: str, answered: Collection[str]) -> str | None:
    """The language of the text if it is clearly none of those answered; None if it is, or if nobody can tell."""
    letters = len(_LETTER.findall(text))
    script = language_of_script(text)
    if script is None:
        script = next((name for name, signs in _MORE_SCRIPTS if len(signs.findall(text)) > letters / 2), None)
    if script is not None:
        return None if _KIN.get(script, {script}) & set(answered) else script
    shares, words = small_word_shares(text)
    if words < _MIN_WORDS:
        return None
    best = max(shares, key=lambda language: shares[language][0])
    share, different = shares[best]
    own = max((shares[language][0] for language in answered if language in shares), default=0.0)
    unknown = any(language not in shares and language not in _NOT_LATIN for language in answered)
    if best in answered or share < (_LATIN_ONLY if unknown else _CLEAR_SHARE) or different < 2 or own * 2 > share:
        return None
    return best


_NOT_LATIN = frozenset().union(*_KIN.values()) | {name for name, _ in _MORE_SCRIPTS} | {"ko", "th", "el"}
