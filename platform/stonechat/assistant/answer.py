"""From the model's text to ChatKit's events: one assistant message at a time, with its citations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    FileSource,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    URLSource,
)

from stonechat import clock
from stonechat.assistant.citations import Citation, CitationParser
from stonechat.assistant.guardrails.output import OutputFilter
from stonechat.assistant.turn import GenerateItemId
from stonechat.errors import UpstreamFailed

MAX_ANSWER_CHARACTERS = 200_000

Cited = URLSource | FileSource


class AnswerWriter:
    """Writes the assistant's messages of one turn as events, through `emit`.

    The text of the deltas, of the content part's end and of the item's end is the same, to the character.
    """

    def __init__(
        self,
        thread_id: str,
        *,
        generate_item_id: GenerateItemId,
        emit: Callable[[ThreadStreamEvent], None],
        resolve: Callable[[int], Cited | None] | None,
        new_filter: Callable[[], OutputFilter[Any]] | None = None,
        holds: bool = False,
    ) -> None:
        """`resolve` gives the source of a marker's number; None leaves markers alone. `new_filter` makes the guardrails' filter
        for a message: it sees the text as visitors do, behind the markers. With `holds`, nothing is written before
        `show_held`."""
        self._thread_id = thread_id
        self._generate_item_id = generate_item_id
        self._emit = emit
        self._resolve = resolve
        self._parser: CitationParser[Cited] | None = None
        self._new_filter = new_filter
        self._filter: OutputFilter[Any] | None = None
        self._held: list[tuple[object, str]] | None = [] if holds else None
        self._item: AssistantMessageItem | None = None
        self._item_id = ""
        self._key: object = None
        self._text: list[str] = []
        self._length = 0
        self._annotations: list[Annotation] = []
        self.characters = 0
        """What the model wrote in this turn, markers included."""
        self.messages = 0
        """How many messages were begun."""
        self.said = ""
        """The text of the last message that was ended."""
        self.citations = 0
        """In all messages that were ended."""

    def write(self, key: object, delta: str) -> None:
        """Text of the model's message `key`; another key begins another message."""
        if not delta:
            return
        self.characters += len(delta)
        if self.characters > MAX_ANSWER_CHARACTERS:
            raise UpstreamFailed("The answer became too long and was stopped.", allow_retry=False)
        if self._held is None:
            self._show(key, delta)
        else:
            self._held.append((key, delta))

    @property
    def held(self) -> str:
        """What was held back so far."""
        texts: list[str] = []
        last: object = None
        for key, delta in self._held or ():
            texts.append(delta if not texts or key == last else f"\n\n{delta}")
            last = key
        return "".join(texts)

    def show_held(self) -> None:
        """Write what was held back; from here on nothing is."""
        held, self._held = self._held or (), None
        for key, delta in held:
            self._show(key, delta)

    def discard_held(self) -> None:
        """Forget what was held back; from here on nothing is."""
        if self._held is not None:
            self._held, self.characters = None, 0

    def say(self, text: str) -> None:
        """A message of the tenant's own, as it stands."""
        self.finish()
        self._begin(object())
        self._parser = self._filter = None
        self._write_text(text)
        self.finish()

    def _show(self, key: object, delta: str) -> None:
        if self._item is None or key != self._key:
            self.finish()
            self._begin(key)
        if self._parser is None:
            self._write_text(delta)
        else:
            self._write_pieces(self._parser.feed(delta))

    def finish(self) -> None:
        """End the message that is being written, if there is one."""
        item = self._item
        if item is None:
            return
        if self._parser is not None:
            self._write_pieces(self._parser.finish())
        if self._filter is not None:
            for piece in self._filter.finish():
                self._give(piece)
        content = AssistantMessageContent(text="".join(self._text), annotations=self._annotations)
        item.content.append(content)
        self.said = content.text
        self.citations += len(self._annotations)
        self._emit(
            ThreadItemUpdatedEvent(
                item_id=item.id, update=AssistantMessageContentPartDone(content_index=0, content=content)
            )
        )
        self._emit(ThreadItemDoneEvent(item=item))
        self._item, self._key, self._text, self._length, self._annotations = None, None, [], 0, []

    def _begin(self, key: object) -> None:
        self._key = key
        self._parser = CitationParser(self._resolve) if self._resolve is not None else None
        self._filter = self._new_filter() if self._new_filter is not None else None
        self.messages += 1
        item_id, created_at = self._generate_item_id("message"), clock.now()
        self._item_id = item_id
        self._item = AssistantMessageItem(id=item_id, thread_id=self._thread_id, created_at=created_at, content=[])
        # The announced item is another object: this one grows, and events may be read later.
        announced = AssistantMessageItem(id=item_id, thread_id=self._thread_id, created_at=created_at, content=[])
        self._emit(ThreadItemAddedEvent(item=announced))
        empty = AssistantMessageContent(text="", annotations=[])
        self._emit(
            ThreadItemUpdatedEvent(
                item_id=item_id, update=AssistantMessageContentPartAdded(content_index=0, content=empty)
            )
        )

    def _write_pieces(self, pieces: list[str | Citation[Cited]]) -> None:
        for piece in pieces:
            if isinstance(piece, str):
                self._write_text(piece)
            elif self._filter is None:
                self._give(piece)
            else:
                for settled in self._filter.mark(piece):
                    self._give(settled)

    def _write_text(self, text: str) -> None:
        if self._filter is None or self._filter.passes(text):
            self._give(text)
            return
        for piece in self._filter.feed(text):
            self._give(piece)

    def _give(self, piece: str | Citation[Cited]) -> None:
        """To the visitor. A citation's place is counted in what the visitor was given."""
        if not isinstance(piece, str):
            self._annotate(Annotation(source=piece.source, index=self._length))
            return
        self._text.append(piece)
        self._length += len(piece)
        self._emit(
            ThreadItemUpdatedEvent(
                item_id=self._item_id,
                update=AssistantMessageContentPartTextDelta(content_index=0, delta=piece),
            )
        )

    def _annotate(self, annotation: Annotation) -> None:
        self._annotations.append(annotation)
        self._emit(
            ThreadItemUpdatedEvent(
                item_id=self._item_id,
                update=AssistantMessageContentPartAnnotationAdded(
                    content_index=0, annotation_index=len(self._annotations) - 1, annotation=annotation
                ),
            )
        )
