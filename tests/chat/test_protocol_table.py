"""The whole protocol as a table: who makes each type, where it is handled, what our widget calls it, which test proves it.

A new version of the SDK with a new type, or a new union of types, fails here until somebody has decided what to do with it.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any, get_args

import pytest
from chatkit import types
from pydantic import BaseModel, TypeAdapter

from stonechat.assistant.history_items import as_input
from stonechat.chat.codec import HIDDEN_KINDS, item_json, parse_attachment, parse_item, status_json
from stonechat.chat.events import wire_json
from support.running import ROOT

UNIONS = (
    "StreamingReq", "NonStreamingReq", "ThreadStreamEvent", "ThreadItemUpdate", "ThreadItem", "Task", "Source",
    "ThreadStatus", "StructuredInput", "UserMessageContent", "Attachment", "WorkflowSummary",
)  # fmt: skip
CLIENT = "a client"
OTHERS = "assistants of those who build on the server; ours passes it on"

TURNS, SERVER, RUNS, PENDING = "chat/turns.py", "chat/server.py", "chat/runs.py", "chat/pending.py"
ANSWER, ITEMS, CODEC = "assistant/answer.py", "assistant/history_items.py", "chat/codec.py"
REQUESTS, EVENTS = "chat/test_protocol_requests.py::test_the_request", "chat/test_protocol_events.py::test_it_is_streamed_stored_and_resumed"  # fmt: skip
HERE = "chat/test_protocol_table.py::test_it_survives_storage_and_is_told_to_clients_and_models"

# Class: who makes it (a file of ours, or one of the words above), the file that handles it, whether our widget knows it, the test.
# A word before a file stands there in place of the class.
TABLE: dict[str, tuple[str, str, bool, str]] = {
    "ThreadsCreateReq": (CLIENT, TURNS, True, REQUESTS),
    "ThreadsAddUserMessageReq": (CLIENT, TURNS, True, REQUESTS),
    "ThreadsAddClientToolOutputReq": (CLIENT, TURNS, True, REQUESTS),
    "ThreadsAddStructuredInputReq": (CLIENT, TURNS, True, REQUESTS),
    "ThreadsRetryAfterItemReq": (CLIENT, TURNS, True, REQUESTS),
    "ThreadsCustomActionReq": (CLIENT, TURNS, True, "assistant/test_widgets.py::test_an_action_runs_its_tool_and_shows_what_it_answers"),
    "ThreadsSyncCustomActionReq": (CLIENT, SERVER, True, "assistant/test_widgets.py::test_an_action_runs_its_tool_and_shows_what_it_answers"),
    "ThreadsGetByIdReq": (CLIENT, "_load_full_thread " + SERVER, True, REQUESTS),
    "ThreadsListReq": (CLIENT, "load_threads chat/store.py", True, REQUESTS),
    "ItemsListReq": (CLIENT, SERVER, True, REQUESTS),
    "ItemsFeedbackReq": (CLIENT, SERVER, True, "chat/test_judgements.py::test_a_reason_is_cleaned_before_it_is_kept"),
    "AttachmentsCreateReq": (CLIENT, "create_attachment chat/attachments.py", True, "chat/test_attachments.py::test_a_documents_text_reaches_the_model_as_data"),
    "AttachmentsDeleteReq": (CLIENT, "delete_attachment chat/attachments.py", True, "chat/test_attachments_end.py::test_a_deleted_file_is_gone"),
    "ThreadsUpdateReq": (CLIENT, SERVER, True, REQUESTS),
    "ThreadsDeleteReq": (CLIENT, SERVER, True, REQUESTS),
    "InputTranscribeReq": (CLIENT, SERVER, True, "providers/test_dictation.py::test_a_recording_becomes_text_and_is_counted"),
    "ThreadCreatedEvent": (TURNS, TURNS, True, EVENTS),
    "ThreadUpdatedEvent": (RUNS, RUNS, True, "chat/test_protocol_events.py::test_what_the_assistant_changes_of_the_thread_is_told_and_stored"),
    "ThreadItemDoneEvent": (ANSWER, RUNS, True, EVENTS),
    "ThreadItemAddedEvent": (ANSWER, RUNS, True, EVENTS),
    "ThreadItemUpdatedEvent": (ANSWER, RUNS, True, EVENTS),
    "ThreadItemRemovedEvent": ("chat/acting.py", RUNS, True, EVENTS),
    "ThreadItemReplacedEvent": ("chat/acting.py", RUNS, True, EVENTS),
    "StreamOptionsEvent": ("STREAM_OPTIONS " + RUNS, "publish " + RUNS, True, EVENTS),
    "ProgressUpdateEvent": ("assistant/tools/calls.py", "assistant/over_limit.py", True, EVENTS),
    "ClientEffectEvent": (OTHERS, "publish " + RUNS, True, EVENTS),
    "ErrorEvent": ("chat/failures.py", "error_event chat/hub.py", True, EVENTS),
    "NoticeEvent": ("chat/hand_over.py", "publish " + RUNS, True, EVENTS),
    "AssistantMessageContentPartAdded": (ANSWER, PENDING, True, EVENTS),
    "AssistantMessageContentPartTextDelta": (ANSWER, PENDING, True, EVENTS),
    "AssistantMessageContentPartAnnotationAdded": (ANSWER, PENDING, True, EVENTS),
    "AssistantMessageContentPartDone": (ANSWER, PENDING, True, EVENTS),
    "WidgetStreamingTextValueDelta": (OTHERS, PENDING, True, EVENTS),
    "WidgetComponentUpdated": (OTHERS, PENDING, True, EVENTS),
    "WidgetRootUpdated": (OTHERS, PENDING, True, EVENTS),
    "WorkflowTaskAdded": ("assistant/reasoning.py", PENDING, True, EVENTS),
    "WorkflowTaskUpdated": ("assistant/reasoning.py", PENDING, True, EVENTS),
    "GeneratedImageUpdated": (OTHERS, PENDING, True, EVENTS),
    "UserMessageItem": ("chat/messages.py", ITEMS, True, HERE),
    "AssistantMessageItem": (ANSWER, ITEMS, True, HERE),
    "ClientToolCallItem": ("assistant/tools/client.py", ITEMS, True, HERE),
    "WidgetItem": ("assistant/tools/widgets.py", ITEMS, True, HERE),
    "GeneratedImageItem": (OTHERS, ITEMS, True, HERE),
    "StructuredInputItem": ("assistant/tools/structured.py", ITEMS, True, HERE),
    "WorkflowItem": ("assistant/reasoning.py", ITEMS, True, HERE),
    "TaskItem": ("assistant/tools/hand_over.py", ITEMS, True, HERE),
    "HiddenContextItem": ("assistant/tools/calls.py", ITEMS, False, HERE),
    "SDKHiddenContextItem": (RUNS, ITEMS, False, HERE),
    "EndOfTurnItem": (OTHERS, ITEMS, True, HERE),
    "CustomTask": ("assistant/tools/hand_over.py", ITEMS, True, HERE),
    "SearchTask": (OTHERS, ITEMS, True, HERE),
    "ThoughtTask": ("assistant/reasoning.py", ITEMS, True, HERE),
    "FileTask": (OTHERS, ITEMS, True, HERE),
    "ImageTask": (OTHERS, ITEMS, True, HERE),
    "URLSource": ("assistant/passages.py", "chat/asking.py", True, HERE),
    "FileSource": ("assistant/passages.py", "chat/asking.py", True, HERE),
    "EntitySource": (OTHERS, "annotations " + PENDING, True, HERE),
    "ActiveStatus": ("chat/hand_over.py", "active " + SERVER, True, HERE),
    "LockedStatus": ("chat/hand_over.py", "locked chat/journal.py", True, "chat/test_protocol.py::test_locked_and_closed_threads_refuse_with_their_reason"),
    "ClosedStatus": ("chat/hand_over.py", "locked chat/journal.py", True, "chat/test_protocol.py::test_locked_and_closed_threads_refuse_with_their_reason"),
    "StructuredInputMultipleChoice": ("assistant/tools/structured.py", "question " + ITEMS, True, HERE),
    "StructuredInputFreeform": ("assistant/tools/structured.py", "question " + ITEMS, True, HERE),
    "UserMessageTextContent": (CLIENT, "input_text " + ITEMS, True, HERE),
    "UserMessageTagContent": (CLIENT, "input_tag " + ITEMS, True, "assistant/test_history.py::test_a_message_carries_its_tags_quote_and_the_names_of_its_attachments"),
    "FileAttachment": ("chat/attachments.py", "Attachment assistant/attached.py", True, HERE),
    "ImageAttachment": ("chat/attachments.py", "assistant/attached.py", True, HERE),
    "CustomSummary": (OTHERS, "tasks " + PENDING, True, HERE),
    "DurationSummary": ("assistant/reasoning.py", "tasks " + PENDING, True, HERE),
}  # fmt: skip

BASE = {"id": "item_1", "thread_id": "thr_1", "created_at": "2026-11-01T12:00:00Z"}
MESSAGE = BASE | {"type": "user_message", "content": [], "inference_options": {}}
FILE = {"id": "atc_1", "name": "a", "mime_type": "image/png"}


def _said(source: dict[str, Any]) -> dict[str, Any]:
    note = {"source": source, "index": 1}
    return BASE | {"type": "assistant_message", "content": [{"text": "One", "annotations": [note]}]}


def _did(task: dict[str, Any]) -> dict[str, Any]:
    return BASE | {"type": "task", "task": task}


def _flow(**more: Any) -> dict[str, Any]:
    return BASE | {"type": "workflow", "workflow": {"type": "reasoning", "tasks": []} | more}


ASKED = {"id": "q", "question": "Which?"}
KEPT: dict[str, dict[str, Any]] = {
    "UserMessageItem": MESSAGE | {"quoted_text": "this", "inference_options": {"tool_choice": {"id": "t"}, "model": "m"}},
    "AssistantMessageItem": BASE | {"type": "assistant_message", "content": [{"text": "One"}, {"text": "Two"}]},
    "ClientToolCallItem": BASE | {"type": "client_tool_call", "status": "completed", "call_id": "c", "name": "n", "arguments": {"a": [None]}, "output": {"b": 1}},
    "WidgetItem": BASE | {"type": "widget", "widget": {"type": "Card", "novelty": [1], "children": []}, "copy_text": "A card"},
    "GeneratedImageItem": BASE | {"type": "generated_image", "image": {"id": "i", "url": "https://shop.example/i.png"}},
    "StructuredInputItem": BASE | {"type": "structured_input", "status": "skipped", "inputs": [ASKED | {"type": "freeform", "answer": {"skipped": True}}]},
    "WorkflowItem": _flow(type="custom", expanded=True, tasks=[{"type": "custom", "title": "T"}]),
    "TaskItem": _did({"type": "custom", "title": "T", "status_indicator": "complete"}),
    "HiddenContextItem": BASE | {"type": "hidden_context_item", "content": {"kind": "mine", "n": [1]}},
    "SDKHiddenContextItem": BASE | {"type": "sdk_hidden_context", "content": "The visitor stopped."},
    "EndOfTurnItem": BASE | {"type": "end_of_turn"},
    "CustomTask": _did({"type": "custom", "title": "T", "icon": "search", "content": "C"}),
    "SearchTask": _did({"type": "web_search", "title": "T", "title_query": "q", "queries": ["q"], "sources": [{"type": "url", "title": "A", "url": "https://a.example"}]}),
    "ThoughtTask": _did({"type": "thought", "title": "T", "content": "C"}),
    "FileTask": _did({"type": "file", "title": "T", "sources": [{"type": "file", "title": "F", "filename": "f.txt"}]}),
    "ImageTask": _did({"type": "image", "title": "T"}),
    "URLSource": _said({"type": "url", "title": "A", "url": "https://a.example", "attribution": "B", "timestamp": "now", "group": "G"}),
    "FileSource": _said({"type": "file", "title": "F", "filename": "f.txt", "description": "D"}),
    "EntitySource": _said({"type": "entity", "title": "E", "id": "e", "icon": "cube", "label": "L", "inline_label": "l", "interactive": True, "data": {"k": [1]}}),
    "StructuredInputMultipleChoice": BASE | {"type": "structured_input", "status": "answered", "inputs": [ASKED | {"type": "multiple_choice", "options": [{"value": "a"}], "multiple": True, "answer": {"values": ["a", "own"]}}]},
    "StructuredInputFreeform": BASE | {"type": "structured_input", "inputs": [ASKED | {"type": "freeform", "description": "D"}]},
    "UserMessageTextContent": MESSAGE | {"content": [{"type": "input_text", "text": "Hi"}]},
    "UserMessageTagContent": MESSAGE | {"content": [{"type": "input_tag", "id": "t", "text": "T", "data": {"k": [1]}, "group": "G", "interactive": True}]},
    "FileAttachment": MESSAGE | {"attachments": [FILE | {"type": "file", "thread_id": "thr_1"}]},
    "ImageAttachment": MESSAGE | {"attachments": [FILE | {"type": "image", "preview_url": "https://a.example/p"}]},
    "CustomSummary": _flow(summary={"title": "S", "icon": "check"}),
    "DurationSummary": _flow(summary={"duration": 3}),
}  # fmt: skip
"""An item that holds one of each that is kept within items."""


def members(union: Any) -> tuple[type[BaseModel], ...]:
    found = get_args(union)
    found = get_args(found[0]) if found and get_args(found[0]) else found
    return tuple(each for each in found if isinstance(each, type) and issubclass(each, BaseModel))


ALL = {member.__name__: member for union in UNIONS for member in members(getattr(types, union))}


def test_no_union_of_the_protocol_is_left_out() -> None:
    found = {name for name, value in vars(types).items() if len(members(value)) > 1}
    assert found - {"ChatKitReq"} == set(UNIONS)
    assert set(members(types.ChatKitReq)) == {*members(types.StreamingReq), *members(types.NonStreamingReq)}


@pytest.mark.parametrize("name", sorted({*ALL, *TABLE}))
def test_it_is_made_handled_known_to_the_widget_and_proven(name: str) -> None:
    assert name in ALL, "the SDK has it no more"
    assert name in TABLE, "the SDK has something new: say who makes it, where it is handled, and what proves it"
    made, handled, known, proven = TABLE[name]
    for place in (made, handled):
        if place not in (CLIENT, OTHERS):
            word, _, file = place.rpartition(" ")
            assert (word or name) in _source(file), place
    assert _literal_in_widget(name) is known
    path, _, test = proven.partition("::")
    assert test in _tests_in(path), proven


@pytest.mark.parametrize("name", sorted(KEPT))
def test_it_survives_storage_and_is_told_to_clients_and_models(name: str) -> None:
    item = parse_item(json.dumps(KEPT[name]))
    stored = item_json(item)
    assert _covers(json.loads(stored), KEPT[name]), "nothing is lost on the way in"
    again = parse_item(stored)
    assert (again, item_json(again)) == (item, stored)
    assert ALL[name] is type(item) or ALL[name].__name__ in repr(item)
    assert isinstance(as_input(item, recalled={}), list)
    if item.type not in HIDDEN_KINDS:
        assert _covers(json.loads(wire_json(item)), KEPT[name]), "clients are told all of it"


def test_every_kind_that_items_hold_is_among_them() -> None:
    kept = ("ThreadItem", "Task", "Source", "StructuredInput", "UserMessageContent", "Attachment", "WorkflowSummary")
    assert {each.__name__ for union in kept for each in members(getattr(types, union))} == set(KEPT)


@pytest.mark.parametrize("status", members(types.ThreadStatus))
def test_a_threads_status_survives_storage(status: type[BaseModel]) -> None:
    given = status.model_validate({"reason": "Because"} if "reason" in status.model_fields else {})
    stored = status_json(given)  # type: ignore[arg-type]
    assert TypeAdapter(types.ThreadStatus).validate_json(stored) == given


@pytest.mark.parametrize("name", ["FileAttachment", "ImageAttachment"])
def test_an_attachments_private_notes_are_kept_and_told_to_nobody(name: str) -> None:
    [given] = KEPT[name]["attachments"]
    attachment = parse_attachment(json.dumps(given | {"metadata": {"secret": 1}}))
    assert attachment.metadata == {"secret": 1}
    assert "secret" not in wire_json(attachment)


@cache
def _source(file: str) -> str:
    return (ROOT / "platform/stonechat" / file).read_text("utf-8")


@cache
def _widget() -> str:
    folder = ROOT / "widget/src/chat"
    return "".join((folder / name).read_text("utf-8") for name in ("protocol.ts", "parse.ts"))


def _literal_in_widget(name: str) -> bool:
    field = ALL[name].model_fields.get("type")
    if name == "StructuredInputFreeform":
        return "Null for free text." in _widget()
    if field is None:  # told apart by what it has
        return all(f"{part}" in _widget() for part in ALL[name].model_fields)
    return f'"{field.default}"' in _widget()


@cache
def _tests_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def _covers(got: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(got, dict) and all(_covers(got.get(key), value) for key, value in wanted.items() if value is not None)  # fmt: skip
    if isinstance(wanted, list):
        return isinstance(got, list) and len(got) == len(wanted) and all(map(_covers, got, wanted))
    return bool(got == wanted)
