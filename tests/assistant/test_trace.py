"""What is kept of how an answer came about: bounded, in order, without secrets."""

from __future__ import annotations

import json
import math
from typing import Any
from uuid import UUID

import pytest

from stonechat.assistant.trace import MAX_BYTES, MAX_MEMBERS, MAX_SPANS, MAX_TEXT, Outcome, Trace, TurnTrace


def finished(trace: Trace, outcome: Outcome = "done", **values: Any) -> TurnTrace:
    return trace.finish(
        tenant_id=UUID(int=1),
        run_id="run_1",
        thread_id="thr_1",
        agent_id="agt_1",
        agent_version=3,
        outcome=outcome,
        **values,
    )


def stored(trace: Trace, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(finished(trace, **values).columns_json())
    return row


def kept(value: Any) -> Any:
    """What becomes of a value in a step's data."""
    trace = Trace()
    trace.note("tool", "x", value=value)
    return stored(trace)["spans"][0]["data"]["value"]


def test_steps_are_kept_in_the_order_in_which_they_began() -> None:
    trace = Trace()
    with trace.span("agent", "Robin", version=3):
        with trace.span("retrieval", "search_knowledge", query="coats") as span:
            span.data["passages"] = [{"title": "Returns", "score": 0.5}]
        with trace.span("generation", "gpt"):
            trace.note_text()
    row = stored(trace, provider="openai", model="gpt", input_tokens=7, output_tokens=-1)
    assert [(span["kind"], span["name"]) for span in row["spans"]] == [
        ("agent", "Robin"),
        ("retrieval", "search_knowledge"),
        ("generation", "gpt"),
    ]
    agent, search, generation = row["spans"]
    assert agent["start_ms"] <= search["start_ms"] <= generation["start_ms"]
    assert agent["ms"] >= search["ms"] + generation["ms"] - 1
    assert search["data"] == {"query": "coats", "passages": [{"title": "Returns", "score": 0.5}]}
    assert (row["agent_version"], row["provider"], row["model"]) == (3, "openai", "gpt")
    assert (row["input_tokens"], row["output_tokens"]) == (7, 0)
    assert 0 <= row["first_token_ms"] <= row["total_ms"] + 1
    assert row["outcome"] == "done"


def test_a_step_that_fails_says_of_what_and_one_that_is_given_up_does_not() -> None:
    trace = Trace()
    with pytest.raises(ValueError, match="x"), trace.span("tool", "a"):
        raise ValueError("x with a secret in it")
    with pytest.raises(GeneratorExit), trace.span("generation", "b"):
        raise GeneratorExit
    first, second = stored(trace)["spans"]
    assert first["error"] == "ValueError"
    assert "error" not in second


def test_a_step_that_never_ended_lasts_until_the_turn_did() -> None:
    trace = Trace()
    trace.span("generation", "slow").__enter__()
    [span] = finished(trace).spans
    assert span.ended is not None
    assert span.ended >= span.started


@pytest.mark.parametrize(
    ("blocked", "outcome", "kept_as"),
    [(True, "done", "blocked"), (True, "failed", "blocked"), (True, "cancelled", "cancelled"), (False, "done", "done")],
)
def test_a_guardrail_that_answered_is_the_outcome(blocked: bool, outcome: Outcome, kept_as: str) -> None:
    trace = Trace()
    trace.note("guardrail", "length", action="blocked" if blocked else "flagged")
    assert finished(trace, outcome).outcome == kept_as


def test_steps_beyond_the_bound_are_counted() -> None:
    trace = Trace()
    for number in range(MAX_SPANS + 5):
        trace.note("tool", str(number))
    row = stored(trace)
    assert len(row["spans"]) == MAX_SPANS
    assert row["spans_dropped"] == 5


def test_a_row_stays_small_whatever_is_recorded() -> None:
    trace = Trace()
    for _ in range(MAX_SPANS):
        trace.note("tool", "n" * 5000, **{f"k{n}": ["é" * (MAX_TEXT + 1)] * (MAX_MEMBERS + 1) for n in range(99)})
    row = finished(trace).columns_json()
    assert len(row) < MAX_BYTES + 60_000
    spans = json.loads(row)["spans"]
    assert len(spans) == MAX_SPANS
    assert "data" not in spans[-1]


def test_values_are_cut_to_size() -> None:
    assert kept("x" * 5000) == "x" * (MAX_TEXT - 1) + "…"
    assert len(kept(list(range(500)))) == MAX_MEMBERS
    assert len(kept({str(n): n for n in range(500)})) == MAX_MEMBERS
    assert kept({"a": {"b": {"c": {"d": {"e": 1}}}}}) == {"a": {"b": {"c": "…"}}}
    assert kept([math.inf, math.nan, 1.5, None, True]) == [None, None, 1.5, None, True]
    assert kept(UUID(int=7)) == str(UUID(int=7))


def test_what_postgres_refuses_is_left_out() -> None:
    assert kept("a\x00b\ud83d\ude00c\ud800") == "ab😀c�"
    assert kept({"\x00k": 1}) == {"k": 1}


SECRETS = {
    "a key": "use sk-proj-abcdefghijklmnop please",
    "a key at the end of what is kept": "x" * (MAX_TEXT - 10) + " sk-proj-abcdefghijklmnopqrstuvwxyz",
    "a bearer": "Authorization: Bearer abcdefghijklmnop",
    "a JWT": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
    "an address with a password": "postgres://user:abcdefghijklmnop@db/x",
    "an argument": '{"password": "abcdefghijklmnop", "size": 4}',
    "a token of a code host": "ghp_abcdefghijklmnopqrst",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_struck_out(kind: str) -> None:
    shown = kept(SECRETS[kind])
    assert "abcdefgh" not in shown
    assert len(shown) <= MAX_TEXT


@pytest.mark.parametrize(
    "name",
    ["Authorization", "X-Api-Key", "apiKey", "client_secret", "Cookie", "user_password", "access_token", "token"],
)
def test_values_are_struck_out_by_name(name: str) -> None:
    assert kept({name: "hunter2", "input_tokens": 5}) == {name: "[removed]", "input_tokens": 5}


def test_words_are_left_alone() -> None:
    for words in ("how do I reset my password?", "sk-8 skates", "a@b.example", "What is a bearer token?", "x.y.z"):
        assert kept(words) == words
