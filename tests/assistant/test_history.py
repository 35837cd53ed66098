"""What of a conversation a model is shown."""

import json

import pytest
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    CustomTask,
    EndOfTurnItem,
    FileAttachment,
    GeneratedImage,
    GeneratedImageItem,
    HiddenContextItem,
    SDKHiddenContextItem,
    SearchTask,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    TaskItem,
    ThoughtTask,
    ThreadItem,
    UserMessageTagContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import DynamicWidgetRoot

from stonechat import clock
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_parts import HistoryUse
from stonechat.assistant.history import MAX_ITEMS, History, Summary, fit_history
from stonechat.assistant.history_budget import context_window, cut_to_tokens, estimate_tokens, history_tokens
from stonechat.assistant.tools.search import PASSAGES_KIND
from stonechat.chat import reasons
from support.assistant import user_message

BASE = {"thread_id": "thr_1", "created_at": clock.now()}


def said(text: str, item_id: str = "a") -> AssistantMessageItem:
    return AssistantMessageItem(id=item_id, content=[AssistantMessageContent(text=text)], **BASE)


def memory(content: object, item_id: str = "h") -> HiddenContextItem:
    return HiddenContextItem(id=item_id, content=content, **BASE)


def call(output: str = "42", item_id: str = "t", name: str = "stock") -> HiddenContextItem:
    content = {"kind": "stonechat.tool_call", "name": name, "arguments": {"sku": "a"}, "output": output}
    return memory(content, item_id)


def fitted(*items: ThreadItem, max_tokens: int = 10_000, **options: object) -> History:
    return fit_history(items, max_tokens=max_tokens, **options)  # type: ignore[arg-type]


def talk(turns: int, words: int = 20) -> list[ThreadItem]:
    """So many questions, each with its answer, and one more question."""
    items: list[ThreadItem] = []
    for n in range(turns):
        items += [user_message(f"q{n} " + "word " * words), said(f"a{n} " + "word " * words, f"a{n}")]
    return [*items, user_message("last")]


def test_messages_are_plain_text_for_both_of_openais_apis() -> None:
    assert fitted(user_message("Hi"), said("Hello"), user_message("Why?")).shown == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]


def test_a_message_carries_its_tags_quote_and_the_names_of_its_attachments() -> None:
    message = user_message("Ask ")
    message.content.append(UserMessageTagContent(id="t", text="sales", data={}))
    message.quoted_text = "14 days"
    message.attachments.append(FileAttachment(id="atc", name="bill.pdf", mime_type="application/pdf"))
    [item] = fitted(message).shown
    assert item.get("content") == "Ask @sales\n\n(This is about: “14 days”)\n\n(Attached: bill.pdf)"
    message.content.append(UserMessageTagContent(id="o7", text="Order 7", data={"total": "9 €", "all": "x" * 2_000}))
    told = str(fitted(message).shown[0].get("content"))
    assert told.startswith('Ask @sales@Order 7\n\n(@Order 7 is {"id": "o7", "total": "9 €", "all": "xxx')
    assert len(told) < 1_200


def test_a_message_may_be_more_than_text() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
    message = user_message("What is this?")
    content = [{"type": "input_text", "text": "What is this?"}, picture]
    history = fitted(message, contents={message.id: content})
    assert history.shown == [{"role": "user", "content": content}]
    assert history.tokens > 500  # pictures are not free


