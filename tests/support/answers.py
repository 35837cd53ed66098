"""One answer for every event, item, update and task of the protocol: what an assistant may ever stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartAnnotationAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ClientEffectEvent,
    ClientToolCallItem,
    CustomSummary,
    CustomTask,
    DurationSummary,
    EndOfTurnItem,
    EntitySource,
    ErrorEvent,
    FileSource,
    FileTask,
    GeneratedImage,
    GeneratedImageItem,
    GeneratedImageUpdated,
    HiddenContextItem,
    ImageTask,
    LockedStatus,
    NoticeEvent,
    ProgressUpdateEvent,
    SDKHiddenContextItem,
    SearchTask,
    StreamOptions,
    StreamOptionsEvent,
    StructuredInputFreeform,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    TaskItem,
    ThoughtTask,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    URLSource,
    WidgetComponentUpdated,
    WidgetItem,
    WidgetRootUpdated,
    WidgetStreamingTextValueDelta,
    Workflow,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)
from chatkit.widgets import DynamicWidgetComponent, DynamicWidgetRoot

from stonechat import clock

Wait = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Told:
    """An answer: its events, and the items that stay, whole and as they are if the process dies before the last event."""

    events: list[ThreadStreamEvent]
    stored: list[ThreadItem]
    partial: list[ThreadItem]

    async def play(self, *, wait: Wait | None = None) -> AsyncIterator[ThreadStreamEvent]:
        """The events; `wait` is awaited before the last one."""
        for number, event in enumerate(self.events):
            if wait is not None and number == len(self.events) - 1:
                await wait()
            yield event


def answers(thread: ThreadMetadata) -> dict[str, Told]:
    """By name. Ids are those of one thread."""
    base: dict[str, Any] = {"thread_id": thread.id, "created_at": clock.now()}
    added, done = (lambda item: ThreadItemAddedEvent(item=item)), (lambda item: ThreadItemDoneEvent(item=item))

    def updated(item: ThreadItem, *updates: Any) -> list[ThreadStreamEvent]:
        return [ThreadItemUpdatedEvent(item_id=item.id, update=update) for update in updates]

    told: dict[str, Told] = {}
    notes = [
        Annotation(source=URLSource(title="A page", url="https://shop.example/a"), index=3),
        Annotation(source=FileSource(title="A file", filename="a.pdf"), index=5),
        Annotation(source=EntitySource(title="A thing", id="e1", data={"k": [1]})),
    ]
    message = AssistantMessageItem(id="msg_1", content=[], **base)
    whole = AssistantMessageContent(text="One two", annotations=notes)
    parts = [
        AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="")),
        AssistantMessageContentPartTextDelta(content_index=0, delta="One "),
        AssistantMessageContentPartTextDelta(content_index=0, delta="two"),
        *(
            AssistantMessageContentPartAnnotationAdded(content_index=0, annotation_index=number, annotation=note)
            for number, note in enumerate(notes)
        ),
        AssistantMessageContentPartDone(content_index=0, content=whole),
    ]
    said = message.model_copy(update={"content": [whole]})
    told["message"] = Told([added(message), *updated(message, *parts), done(said)], [said], [said])

    tasks = [
        CustomTask(title="Look", icon="search", content="at it", status_indicator="loading"),
        SearchTask(
            title="Web", title_query="q", queries=["q"], sources=[URLSource(title="A", url="https://a.example")]
        ),
        ThoughtTask(title="Hm", content="I think"),
        FileTask(title="Files", sources=[FileSource(title="F", filename="f.txt")]),
        ImageTask(title="Picture"),
    ]
    flow = WorkflowItem(id="wf_1", workflow=Workflow(type="custom", tasks=tasks[:1]), **base)
    looked = tasks[0].model_copy(update={"status_indicator": "complete"})
    steps = [WorkflowTaskAdded(task_index=number, task=task) for number, task in enumerate(tasks[1:], start=1)]
    every = Workflow(type="custom", tasks=[looked, *tasks[1:]])
    ended = flow.model_copy(
        update={"workflow": every.model_copy(update={"summary": CustomSummary(title="Done", icon="check")})}
    )
    told["workflow"] = Told(
        [added(flow), *updated(flow, *steps, WorkflowTaskUpdated(task_index=0, task=looked)), done(ended)],
        [ended],
        [flow.model_copy(update={"workflow": every})],
    )
    thinking = WorkflowItem(id="wf_2", workflow=Workflow(type="reasoning", tasks=[]), **base)
    thought = ThoughtTask(content="Because", status_indicator="loading")
    half = Workflow(type="reasoning", tasks=[thought.model_copy(update={"status_indicator": "none"})])
    thought_through = thinking.model_copy(
        update={"workflow": Workflow(type="reasoning", tasks=[thought], summary=DurationSummary(duration=3))}
    )
    told["reasoning"] = Told(
        [added(thinking), *updated(thinking, WorkflowTaskAdded(task_index=0, task=thought)), done(thought_through)],
        [thought_through],
        [thinking.model_copy(update={"workflow": half})],
    )

    def card(words: str, *, streaming: bool, label: str) -> dict[str, Any]:
        text = {"type": "Text", "id": "t", "value": words, "streaming": streaming}
        return {
            "type": "Card",
            "surprise": {"new": [1]},
            "children": [text, {"type": "Gauge", "id": "b", "label": label}],
        }

    def widget(item_id: str, raw: dict[str, Any]) -> WidgetItem:
        return WidgetItem(id=item_id, widget=DynamicWidgetRoot.model_validate(raw), copy_text="A card", **base)

    first = widget("wdg_1", {"type": "Card", "children": []})
    told["widget"] = Told(
        [
            added(first),
            *updated(
                first,
                WidgetRootUpdated(widget=DynamicWidgetRoot.model_validate(card("He", streaming=True, label="A"))),
                WidgetStreamingTextValueDelta(component_id="t", delta="llo", done=False),
                WidgetComponentUpdated(
                    component_id="b",
                    component=DynamicWidgetComponent.model_validate({"type": "Gauge", "id": "b", "label": "B"}),
                ),
            ),
            done(widget("wdg_1", card("Hello!", streaming=False, label="B"))),
        ],
        [widget("wdg_1", card("Hello!", streaming=False, label="B"))],
        [widget("wdg_1", card("Hello", streaming=False, label="B"))],
    )
    nothing = GeneratedImageItem(id="img_1", **base)
    draft, drawn = (GeneratedImage(id="i", url=f"https://shop.example/{name}.png") for name in ("draft", "drawn"))
    told["picture"] = Told(
        [
            added(nothing),
            *updated(nothing, GeneratedImageUpdated(image=draft, progress=0.5)),
            done(nothing.model_copy(update={"image": drawn})),
        ],
        [nothing.model_copy(update={"image": drawn})],
        [nothing.model_copy(update={"image": draft})],
    )
    whole_items: dict[str, ThreadItem] = {
        "client_tool_call": ClientToolCallItem(id="ctc_1", call_id="c", name="cart", arguments={"a": [None]}, **base),
        "structured_input": StructuredInputItem(
            id="sti_1",
            inputs=[
                StructuredInputMultipleChoice(
                    id="q1",
                    question="Which?",
                    options=[StructuredInputMultipleChoiceOption(value="this")],
                    multiple=True,
                ),
                StructuredInputFreeform(id="q2", question="Why?", description="In short"),
            ],
            **base,
        ),
        "task": TaskItem(id="tsk_1", task=tasks[0], **base),
        "hidden_context": HiddenContextItem(id="hcx_1", content={"SECRET": True}, **base),
        "sdk_hidden_context": SDKHiddenContextItem(id="shcx_1", content="SECRET", **base),
        "end_of_turn": EndOfTurnItem(id="eot_1", **base),
    }
    over = NoticeEvent(level="info", message="over")
    for name, item in whole_items.items():
        told[name] = Told([done(item), over], [item], [item])
    told["removed"] = Told([done(said), ThreadItemRemovedEvent(item_id="msg_1"), over], [], [])
    better = said.model_copy(update={"content": [AssistantMessageContent(text="Better")]})
    told["replaced"] = Told([done(said), ThreadItemReplacedEvent(item=better), over], [better], [better])
    told["passing"] = Told(
        [
            StreamOptionsEvent(stream_options=StreamOptions(allow_cancel=False)),
            ProgressUpdateEvent(icon="search", text="Looking"),
            ClientEffectEvent(name="confetti", data={"n": 1}),
            NoticeEvent(level="warning", title="Careful", message="**Hot**"),
            ErrorEvent(message="Something", allow_retry=True),
        ],
        [],
        [],
    )
    return told


async def locking(thread: ThreadMetadata) -> AsyncIterator[ThreadStreamEvent]:
    """The assistant names and locks the thread on the way."""
    thread.title = "Named on the way"
    yield ProgressUpdateEvent(text="Locking")
    thread.status = LockedStatus(reason="Enough was said.")


def names(kinds: Sequence[type]) -> set[str]:
    """The protocol's names of these classes."""
    return {kind.model_fields["type"].default for kind in kinds}  # type: ignore[attr-defined]
