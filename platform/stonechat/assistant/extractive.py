"""The model `extractive`: answers with quotes from the documents, and without a language model."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from agents import ModelSettings, Tool
from agents.items import TResponseInputItem, TResponseStreamEvent

from stonechat.assistant.model_events import call_events, message_events
from stonechat.assistant.passages import Passages
from stonechat.assistant.scripted import StreamingModel
from stonechat.assistant.tools.context import Quote
from stonechat.assistant.tools.search import SEARCH_TOOL_NAME
from stonechat.knowledge.search import Passage

MAX_QUOTE_CHARACTERS = 600
WORDS_PER_DELTA = 4

INTRODUCTION = "Here is what the documents say:"
ABSTENTION = (
    "I could not find an answer to that in the documents. I can only quote what they say, so it may help to ask in "
    "other words, or about one thing at a time."
)
NO_DOCUMENTS = "I answer by quoting documents, and this assistant was given none to search."
NO_QUESTION = "Ask me something, and I will look it up in the documents."

_WORDS = re.compile(rf"(?:\s*\S+){{1,{WORDS_PER_DELTA}}}\s*")


class ExtractiveModel(StreamingModel):
    """Calls the search tool once, then quotes the best sentences of what it found, or says that it found nothing.

    Made for one turn: `passages` are those that the turn's searches number; `quotes` chooses among them.
    """

    def __init__(
        self,
        passages: Passages,
        *,
        quotes: Callable[[str, Sequence[Passage]], Sequence[Quote]],
        abstains: Callable[[], None] = lambda: None,
    ) -> None:
        """`abstains` is called when the documents do not answer."""
        self._passages = passages
        self._quotes = quotes
        self._abstains = abstains

    async def stream_response(
        self,
        system_instructions: str | None,  # noqa: ARG002
        input: str | list[TResponseInputItem],  # noqa: A002  the SDK's name
        model_settings: ModelSettings,  # noqa: ARG002
        tools: list[Tool],
        *rest: Any,  # noqa: ARG002
        **options: Any,  # noqa: ARG002
    ) -> AsyncIterator[TResponseStreamEvent]:
        """First a call of the search tool, then, with its output in the input, the answer."""
        question, searched = _question(input)
        if question and not searched and any(tool.name == SEARCH_TOOL_NAME for tool in tools):
            events = call_events("extractive", SEARCH_TOOL_NAME, json.dumps({"query": question}, ensure_ascii=False))
        else:
            events = message_events("extractive", _WORDS.findall(self._answer(question, searched=searched)))
        for event in events:
            yield event

    def _answer(self, question: str, *, searched: bool) -> str:
        if not question:
            return NO_QUESTION
        if not searched and not len(self._passages):  # attached documents are there without a search
            return NO_DOCUMENTS
        blocks, left = [], MAX_QUOTE_CHARACTERS
        for quote in self._quotes(question, self._passages.all()):
            if text := quote.text[:left].strip():
                blocks.append(_as_block(text, number=self._passages.number(quote.passage)))
                left -= len(text)
        if not blocks:
            self._abstains()
            return ABSTENTION
        return "\n\n".join([INTRODUCTION, *blocks])


def _as_block(text: str, *, number: int) -> str:
    """A Markdown quotation that ends with its passage's marker. Rows of a table keep to lines of their own."""
    lines = f"{text} [{number}]".splitlines()
    return "\n".join(f"> {line}".rstrip() + ("  " if " | " in line else "") for line in lines)


def _question(items: str | list[TResponseInputItem]) -> tuple[str, bool]:
    """What the visitor asked last, and whether a search was made for it already."""
    if isinstance(items, str):
        return items.strip(), False
    searched = False
    for item in reversed(items):
        if item.get("type") == "function_call_output":
            searched = True
        elif item.get("role") == "user":
            content = item.get("content")
            return (content.strip() if isinstance(content, str) else ""), searched
    return "", searched
