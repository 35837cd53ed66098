"""Blocked topics: phrases found as whole words, however they are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stonechat.assistant.config_rules import BlockedTopic
from stonechat.assistant.guardrails.folding import disguised, fold, is_spaceless, skeleton, words

_SIGN = re.compile(r"[^\w\s.,'’&/\-]")
_HANGUL = re.compile("[\uac00-\ud7af\u1100-\u11ff]")
_NOT_WORD = re.compile(r"[\W_]+")
_MIN_DISGUISED = 4
"""Shorter words are too easily something else once letters are exchanged."""


@dataclass(frozen=True, slots=True)
class _Phrase:
    topic: str
    within: str
    """What to look for, and where."""
    where: str


class Topics:
    """The phrases of an agent's blocked topics, folded once."""

    def __init__(self, topics: Sequence[BlockedTopic]) -> None:
        self._phrases = [_prepare(topic.name, phrase) for topic in topics for phrase in topic.phrases]

    def find(self, text: str) -> str | None:
        """The name of the first topic that the text touches."""
        if not self._phrases:
            return None
        folded = fold(text)
        forms = {
            "words": words(folded),
            "letters": _NOT_WORD.sub("", folded),
            "literal": folded,
        }
        for phrase in self._phrases:
            if phrase.within in forms[phrase.where]:
                return phrase.topic
        bare = disguised(folded)
        if bare:
            for phrase in self._phrases:
                looked = skeleton(phrase.within)
                if phrase.where == "words" and len(looked) >= _MIN_DISGUISED + 2 and looked in bare:
                    return phrase.topic
        return None


def _prepare(topic: str, phrase: str) -> _Phrase:
    folded = fold(phrase)
    whole = words(folded)
    if is_spaceless(folded):
        return _Phrase(topic, _NOT_WORD.sub("", folded), "letters")
    if not whole.strip() or _SIGN.search(folded):
        return _Phrase(topic, folded.strip(), "literal")
    if _HANGUL.search(folded):
        return _Phrase(topic, whole[:-1], "words")  # particles are written onto the word
    return _Phrase(topic, whole, "words")