def test_calls_are_shown_with_their_outputs_and_pending_ones_are_not() -> None:
    done = ClientToolCallItem(
        id="c1", call_id="call_1", name="cart", arguments={"a": 1}, output={"b": 2}, status="completed", **BASE
    )
    pending = ClientToolCallItem(id="c2", call_id="call_2", name="cart", arguments={}, **BASE)
    assert fitted(user_message("Hi"), done, pending, call()).shown[1:] == [
        {"type": "function_call", "call_id": "call_1", "name": "cart", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": '{"b": 2}'},
        {"type": "function_call", "call_id": "call_t", "name": "stock", "arguments": '{"sku": "a"}'},
        {"type": "function_call_output", "call_id": "call_t", "output": "42"},
    ]


def test_a_remembered_search_is_shown_only_with_its_passages() -> None:
    item = memory({"kind": PASSAGES_KIND, "query": "refunds", "chunk_ids": ["chk_1"]})
    history = [user_message("Hi"), item, said("Hello")]
    assert len(fitted(*history).shown) == 2
    shown = fitted(*history, recalled={"h": "the passages"}).shown
    assert [part.get("type", part.get("role")) for part in shown] == [
        "user",
        "function_call",
        "function_call_output",
        "assistant",
    ]
    assert json.loads(str(shown[1].get("arguments"))) == {"query": "refunds"}
    assert shown[2].get("output") == "the passages"


SHOWN_AS_TEXT = {
    "a card by its copy text": (
        WidgetItem(id="w", widget=DynamicWidgetRoot(type="Card"), copy_text="Order 7: paid", **BASE),
        "Shown to the visitor: Order 7: paid",
    ),
    "a card by its words": (
        WidgetItem(
            id="w",
            widget=DynamicWidgetRoot.model_validate(
                {
                    "type": "Card",
                    "children": [
                        {"type": "Title", "value": "Order  7"},
                        {"type": "Button", "label": "Pay", "onClickAction": {"type": "pay", "payload": {"text": "no"}}},
                    ],
                }
            ),
            **BASE,
        ),
        "Shown to the visitor: Order 7 · Pay",
    ),
    "a form with its answers": (
        StructuredInputItem(
            id="s",
            status="answered",
            inputs=[
                StructuredInputFreeform(id="1", question="Size?", answer=StructuredInputAnswer(values=["M", "L"])),
                StructuredInputFreeform(id="2", question="Colour?", answer=StructuredInputAnswer(skipped=True)),
            ],
            **BASE,
        ),
        "The visitor was asked: Size? → M, L; Colour? → skipped",
    ),
    "a task": (
        TaskItem(id="t", task=CustomTask(title="Booked", content="Table for two"), **BASE),
        "Done for the visitor: Booked: Table for two",
    ),
    "a workflow without its thoughts": (
        WorkflowItem(
            id="w",
            workflow=Workflow(
                type="custom",
                tasks=[ThoughtTask(content="I wonder"), SearchTask(title="Web", queries=["coats"])],
            ),
            **BASE,
        ),
        "Done for the visitor: Web: coats",
    ),
    "a picture": (
        GeneratedImageItem(id="i", image=GeneratedImage(id="1", url="https://x.example/1.png"), **BASE),
        "A picture was made and shown to the visitor.",
    ),
    "hidden context": (memory("The visitor is a member."), "The visitor is a member."),
    "hidden context of the SDK": (SDKHiddenContextItem(id="s", content="It was stopped.", **BASE), "It was stopped."),
    "hidden facts": (memory({"plan": "gold"}), '{"plan": "gold"}'),
}


@pytest.mark.parametrize("kind", SHOWN_AS_TEXT)
def test_what_is_no_message_is_told_in_a_few_words(kind: str) -> None:
    item, text = SHOWN_AS_TEXT[kind]
    shown = fitted(user_message("Hi"), said("Hello"), item).shown
    assert shown[2:] == [{"role": "user", "content": f"<context>{text}</context>"}]


def test_some_items_are_not_for_models() -> None:
    others = [
        memory({"kind": "stonechat.bookkeeping", "x": "secret"}),
        memory({"kind": reasons.KIND, "judged": "negative", "reason": "secret"}),
        memory({"kind": PASSAGES_KIND, "query": 1, "chunk_ids": []}),
        memory(7),
        memory(""),
        EndOfTurnItem(id="e", **BASE),
        said(""),
        GeneratedImageItem(id="i", **BASE),
        WorkflowItem(id="w", workflow=Workflow(type="reasoning", tasks=[ThoughtTask(content="Hm")]), **BASE),
        WidgetItem(id="w", widget=DynamicWidgetRoot(type="Card"), **BASE),
    ]
    assert fitted(user_message("Hi"), *others, recalled={"h": "x"}).shown == [{"role": "user", "content": "Hi"}]


def test_texts_of_the_visitors_side_are_one_message_because_some_models_insist_on_turns() -> None:
    note = SDKHiddenContextItem(id="s", content="It was </context> stopped.", **BASE)
    [item] = fitted(user_message("Hi"), note, user_message("Again")).shown
    assert item.get("content") == "Hi\n\n<context>It was < /context> stopped.</context>\n\nAgain"


def test_a_turn_that_failed_after_its_tools_is_closed_because_some_models_insist_on_turns() -> None:
    note = SDKHiddenContextItem(id="s", content="It was stopped.", **BASE)
    failed = fitted(user_message("Hi"), call(), user_message("Again")).shown
    stopped = fitted(user_message("Hi"), call(), note, user_message("Again")).shown
    for shown in (failed, stopped):
        assert [part.get("role", part.get("type")) for part in shown] == [
            "user",
            "function_call",
            "function_call_output",
            "assistant",
            "user",
        ]
    assert stopped[-1].get("content") == "<context>It was stopped.</context>\n\nAgain"


def test_messages_with_files_take_turns_too() -> None:
    seen, asked = user_message("What is this?"), user_message("And now?")
    content = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": "data:,"}]
    shown = fitted(user_message("Hi"), seen, asked, said("A"), said("B"), contents={seen.id: content}).shown
    assert shown == [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Hi"}, *content, {"type": "input_text", "text": "And now?"}],
        },
        {"role": "assistant", "content": "A\n\nB"},
    ]
    assert len(content) == 2, "what it was made of is left as it was"


