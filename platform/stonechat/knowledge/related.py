"""Words that mean the same as a word, or something near: the groups of the lexicon, and a thesaurus of common English."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from pathlib import Path

from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE, query_vector, term_of
from stonechat.knowledge.lexicon import GROUPS, LIGHT
from stonechat.knowledge.words import words_of

_THESAURUS = Path(__file__).with_name("related.txt")
_ASKED_SAME, _ASKED_NEAR = 0.35, 0.2
"""What a related word weighs in a search, where a word of the question weighs 1."""
MAX_ASKED = 24
_NONE = frozenset[int]()


@lru_cache(maxsize=8192)
def related(word: str) -> tuple[frozenset[int], frozenset[int]]:
    """Stems of the words that mean the same as this one, and of those that mean something near; never its own."""
    stem = term_of(word)
    if stem is None:
        return _NONE, _NONE
    grouped = _NONE.union(*(group for group in _groups() if stem in group))
    same, near = _thesaurus().get(stem, (_NONE, _NONE))
    alike = (grouped | same) - {stem}
    return alike, near - alike - {stem}


def asked_vector(text: str, languages: Iterable[str]) -> tuple[list[int], list[float]]:
    """The terms of a query, and, weighing less, English words that a text may say instead of them."""
    known = tuple(languages)
    indices, values = query_vector(text, known)
    if known and DEFAULT_LANGUAGE not in known:
        return indices, values
    weights = dict(zip(indices, values, strict=True))
    telling = [word for word in words_of(text[:2000].lower()) if word not in LIGHT]
    for word in dict.fromkeys(telling[:MAX_ASKED]):
        same, near = related(word)
        for stems, weight in ((same, _ASKED_SAME), (near, _ASKED_NEAR)):
            for stem in stems:
                weights[stem] = max(weight, weights.get(stem, 0.0))
    indices = sorted(weights)
    return indices, [weights[index] for index in indices]


@cache
def _groups() -> tuple[frozenset[int], ...]:
    return tuple(frozenset(stem for word in group if (stem := term_of(word)) is not None) for group in GROUPS)


@cache
def _thesaurus() -> dict[int, tuple[frozenset[int], frozenset[int]]]:
    """What the file says of each stem, in both directions."""
    same: dict[int, set[int]] = {}
    near: dict[int, set[int]] = {}
    for line in _THESAURUS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        word, _, rest = line.partition(": ")
        closest, _, others = rest.partition("|")
        for table, words in ((same, closest), (near, others)):
            _pair(table, word, words.split())
    return {stem: (frozenset(same.get(stem, ())), frozenset(near.get(stem, ()))) for stem in same.keys() | near.keys()}


def _pair(table: dict[int, set[int]], word: str, others: list[str]) -> None:
    stem = term_of(word)
    if stem is None:
        return
    for other in others:
        known = term_of(other)
        if known is not None and known != stem:
            table.setdefault(stem, set()).add(known)
            table.setdefault(known, set()).add(stem)
