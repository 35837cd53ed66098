"""The sparse vectors of passages and questions: BM25 weights of their terms, made here for both engines.

What counts as a term depends on the language: stems, where there is a stemmer; parts of long words, too, where compounds
are written as one; pairs of characters, where words are not told apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache, lru_cache
from itertools import pairwise

from qdrant_edge import Bm25, Bm25Config, DisabledStemmer, SparseVector, TokenizerType

MAX_QUERY_CHARACTERS = 4000
DEFAULT_LANGUAGE = "en"

_K1, _B, _AVERAGE_TOKENS = 1.5, 0.75, 100.0
_LANGUAGES = {
    "ar": "arabic", "az": "azerbaijani", "bn": "bengali", "ca": "catalan", "da": "danish", "de": "german",
    "el": "greek", "en": "english", "es": "spanish", "eu": "basque", "fi": "finnish", "fr": "french", "he": "hebrew",
    "hu": "hungarian", "id": "indonesian", "it": "italian", "kk": "kazakh", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sl": "slovene", "sv": "swedish",
    "tg": "tajik", "tr": "turkish",
}  # fmt: skip
_COMPOUNDING = frozenset({"de", "nl", "sv", "da", "no", "fi", "hu", "tr"})
_GRAM = 5
_LONG = re.compile(r"[^\W\d_]{5,}")
_IN_PAIRS = frozenset({"zh", "ja", "ko"})
UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+")


@cache
def _bm25(language: str) -> Bm25:
    if language == "th":
        tokenizer, stemmer = TokenizerType.Multilingual, DisabledStemmer()
        return Bm25(Bm25Config(k=_K1, b=_B, avg_len=_AVERAGE_TOKENS * 2, tokenizer=tokenizer, stemmer=stemmer))
    if language in _IN_PAIRS:
        return Bm25(Bm25Config(k=_K1, b=_B, avg_len=_AVERAGE_TOKENS * 6, stemmer=DisabledStemmer()))
    length = _AVERAGE_TOKENS * (3 if language in _COMPOUNDING else 1)
    return Bm25(
        Bm25Config(k=_K1, b=_B, avg_len=length, language=_LANGUAGES.get(language, "english"), ascii_folding=True)
    )


def in_pairs(text: str) -> str:
    """The text with its Chinese, Japanese and Korean as overlapping pairs of characters, spaces between them.

    A tokenizer with a dictionary cuts a short question otherwise than the sentence that answers it, and then finds
    nothing; pairs are cut alike everywhere, in texts of mixed languages, too.
    """
    return UNSPACED.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    if len(characters) == 1:
        return f" {characters} "
    return f" {' '.join(map(''.join, pairwise(characters)))} "


def document_vector(text: str, language: str) -> SparseVector:
    """BM25 weights of a passage's terms."""
    text = in_pairs(text)
    if language in _COMPOUNDING:
        text += "\n" + " ".join(gram for word in _LONG.findall(text.lower()) for gram in _grams(word))
    return _bm25(language).embed_document(text)


def query_vector(text: str, languages: Iterable[str]) -> tuple[list[int], list[float]]:
    """Each term of the query once, stemmed as each of the languages would; empty for a query of stop words only.

    In languages that write compounds as one word, the parts of long words count, too, together as much as the word.
    """
    text = text[:MAX_QUERY_CHARACTERS].encode("utf-8", errors="replace").decode()  # lone surrogates do not reach Rust
    text = in_pairs(text)
    terms: dict[int, float] = {}
    for language in sorted(set(languages)) or [DEFAULT_LANGUAGE]:
        if language in _COMPOUNDING:
            _add_grams(terms, text, language)
        terms.update((index, 1.0) for index in _bm25(language).embed_query(text).indices)
    indices = sorted(terms)
    return indices, [terms[index] for index in indices]


def _grams(word: str) -> list[str]:
    """A word's parts of five letters: what “Versand” and “Versandkosten” share."""
    return [word[start : start + _GRAM] for start in range(len(word) - _GRAM + 1)]


def _add_grams(terms: dict[int, float], text: str, language: str) -> None:
    for word in dict.fromkeys(_LONG.findall(text.lower())):
        if term_of(word, language) is None:
            continue
        grams = _grams(word)
        for gram in grams:
            index = term_of(gram, language)
            if index is not None:
                terms[index] = max(terms.get(index, 0.0), 1.0 / len(grams))


@lru_cache(maxsize=50_000)
def term_of(word: str, language: str = DEFAULT_LANGUAGE) -> int | None:
    """The stem of one word as a number, equal for words that the index treats as equal; None for a stop word."""
    indices = _bm25(language).embed_query(word).indices
    return indices[0] if indices else None
