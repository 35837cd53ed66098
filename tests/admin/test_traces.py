"""How an answer came about, in the console: drawn, told in words, and never a word too many."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from chatkit.types import AssistantMessageItem

from stonechat import clock, ids
from stonechat.assistant.trace_store import SpanView, TraceView, TurnTraceRow
from stonechat_admin.traces import cost, seconds, timeline
from support.console import ConsoleWorld
from support.reading import Reader, answered, asked

PATH = "/console/conversations"
SPANS: list[dict[str, Any]] = [
    {"kind": "agent", "name": "Robin", "start_ms": 0.0, "ms": 2000.0, "data": {"version": 3}},
    {
        "kind": "history",
        "name": "conversation",
        "start_ms": 1.0,
        "ms": 2.0,
        "data": {"items": 12, "tokens": 3000, "dropped": 20, "dropped_tokens": 4000, "summarised": 40},
    },
    {
        "kind": "retrieval",
        "name": "search_knowledge",
        "start_ms": 500.0,
        "ms": 40.0,
        "data": {
            "query": "return <b>coats</b>",
            "passages": [{"title": "Returns", "score": 0.8}, {"title": "<i>Sizes</i>", "score": 0.2}],
        },
    },
    {"kind": "tool", "name": "get_order", "start_ms": 600.0, "ms": 90.0, "data": {"status": "failed", "failure": "x"}},
    {
        "kind": "generation",
        "name": "gpt-5",
        "start_ms": 700.0,
        "ms": 1300.0,
        "data": {
            "attempt": 2,
            "outcome": "answered",
            "input_tokens": 1200,
            "output_tokens": 80,
            "cached_tokens": 900,
            "first_token": 0.4,
        },
    },
    {
        "kind": "generation",
        "name": "gpt-4o",
        "start_ms": 100.0,
        "ms": 20.0,
        "data": {"outcome": "not_reached"},
        "error": "E",
    },
    {
        "kind": "guardrail",
        "name": "redact",
        "start_ms": 1990.0,
        "ms": 0.0,
        "data": {"stage": "output", "rule": "redact", "action": "removed", "category": "an IBAN", "count": 2},
    },
    {
        "kind": "guardrail",
        "name": "budget",
        "start_ms": 0.5,
        "ms": 0.0,
        "data": {"reason": "included_tokens", "step": "approved_answers", "blocked": False},
    },
]


@pytest.fixture
async def place(world: ConsoleWorld) -> ConsoleWorld:
    """The world, in a tenant of the test's own."""
    return replace(world, tenant_id=await world.another_tenant())


@pytest.fixture
def reader(place: ConsoleWorld) -> Reader:
    return Reader(place.services.database, place.services.knowledge, place.tenant_id)


async def traced(place: ConsoleWorld, thread_id: str, run_id: str, **values: Any) -> None:
    """Keep a trace of a turn."""
    row: dict[str, Any] = {
        "started_at": clock.now(),
        "user_id": "usr_gone",
        "agent_id": "agt_1",
        "agent_version": 3,
        "outcome": "done",
        "provider": "openai",
        "model": "gpt-5",
        "input_tokens": 1200,
        "output_tokens": 80,
        "cached_tokens": 900,
        "cost_micros": 1234,
        "first_token_ms": 1100,
        "total_ms": 2000,
        "spans": SPANS,
    }
    async with place.services.database.tenant(place.tenant_id) as session:
        session.add(TurnTraceRow(tenant_id=place.tenant_id, thread_id=thread_id, run_id=run_id, **(row | values)))


async def conversation(place: ConsoleWorld, reader: Reader) -> tuple[str, str, AssistantMessageItem]:
    """A question and its answer: thread, run, answer."""
    answer = answered("Thirty days.")
    thread_id = await reader.conversation(asked("How long?"), answer, agent_id=await reader.agent())
    return thread_id, str(reader.run_of(answer)), answer


async def test_each_answer_leads_to_how_it_came_about(place: ConsoleWorld, reader: Reader) -> None:
    thread_id, run_id, answer = await conversation(place, reader)
    page = await (await place.signed_in("viewer")).page(f"{PATH}/{thread_id}")
    details = page.one(f"#{answer.id} details[hx-get]")
    assert "How this answer came about" in details.text()
    assert details.attributes["hx-get"] == f"{PATH}/{thread_id}/answers/{run_id}"
    assert page.one(f'#{answer.id} a[href="{PATH}/{thread_id}/answers/{run_id}"]')
    assert len(page.all("details[hx-get]")) == 1  # the question has none


