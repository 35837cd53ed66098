"""What of a conversation a model is shown."""

import json

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    EndOfTurnItem,
    FileAttachment,
    HiddenContextItem,
    SDKHiddenContextItem,
    UserMessageTagContent,
)

from stonechat import clock
from stonechat.assistant.history import MAX_CHARACTERS, MAX_ITEMS, to_model_input
from stonechat.assistant.tools.search import PASSAGES_KIND
from support.assistant import user_message

BASE = {"thread_id": "thr_1", "created_at": clock.now()}


def said(text: str, item_id: str = "a") -> AssistantMessageItem:
    return AssistantMessageItem(id=item_id, content=[AssistantMessageContent(text=text)], **BASE)


def memory(content: object, item_id: str = "h") -> HiddenContextItem:
    return HiddenContextItem(id=item_id, content=content, **BASE)


def test_messages_are_plain_text_for_both_of_openais_apis() -> None:
    assert to_model_input([user_message("Hi"), said("Hello"), user_message("Why?")]) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]


def test_a_message_carries_its_tags_quote_and_the_names_of_its_attachments() -> None:
    message = user_message("Ask ")
    message.content.append(UserMessageTagContent(id="t", text="sales", data={}))
    message.quoted_text = "14 days"
    message.attachments.append(FileAttachment(id="atc", name="bill.pdf", mime_type="application/pdf"))
    [item] = to_model_input([message])
    assert item.get("content") == "Ask @sales\n\n(This is about: “14 days”)\n\n(Attached: bill.pdf)"


def test_finished_tool_calls_are_shown_and_pending_ones_are_not() -> None:
    done = ClientToolCallItem(
        id="c1", call_id="call_1", name="cart", arguments={"a": 1}, output={"b": 2}, status="completed", **BASE
    )
    pending = ClientToolCallItem(id="c2", call_id="call_2", name="cart", arguments={}, **BASE)
    assert to_model_input([user_message("Hi"), done, pending])[1:] == [
        {"type": "function_call", "call_id": "call_1", "name": "cart", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"b": 2}'},
    ]


def test_a_remembered_search_is_shown_only_with_its_passages() -> None:
    item = memory({"kind": PASSAGES_KIND, "query": "refunds", "chunk_ids": ["chk_1"]})
    history = [user_message("Hi"), item, said("Hello")]
    assert len(to_model_input(history)) == 2
    shown = to_model_input(history, recalled={"h": "the passages"})
    assert [part.get("type", part.get("role")) for part in shown] == [
        "user",
        "function_call",
        "function_call_output",
        "assistant",
    ]
    assert json.loads(str(shown[1].get("arguments"))) == {"query": "refunds"}
    assert shown[2].get("output") == "the passages"


def test_other_hidden_items_are_kept_from_the_model() -> None:
    others = [
        memory("a secret of the operator"),
        memory({"kind": "other"}),
        memory({"kind": PASSAGES_KIND, "query": 1, "chunk_ids": []}),
        SDKHiddenContextItem(id="s", content="secret", **BASE),
        EndOfTurnItem(id="e", **BASE),
        said(""),
    ]
    assert to_model_input([user_message("Hi"), *others], recalled={"h": "x"}) == [{"role": "user", "content": "Hi"}]


def test_the_newest_items_are_kept_and_begin_with_a_visitor() -> None:
    history = [item for n in range(100) for item in (user_message(f"q{n}"), said(f"a{n}"))][:-1]
    shown = to_model_input(history)
    assert len(shown) <= MAX_ITEMS
    assert shown[0].get("role") == "user"
    assert shown[-1] == {"role": "user", "content": "q99"}


def test_a_message_beyond_all_bounds_is_cut() -> None:
    shown = to_model_input([user_message("Hi"), said("Hello"), user_message("x" * (2 * MAX_CHARACTERS))])
    assert shown == [{"role": "user", "content": "x" * MAX_CHARACTERS}]
