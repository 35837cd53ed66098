"""What visitors do beside writing: actions of widgets, and forms and calls that wait while they write something else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from chatkit.types import (
    ClientToolCallItem,
    HiddenContextItem,
    StructuredInputAnswer,
    StructuredInputItem,
    StructuredInputSubmission,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadStreamEvent,
    WidgetItem,
)

from stonechat import clock
from stonechat.assistant.tools.widgets import clean_widget, widget_of
from stonechat.assistant.turn import RunsTools, Turn
from stonechat.chat.actions import Step
from stonechat.errors import InvalidInput, StonechatError

MAX_OUTPUT_CHARACTERS = 64_000
MAX_VALUES = 30
MAX_VALUE_CHARACTERS = 4_000
GoOn = Callable[[Turn], AsyncIterator[ThreadStreamEvent]]
"""Lets the assistant answer what stands last in the turn's history."""


async def act(turn: Turn, step: Step, *, tools: RunsTools | None, go_on: GoOn) -> AsyncIterator[ThreadStreamEvent]:
    """Carry out an action: run its tool, show the widget that it answers with, or let the assistant say what came of it."""
    told: list[ThreadItem] = [_note(turn, step.told)]
    yield ThreadItemDoneEvent(item=told[0])
    if step.tool is not None and tools is not None:
        answer = await tools.run_tool(turn, name=step.tool, arguments=step.arguments, seen=step.seen)
        for event in answer.events:
            yield event
            if isinstance(event, ThreadItemDoneEvent):
                told.append(event.item)
        if answer.asks:
            return
        widget = None if answer.failed else widget_of(answer.data)
        if widget is not None:
            widget = clean_widget(turn.config, widget)
            yield ThreadItemReplacedEvent(item=step.sender.model_copy(update={"widget": widget}))
            return
    turn.history = [*turn.history, *told]
    async for event in go_on(turn):
        yield event


class Acted:
    """What came of an action whose sender waits for it."""

    def __init__(self) -> None:
        self.item: WidgetItem | None = None
        self.error: StonechatError | None = None
        self.asks = False
        """Whether the visitor is asked in the conversation first."""

    async def watch(self, events: AsyncIterator[ThreadStreamEvent]) -> AsyncIterator[ThreadStreamEvent]:
        """The events, of which the new widget and a refusal are kept."""
        try:
            async for event in events:
                if isinstance(event, ThreadItemReplacedEvent) and isinstance(event.item, WidgetItem):
                    self.item = event.item
                elif isinstance(event, ThreadItemDoneEvent) and isinstance(event.item, StructuredInputItem):
                    self.asks = True
                yield event
        except StonechatError as error:
            self.error = error
            raise


async def say_nothing(_turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
    """In place of an answer, where nobody listens to one."""
    events: tuple[ThreadStreamEvent, ...] = ()
    for event in events:
        yield event


def withdraw(history: Sequence[ThreadItem]) -> tuple[list[ThreadItem], list[ThreadStreamEvent]]:
    """The history without calls that the page never answered, and with the forms skipped that nobody filled in; and how
    to tell so. The visitor wrote something else instead."""
    left: list[ThreadItem] = []
    events: list[ThreadStreamEvent] = []
    for item in history:
        if isinstance(item, ClientToolCallItem) and item.status == "pending":
            events.append(ThreadItemRemovedEvent(item_id=item.id))
            continue
        if isinstance(item, StructuredInputItem) and item.status == "pending":
            item = skipped(item)  # noqa: PLW2901
            events.append(ThreadItemReplacedEvent(item=item))
        left.append(item)
    return left, events


def skipped(form: StructuredInputItem) -> StructuredInputItem:
    """The form, with every question skipped."""
    form = form.model_copy(deep=True)
    form.status = "skipped"
    for question in form.inputs:
        question.answer = StructuredInputAnswer(skipped=True)
    return form


def require_output(result: Any) -> None:
    """Raise `InvalidInput` for the output of a client tool that is larger than any model is shown."""
    if len(json.dumps(result, ensure_ascii=False)) > MAX_OUTPUT_CHARACTERS:
        raise InvalidInput(f"The output of a tool has at most {MAX_OUTPUT_CHARACTERS:,} characters as JSON.")


def require_answers(submission: StructuredInputSubmission) -> None:
    """Raise `InvalidInput` for answers to a form that are more than answers."""
    for answer in submission.answers.values():
        if len(answer.values) > MAX_VALUES or any(len(value) > MAX_VALUE_CHARACTERS for value in answer.values):
            raise InvalidInput(
                f"An answer has at most {MAX_VALUES} values of at most {MAX_VALUE_CHARACTERS:,} characters."
            )


def _note(turn: Turn, text: str) -> HiddenContextItem:
    return HiddenContextItem(
        id=turn.generate_item_id("hidden_context"), thread_id=turn.thread.id, created_at=clock.now(), content=text
    )
