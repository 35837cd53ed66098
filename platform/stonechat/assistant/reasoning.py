"""A model's thoughts as ChatKit's events: one workflow of thoughts, closed when the answer begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from chatkit.types import (
    DurationSummary,
    ThoughtTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)

from stonechat import clock
from stonechat.assistant.guardrails.output import OutputFilter
from stonechat.assistant.turn import GenerateItemId

MAX_CHARACTERS = 20_000
"""Of one workflow; what a model thinks beyond is left out."""
MAX_THOUGHTS = 50
FIRST_STEP = 48
"""Characters after which a growing thought is shown again. Each update repeats the whole thought, so the steps grow with
it, and all updates together stay within ten times its length."""


class ThoughtWriter:
    """Writes the thoughts of one turn as events, through `emit`. `finish` ends the workflow that is open."""

    def __init__(
        self,
        thread_id: str,
        *,
        generate_item_id: GenerateItemId,
        emit: Callable[[ThreadStreamEvent], None],
        new_filter: Callable[[], OutputFilter[Any]] | None = None,
    ) -> None:
        """`new_filter` makes the guardrails' filter for a thought: visitors see thoughts as they see answers."""
        self._new_filter = new_filter
        self._filter: OutputFilter[Any] | None = None
        self._thread_id = thread_id
        self._generate_item_id = generate_item_id
        self._emit = emit
        self._item: WorkflowItem | None = None
        self._key: object = None
        self._text = ""
        self._shown = 0
        self._characters = 0

    @property
    def open(self) -> bool:
        """Whether there is a workflow that was not ended."""
        return self._item is not None

    def write(self, key: object, delta: str) -> None:
        """Text of the thought `key`; another key begins another thought."""
        item = self._item or self._begin()
        if not item.workflow.tasks or key != self._key:
            if not delta.strip() or len(item.workflow.tasks) >= MAX_THOUGHTS:
                return
            self._complete(item)
            self._key, self._text, self._shown = key, "", 0
            self._filter = self._new_filter() if self._new_filter is not None else None
            item.workflow.tasks.append(ThoughtTask(content="", status_indicator="loading"))
            self._take(delta)
            self._shown = len(self._text)
            self._emit(
                ThreadItemUpdatedEvent(
                    item_id=item.id, update=WorkflowTaskAdded(task_index=self._index(item), task=self._task("loading"))
                )
            )
            return
        self._take(delta)
        if len(self._text) - self._shown >= max(FIRST_STEP, self._shown // 8):
            self._update(item, "loading")

    def finish(self) -> None:
        """End the workflow, if there is one, with how long it took."""
        item = self._item
        if item is None:
            return
        self._complete(item)
        self._item, self._key, self._characters = None, None, 0
        item.workflow.summary = DurationSummary(duration=round((clock.now() - item.created_at).total_seconds()))
        self._emit(ThreadItemDoneEvent(item=item))

    def _begin(self) -> WorkflowItem:
        item_id, created_at = self._generate_item_id("workflow"), clock.now()

        def empty() -> WorkflowItem:
            return WorkflowItem(
                id=item_id,
                thread_id=self._thread_id,
                created_at=created_at,
                workflow=Workflow(type="reasoning", tasks=[]),
            )

        self._item = empty()
        # The announced item is another object: this one grows, and events may be read later.
        self._emit(ThreadItemAddedEvent(item=empty()))
        return self._item

    def _take(self, delta: str) -> None:
        delta = delta[: MAX_CHARACTERS - self._characters]
        self._characters += len(delta)
        self._text += delta if self._filter is None else "".join(self._filter.feed(delta))

    def _complete(self, item: WorkflowItem) -> None:
        if item.workflow.tasks:
            if self._filter is not None:
                self._text += "".join(self._filter.finish())
                self._filter = None
            self._update(item, "complete")

    def _update(self, item: WorkflowItem, status: str) -> None:
        self._shown = len(self._text)
        task = self._task(status)
        item.workflow.tasks[-1] = task
        self._emit(
            ThreadItemUpdatedEvent(item_id=item.id, update=WorkflowTaskUpdated(task_index=self._index(item), task=task))
        )

    def _task(self, status: str) -> ThoughtTask:
        return ThoughtTask(content=self._text, status_indicator="complete" if status == "complete" else "loading")

    @staticmethod
    def _index(item: WorkflowItem) -> int:
        return len(item.workflow.tasks) - 1