async def test_the_steps_are_drawn_and_told(place: ConsoleWorld, reader: Reader) -> None:
    thread_id, run_id, _ = await conversation(place, reader)
    await traced(place, thread_id, run_id)
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}/{thread_id}/answers/{run_id}")
    for words in (
        "Answered",
        "2.00 s",
        "gpt-5",
        "$0.001234",
        "900 of them from the provider’s cache",
        "Looked for “return <b>coats</b>” and found 2 passages.",
        "12 items were shown to the model, about 3,000 tokens. 20 older ones were left out, about 4,000 tokens. "
        "A summary stood in for the first 40.",
        "Attempt 2. 1,200 tokens read (900 from the cache), 80 written. First words after 0.40 s.",
        "It could not be reached. Failed: E",
        "It failed. (x)",
        "Blacked out in the answer: an IBAN (2).",
        "The tokens that the plan includes were used up. An approved answer was quoted.",
        "0.80",
    ):
        assert words in page.text, words
    bars = page.all(".trace-bar")
    assert len(bars) == len(SPANS) - 1
    for bar in bars:
        left, width = (float(str(bar.attributes[name]).rstrip("%")) for name in ("x", "width"))
        assert left >= 0
        assert width > 0
        assert left + width <= 100.01
    assert float(str(bars[4].attributes["x"]).rstrip("%")) == pytest.approx(5)
    assert page.one(".trace-first").attributes["x1"] == "55.0%"
    assert page.all(".trace b, .trace i") == []
    picture = page.one(".trace-picture")
    page.one(f"#{picture.attributes['aria-labelledby']}")
    fragment = await viewer.htmx("GET", f"{PATH}/{thread_id}/answers/{run_id}")
    assert fragment.one(".trace")
    assert fragment.all("html > head > title, nav") == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"outcome": "cancelled"}, "The visitor stopped it."),
        ({"outcome": "failed", "error_code": "upstream_failed"}, "told so. (upstream_failed)"),
        ({"outcome": "blocked", "spans": []}, "A rule answered in place of the agent."),
        ({"outcome": "crashed", "spans": [], "first_token_ms": None, "model": None}, "restarted"),
        ({"cost_micros": None}, "not known"),
        ({"spans_dropped": 7}, "7 further steps were too many to keep."),
        ({"total_ms": 0}, "0 ms"),
    ],
)
async def test_every_end_is_told(place: ConsoleWorld, reader: Reader, values: dict[str, Any], words: str) -> None:
    thread_id, run_id, _ = await conversation(place, reader)
    await traced(place, thread_id, run_id, **values)
    page = await (await place.signed_in("viewer")).page(f"{PATH}/{thread_id}/answers/{run_id}")
    assert words in page.text


async def test_what_is_no_longer_kept_is_said_calmly(place: ConsoleWorld, reader: Reader) -> None:
    thread_id, run_id, _ = await conversation(place, reader)
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}/{thread_id}/answers/{run_id}")
    assert "That is kept for 30 days." in page.text
    await viewer.page(f"{PATH}/{ids.new_id('thr')}/answers/{run_id}", status=404)


async def test_another_tenants_answer_is_not_found(place: ConsoleWorld, reader: Reader) -> None:
    thread_id, run_id, _ = await conversation(place, reader)
    await traced(place, thread_id, run_id)
    elsewhere = await place.another_tenant()
    stranger = await place.signed_in("owner", tenant_id=elsewhere)
    await stranger.page(f"{PATH}/{thread_id}/answers/{run_id}", status=404)


def view(*spans: dict[str, Any]) -> TraceView:
    return TraceView(
        run_id="run_1",
        thread_id="thr_1",
        agent_id=None,
        agent_version=None,
        started_at=clock.now(),
        outcome="done",
        error_code=None,
        provider=None,
        model=None,
        input_tokens=0,
        output_tokens=0,
        cached_tokens=0,
        cost_micros=None,
        first_token_ms=None,
        total_ms=10,
        spans=[SpanView(**span) for span in spans],
        spans_dropped=0,
    )


@pytest.mark.parametrize("kind", ["agent", "generation", "tool", "retrieval", "guardrail", "history"])
@pytest.mark.parametrize(
    "data",
    [
        {},
        {"passages": "x"},
        {"passages": [1, {"score": "x"}, {}]},
        {"attempt": "x", "first_token": None, "items": None},
    ],
)
def test_whatever_a_step_says_it_can_be_drawn(kind: str, data: dict[str, Any]) -> None:
    drawn = timeline(view({"kind": kind, "name": "x", "start_ms": 5, "ms": 500, "data": data}))
    for step in drawn.steps:
        assert step.left + step.width <= 100.01


def test_times_and_money_as_people_write_them() -> None:
    assert [seconds(ms) for ms in (3, 420, 12_000, 125_000)] == ["3 ms", "0.42 s", "12 s", "2 min 5 s"]
    assert [cost(micros) for micros in (None, 0, 12, 1_500, 2_500_000)] == [
        "not known",
        "nothing",
        "$0.000012",
        "$0.0015",
        "$2.50",
    ]
