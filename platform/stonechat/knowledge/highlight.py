"""Which words of a passage the search matched, for people who test their documents."""

from __future__ import annotations

import re

from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE, MAX_QUERY_CHARACTERS, term_of

MAX_SPANS = 500
_WORD = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
_POSSESSIVE = re.compile(r"['’].*")


def matched_words(text: str, query: str, *, language: str = DEFAULT_LANGUAGE) -> list[tuple[int, int]]:
    """Where `text` says a word of the query, in any form that the index takes for the same: `text[start:end]`, in order."""
    wanted = {_term(found[0], language) for found in _WORD.finditer(query[:MAX_QUERY_CHARACTERS])} - {None}
    if not wanted:
        return []
    spans: list[tuple[int, int]] = []
    for found in _WORD.finditer(text):
        if _term(found[0], language) in wanted:
            spans.append(found.span())
            if len(spans) >= MAX_SPANS:
                break
    return spans


def _term(word: str, language: str) -> int | None:
    plain = _POSSESSIVE.sub("", word).lower().encode("utf-8", errors="replace").decode()
    return term_of(plain, language) if len(plain) <= 100 else None