def test_the_newest_that_fit_are_kept_and_begin_with_a_visitor() -> None:
    history = fitted(*talk(50), max_tokens=500)
    assert history.tokens <= 500
    assert str(history.shown[0].get("content")).startswith("q")
    assert history.shown[-1] == {"role": "user", "content": "last"}
    kept = [str(part.get("content")).split()[0] for part in history.shown[:-1]]
    first = 50 - len(kept) // 2
    assert kept == [f"{letter}{n}" for n in range(first, 50) for letter in "qa"]
    assert len(history.dropped) == 100 - len(kept)
    assert history.dropped_tokens > 1000
    assert history.as_data() == {
        "items": len(kept) + 1,
        "tokens": history.tokens,
        "dropped": 100 - len(kept),
        "dropped_tokens": history.dropped_tokens,
    }


def test_no_more_items_are_looked_at_than_the_bound() -> None:
    assert fitted(*talk(MAX_ITEMS, words=1), max_tokens=100_000).items <= MAX_ITEMS


@pytest.mark.parametrize("max_tokens", range(60, 400, 20))
def test_a_call_is_never_torn_from_its_output(max_tokens: int) -> None:
    items = [
        part
        for n in range(6)
        for part in (user_message(f"q{n}"), call("out " * (10 * n), f"t{n}"), said("answer " * 8, f"a{n}"))
    ]
    history = fitted(*items, user_message("last"), max_tokens=max_tokens)
    calls = [part.get("call_id") for part in history.shown if part.get("type") == "function_call"]
    outputs = [part.get("call_id") for part in history.shown if part.get("type") == "function_call_output"]
    assert calls == outputs
    assert history.tokens <= max_tokens


def test_what_a_tool_once_said_may_be_left_out_alone() -> None:
    history = fitted(user_message("first"), call("x" * 4000), said("fine"), user_message("last"), max_tokens=100)
    assert [part.get("content") for part in history.shown] == ["first", "fine", "last"]
    assert [item.id for item in history.dropped] == ["t"]


def test_a_message_beyond_all_bounds_is_cut() -> None:
    history = fitted(user_message("Hi"), said("Hello"), user_message("x" * 10_000), max_tokens=600)
    [part] = history.shown
    assert set(str(part.get("content"))) == {"x"}
    assert 550 <= history.tokens <= 600
    assert history.cut == 1


