"""Items while they stream: how far they got, cheaply, for the moment somebody stops the answer or the process dies."""

from __future__ import annotations

from typing import Any

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    GeneratedImageItem,
    GeneratedImageUpdated,
    ThreadItem,
    ThreadItemUpdate,
    WidgetComponentUpdated,
    WidgetItem,
    WidgetRootUpdated,
    WidgetStreamingTextValueDelta,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from chatkit.widgets import DynamicWidgetRoot

from stonechat.chat.codec import whole_text

MAX_PARTS = 1000
MAX_PIECES = 32
MAX_TASKS = 1000
MAX_WIDGET_DEPTH = 100


class Pending:
    """An item that was added and is not done. This one knows no updates: a form, or a task."""

    __slots__ = ()

    def append(self, content_index: int, delta: str) -> None:
        """A piece of a message's text."""

    def update(self, update: ThreadItemUpdate) -> None:
        """Any update; those that are not for this kind of item change nothing."""

    def so_far(self) -> ThreadItem | None:
        """The item as far as it got, or None if there is nothing to keep of it."""
        return None


def pending_of(item: ThreadItem) -> Pending:
    """What keeps track of the item."""
    match item:
        case AssistantMessageItem():
            return PendingMessage(item)
        case WorkflowItem():
            return PendingWorkflow(item)
        case WidgetItem():
            return PendingWidget(item)
        case GeneratedImageItem():
            return PendingImage(item)
        case _:
            return Pending()


class PendingMessage(Pending):
    """Deltas are collected, and joined once if ever needed."""

    __slots__ = ("_annotations", "_item", "_texts")

    def __init__(self, item: AssistantMessageItem) -> None:
        self._item = item
        self._texts: list[list[str]] = []
        self._annotations: list[list[Annotation]] = []
        for index, content in enumerate(item.content):
            self._set(index, content)

    def append(self, content_index: int, delta: str) -> None:
        if not 0 <= content_index < len(self._texts):
            self._grow(content_index)
        pieces = self._texts[content_index]
        pieces.append(delta)
        if len(pieces) >= MAX_PIECES:  # one long text takes less memory than many short ones
            pieces[:] = ["".join(pieces)]

    def update(self, update: ThreadItemUpdate) -> None:
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
        """The message, unless it has no text yet."""
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


class PendingWorkflow(Pending):
    """A workflow, task by task."""

    __slots__ = ("_item",)

    def __init__(self, item: WorkflowItem) -> None:
        self._item = item.model_copy(deep=True)

    def update(self, update: ThreadItemUpdate) -> None:
        tasks = self._item.workflow.tasks
        match update:
            case WorkflowTaskAdded():
                if len(tasks) < MAX_TASKS:
                    tasks.insert(max(0, update.task_index), update.task)
            case WorkflowTaskUpdated():
                if 0 <= update.task_index < len(tasks):
                    tasks[update.task_index] = update.task
            case _:
                pass

    def so_far(self) -> WorkflowItem | None:
        """The workflow, unless it has no task yet; nothing in it goes on."""
        if not self._item.workflow.tasks:
            return None
        item = self._item.model_copy(deep=True)
        for task in item.workflow.tasks:
            if task.status_indicator == "loading":
                task.status_indicator = "none"
        return item


class PendingWidget(Pending):
    """A widget as JSON, whose components are found by their ids."""

    __slots__ = ("_item", "_widget")

    def __init__(self, item: WidgetItem) -> None:
        self._item = item
        self._widget: dict[str, Any] = _as_json(item.widget)

    def update(self, update: ThreadItemUpdate) -> None:
        match update:
            case WidgetRootUpdated():
                self._widget = _as_json(update.widget)
            case WidgetComponentUpdated():
                if (found := _find(self._widget, update.component_id)) is not None:
                    found.clear()
                    found.update(_as_json(update.component))
            case WidgetStreamingTextValueDelta():
                if (found := _find(self._widget, update.component_id)) is not None:
                    found["value"] = f"{found.get('value') or ''}{update.delta}"
                    if update.done:
                        found["streaming"] = False
            case _:
                pass

    def so_far(self) -> WidgetItem:
        """The widget; no text in it goes on."""
        widget = _as_json(DynamicWidgetRoot.model_validate(self._widget))
        _settle(widget)
        return self._item.model_copy(update={"widget": DynamicWidgetRoot.model_validate(widget)})


class PendingImage(Pending):
    """A picture, of which there may be a first draft."""

    __slots__ = ("_item",)

    def __init__(self, item: GeneratedImageItem) -> None:
        self._item = item

    def update(self, update: ThreadItemUpdate) -> None:
        if isinstance(update, GeneratedImageUpdated):
            self._item = self._item.model_copy(update={"image": update.image})

    def so_far(self) -> GeneratedImageItem | None:
        """The picture, unless there is none yet."""
        return self._item if self._item.image is not None else None


def _as_json(widget: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = widget.model_dump(mode="json", by_alias=True, exclude_none=True)
    return dumped


def _find(node: Any, component_id: str, depth: int = 0) -> dict[str, Any] | None:
    if depth > MAX_WIDGET_DEPTH:
        return None
    if isinstance(node, dict):
        if node.get("id") == component_id and isinstance(node.get("type"), str):
            return node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            if (found := _find(child, component_id, depth + 1)) is not None:
                return found
    return None


def _settle(node: Any, depth: int = 0) -> None:
    if depth > MAX_WIDGET_DEPTH:
        return
    if isinstance(node, dict):
        if node.get("streaming") is True:
            node["streaming"] = False
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            _settle(child, depth + 1)
