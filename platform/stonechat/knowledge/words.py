"""The words of a text, whatever it is written in."""

from __future__ import annotations

import re
from itertools import pairwise

from stonechat.knowledge.index_vectors import UNSPACED

_GRAMMAR = re.compile(
    "[\u3040-\u309f的了吗呢吧么是我你您他她它们这那就都也还可以能要请问哪什怎多少几如何被把给对于与和及或其]"
)
"""Characters of grammar and of questions, in Japanese and Chinese."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?", re.UNICODE)


def words_of(text: str) -> list[str]:
    """The words of a text, apostrophes dropped with what follows them, other marks separating.

    Of Chinese, Japanese and Korean, which do not tell words apart, pairs of characters that say something.
    """
    return _WORD.findall(UNSPACED.sub(_telling_pairs, text.replace("’", "'")))


def _telling_pairs(run: re.Match[str]) -> str:
    pairs = list(map("".join, pairwise(run.group()))) or [run.group()]
    return f" {' '.join(pair for pair in pairs if not _GRAMMAR.search(pair))} "