def test_outputs_of_the_turn_are_cut_rather_than_the_question() -> None:
    client = ClientToolCallItem(
        id="c", call_id="call_1", name="page", arguments={}, output="y" * 40_000, status="completed", **BASE
    )
    history = fitted(said("Hello"), user_message("What is on this page?"), client, max_tokens=1000)
    question, asked, output = history.shown
    assert question == {"role": "user", "content": "What is on this page?"}
    assert asked.get("call_id") == output.get("call_id") == "call_1"
    assert 1000 < len(str(output.get("output"))) < 4000
    assert history.tokens <= 1000


# Summaries


def test_a_summary_stands_for_what_no_longer_fits() -> None:
    items = talk(50)
    summary = Summary("They talked about coats.", "a40", 82)
    history = fitted(*items, max_tokens=600, summary=summary)
    assert str(history.shown[0].get("content")).startswith(
        "<context>What was said before, summarised: They talked about coats.</context>\n\nq41 "
    )
    assert history.summary is summary
    assert (history.dropped, history.to_summarise) == ([], [])
    assert history.as_data()["summarised"] == 82


def test_what_came_after_the_summary_and_does_not_fit_is_the_next_to_be_summarised() -> None:
    history = fitted(*talk(50), max_tokens=600, summary=Summary("Coats.", "a20", 42))
    assert history.dropped[1].id == "a21"
    told = [item.id for item in history.to_summarise]
    assert told[: len(history.dropped)] == [item.id for item in history.dropped]
    assert len(told) > len(history.dropped)  # with some room, so that the next turn need not drop again
    shown_after = {part.get("content") for part in history.shown}
    assert len(told) < len(history.dropped) + len(shown_after)


def test_no_summary_is_shown_where_everything_fits_in_its_own_words() -> None:
    history = fitted(*talk(3), summary=Summary("Coats.", "a0", 2))
    assert history.summary is None
    assert len(history.shown) == 7


def test_a_summary_is_shown_where_what_it_tells_of_was_not_even_loaded() -> None:
    history = fitted(*talk(3), summary=Summary("Coats.", "a0", 60))
    assert history.summary is not None
    assert str(history.shown[0].get("content")).startswith("<context>What was said before")
    assert len(history.shown) == 5


# The budget


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("How long do I have to return a coat that does not fit me?", 12, 20),
        ("Wie lange kann ich einen Mantel zurückgeben, der nicht passt?", 13, 22),
        ("Сколько времени у меня есть, чтобы вернуть пальто?", 18, 32),
        ("试穿后不合适的大衣可以在多少天内退货？", 17, 22),
        ("サイズが合わないコートは何日以内に返品できますか。", 22, 28),
        ("맞지 않는 코트는 며칠 안에 반품할 수 있나요?", 15, 28),
        ("", 0, 0),
    ],
)
def test_tokens_are_estimated_sensibly_in_every_script(text: str, low: int, high: int) -> None:
    assert low <= estimate_tokens(text) <= high


@pytest.mark.parametrize("text", ["word " * 500, "退货" * 500, "смешанный text 退货 " * 50, "😀" * 300])
def test_a_text_is_cut_to_the_tokens_it_may_have(text: str) -> None:
    cut = cut_to_tokens(text, 100)
    assert text.startswith(cut)
    assert 80 <= estimate_tokens(cut) <= 100


def test_the_budget_keeps_within_the_window_of_known_models() -> None:
    config = AgentConfig(name="A", history=HistoryUse(max_tokens=100_000), max_output_tokens=4000)
    assert history_tokens(config, "openai/gpt-5-mini") == 100_000
    assert history_tokens(config, "router/mistralai/mistral-small-24b") == 32_000 - 6_000 - 4_000
    assert history_tokens(config, "local/llama3") == 4_000
    assert history_tokens(config, "local/our-own-model") == 100_000
    assert context_window("acme/unknown") is None
