"""Assistant messages while they stream: their text so far, cheaply."""

from __future__ import annotations

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemUpdate,
)

from stonechat.chat.codec import whole_text

MAX_PARTS = 1000


class PendingMessage:
    """One message that was added and is not done. Deltas are collected, and joined once if ever needed."""

    __slots__ = ("_annotations", "_item", "_texts")

    def __init__(self, item: AssistantMessageItem) -> None:
        self._item = item
        self._texts: list[list[str]] = []
        self._annotations: list[list[Annotation]] = []
        for index, content in enumerate(item.content):
            self._set(index, content)

    def append(self, content_index: int, delta: str) -> None:
        """A piece of text."""
        if not 0 <= content_index < len(self._texts):
            self._grow(content_index)
        self._texts[content_index].append(delta)

    def update(self, update: ThreadItemUpdate) -> None:
        """Any update; those that do not concern messages change nothing."""
        match update:
            case AssistantMessageContentPartTextDelta():
                self.append(update.content_index, update.delta)
            case AssistantMessageContentPartAdded() | AssistantMessageContentPartDone():
                self._set(update.content_index, update.content)
            case AssistantMessageContentPartAnnotationAdded():
                self._grow(update.content_index)
                self._annotations[update.content_index].insert(update.annotation_index, update.annotation)
            case _:
                pass

    def so_far(self) -> AssistantMessageItem | None:
        """The message as far as it got, or None if it has no text yet."""
        content = [
            AssistantMessageContent(text=whole_text("".join(texts)), annotations=annotations)
            for texts, annotations in zip(self._texts, self._annotations, strict=True)
        ]
        if not any(part.text.strip() for part in content):
            return None
        return self._item.model_copy(update={"content": content})

    def _set(self, index: int, content: AssistantMessageContent) -> None:
        self._grow(index)
        self._texts[index] = [content.text]
        # A finished part repeats its text but, from some models, not its annotations.
        self._annotations[index] = list(content.annotations) or self._annotations[index]

    def _grow(self, index: int) -> None:
        if not 0 <= index < MAX_PARTS:
            raise ValueError(f"no content part {index} in a message")
        while len(self._texts) <= index:
            self._texts.append([])
            self._annotations.append([])
