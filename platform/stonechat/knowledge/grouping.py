"""Questions that ask the same: likeness by what is left of their words, the same on every machine.

Words are folded and cut to their stems, stop words go, and words of one group of the lexicon (“postage”, “shipping”) are
one. Languages that put no spaces between words are cut as the index cuts them.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from functools import cache

from stonechat.knowledge.index_vectors import UNSPACED, in_pairs, query_vector, term_of
from stonechat.knowledge.language import language_of_script, small_word_shares
from stonechat.knowledge.lexicon import GROUPS, LIGHT
from stonechat.knowledge.words import words_of

ALIKE = 0.5
"""The likeness from which on two questions are one."""
MAX_STEMS = 32
MAX_QUESTION = 1000
_LIGHT_WEIGHT = 0.2
_GREETING_WORDS = (
    "hello hi hey hallo moin servus bonjour salut hola ciao olá ola hej hei привет здравствуйте 你好 您好 こんにちは "
    "안녕하세요 مرحبا thanks thank danke merci gracias grazie obrigado obrigada tack спасибо 谢谢 ありがとう bye tschüss ok okay"
    " yes no ja nein oui non sí si test testing"
)
_GREETINGS = frozenset(_GREETING_WORDS.split())


def stems(question: str) -> list[int]:
    """What is compared of a question, as numbers; light words negative. Empty for greetings and the like."""
    text = unicodedata.normalize("NFKC", question[:MAX_QUESTION]).casefold()
    language = _language(text)
    if language == "th":
        return query_vector(text, [language])[0][:MAX_STEMS]
    found: dict[int, None] = {}
    for run in UNSPACED.findall(text):
        if run not in _GREETINGS:
            found.update(dict.fromkeys(map(_number, in_pairs(run).split())))
    for word in words_of(UNSPACED.sub(" ", text)):
        stem = None if word in _GREETINGS else term_of(word, language)
        if stem is not None:
            stem = _canonical().get(stem, stem) if language == "en" else stem
            found.setdefault(-stem if language == "en" and word in LIGHT else stem)
    chosen = list(found)[:MAX_STEMS]
    return chosen if any(stem > 0 for stem in chosen) else []


def likeness(one: Sequence[int], other: Sequence[int]) -> float:
    """How much two questions' stems have in common: 0 to 1, Jaccard's index with light words counting less."""
    ours, theirs = frozenset(one), frozenset(other)
    whole = _weight(ours | theirs)
    return _weight(ours & theirs) / whole if whole else 0.0


def most_alike(asked: Sequence[int], groups: Iterable[tuple[str, Sequence[int]]]) -> str | None:
    """The group whose question is most like this one, the first of several; None if none is alike."""
    best, name = ALIKE, None
    for group, known in groups:
        alike = likeness(asked, known)
        if alike > best or (alike == best and name is None):
            best, name = alike, group
    return name


def _weight(chosen: frozenset[int]) -> float:
    return sum(1.0 if stem > 0 else _LIGHT_WEIGHT for stem in chosen)


def _number(text: str) -> int:
    return zlib.crc32(text.encode()) or 1


def _language(text: str) -> str:
    """Of a question, which is short: one word that only one language uses decides."""
    if (script := language_of_script(text)) is not None:
        return script
    shares, total = small_word_shares(text)
    best = max(shares, key=lambda language: (shares[language][0], language == "en"))
    return best if total and shares[best][0] > 0 else "en"


@cache
def _canonical() -> dict[int, int]:
    """For each stem of the lexicon's groups, the first of its group."""
    found: dict[int, int] = {}
    for group in GROUPS:
        known = [stem for word in group if (stem := term_of(word)) is not None]
        for stem in known:
            found.setdefault(stem, found.get(known[0], known[0]))
    return found
