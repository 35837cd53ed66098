"""A trace for people: each step as a bar on one line of time, and as a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from stonechat.assistant.guardrails.findings import GUARDRAIL_KIND, noted_sentences
from stonechat.assistant.trace_store import SpanView, TraceView

MIN_WIDTH = 0.6
"""Percent: what took no time must be seen as well."""
_LABELS = {
    "agent": "Agent",
    "generation": "Model",
    "tool": "Tool",
    "retrieval": "Search",
    "guardrail": "Guardrail",
    "history": "Conversation so far",
}
_OUTCOMES: dict[str, tuple[str, str, str]] = {
    "done": ("Answered", "success", ""),
    "cancelled": ("Stopped", "neutral", "The visitor stopped it."),
    "failed": ("Failed", "error", "Something failed, and the visitor was told so."),
    "blocked": ("Blocked", "warning", "A rule answered in place of the agent."),
    "crashed": ("Interrupted", "error", "The server was restarted; the steps were lost with it."),
}
_ATTEMPTS = {
    "not_reached": "could not be reached",
    "refused": "refused",
    "failed": "broke off",
    "stopped": "was stopped",
}

_ENDS = {
    "tokens": "The month’s budget of tokens was used up.",
    "cost": "The month’s budget of money was used up.",
    "included_messages": "The answers that the plan includes were used up.",
    "included_tokens": "The tokens that the plan includes were used up.",
    "cheaper": "Less than a tenth of what may be used was left.",
}
_TAKEN = {
    "cheaper_model": "The cheaper model answered.",
    "approved_answers": "An approved answer was quoted.",
    "ask_email": "The visitor was asked for an address, or thanked for it.",
    "hand_over": "A person was asked to take over.",
    "message": "The visitor was told so kindly.",
    "own_model": "No step could answer, so that the agent’s own model did.",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that a search found. `share` is its score as a percentage of the best one's."""

    title: str
    score: str
    share: float


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `left` and `width` are percentages of the whole turn."""

    kind: str
    label: str
    sentence: str
    left: float
    width: float
    began: str
    took: str
    failed: str
    passages: tuple[Found, ...] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    """How one answer came about."""

    run_id: str
    outcome: str
    outcome_kind: str
    outcome_sentence: str
    facts: tuple[tuple[str, str, str], ...]
    """Name, value and a word about it."""
    steps: tuple[Step, ...]
    first_text: float | None
    """Percent of the turn, until the visitor saw text."""
    marks: tuple[str, ...]
    """Of the line of time: its beginning, its quarters, its end."""
    left_out: int


_QUOTES = "Quotes from your documents"
"""What the built-in model without a language model is called everywhere in the console."""


def timeline(trace: TraceView) -> Timeline:
    """The trace as it is drawn and told."""
    label, kind, sentence = _OUTCOMES[trace.outcome]
    total = max(float(trace.total_ms), max((span.start_ms + span.ms for span in trace.spans), default=0.0), 1.0)
    first = trace.first_token_ms
    return Timeline(
        run_id=trace.run_id,
        outcome=label,
        outcome_kind=kind,
        outcome_sentence=f"{sentence} ({trace.error_code})" if trace.error_code else sentence,
        facts=tuple(_facts(trace)),
        steps=tuple(_step(span, total) for span in trace.spans if span.kind != "agent"),
        first_text=None if first is None else min(100.0, round(100 * first / total, 2)),
        marks=tuple(seconds(total * quarter / 4) for quarter in range(5)),
        left_out=trace.spans_dropped,
    )


def seconds(milliseconds: float) -> str:
    """`3 ms`, `0.42 s`, `12 s`, `2 min 5 s`."""
    if milliseconds < 100:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 10_000:
        return f"{milliseconds / 1000:.2f} s"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.0f} s"
    return f"{milliseconds // 60_000:.0f} min {milliseconds % 60_000 / 1000:.0f} s"


def cost(micros: int | None) -> str:
    """Millionths of a dollar as people write money."""
    if micros is None:
        return "not known"
    dollars = micros / 1_000_000
    if micros == 0:
        return "nothing"
    return f"${dollars:.2f}" if dollars >= 0.1 else f"${dollars:.6f}".rstrip("0")


def _facts(trace: TraceView) -> list[tuple[str, str, str]]:
    facts = [("Took", seconds(trace.total_ms), "")]
    if trace.first_token_ms is not None:
        facts.append(("First words after", seconds(trace.first_token_ms), ""))
    if trace.model is not None:
        facts.append(
            ("Model", "None", _QUOTES) if trace.model == "extractive" else ("Model", trace.model, trace.provider or "")
        )
    if trace.input_tokens or trace.output_tokens:
        cached = f"{trace.cached_tokens:,} of them from the provider’s cache" if trace.cached_tokens else ""
        facts.append(("Tokens read", f"{trace.input_tokens:,}", cached))
        facts.append(("Tokens written", f"{trace.output_tokens:,}", ""))
        facts.append(("Cost", cost(trace.cost_micros), ""))
    if trace.agent_version is not None:
        facts.append(("Agent’s version", str(trace.agent_version), ""))
    return facts


def _step(span: SpanView, total: float) -> Step:
    width = max(MIN_WIDTH, min(100.0, 100 * span.ms / total))
    return Step(
        kind=span.kind,
        label=_label(span),
        sentence=_sentence(span),
        left=round(max(0.0, min(100 * span.start_ms / total, 100 - width)), 2),
        width=round(width, 2),
        began=seconds(span.start_ms),
        took=seconds(span.ms),
        failed="" if span.error is None else "It failed." if span.error == "failed" else f"Failed: {span.error}",
        passages=_passages(span.data),
    )


def _label(span: SpanView) -> str:
    match span.kind:
        case "generation" if span.name == "extractive":
            return _QUOTES
        case "generation" | "tool":
            return f"{_LABELS[span.kind]}: {span.name}"
        case "agent" | "retrieval" | "guardrail" | "history":
            return _LABELS[span.kind]
        case _:
            assert_never(span.kind)


def _sentence(span: SpanView) -> str:
    data = span.data
    match span.kind:
        case "retrieval":
            found = data.get("passages")
            count = len(found) if isinstance(found, list) else 0
            passages = "no passage" if count == 0 else "one passage" if count == 1 else f"{count} passages"
            return f"Looked for “{data.get('query', '')}” and found {passages}."
        case "generation":
            return _generation(data)
        case "tool":
            return _tool(data)
        case "guardrail":
            return _guardrail(span.name, data)
        case "history":
            return _history(data)
        case "agent":
            return _rest(data)
        case _:
            assert_never(span.kind)


def _guardrail(name: str, data: Mapping[str, Any]) -> str:
    if name == "budget":
        return f"{_ENDS.get(str(data.get('reason')), '')} {_TAKEN.get(str(data.get('step')), '')}".strip()
    told = noted_sentences({"kind": GUARDRAIL_KIND, "findings": [data]})
    return told[0] if told else _rest(data)


def _generation(data: Mapping[str, Any]) -> str:
    parts = []
    if _number(data, "attempt") > 1:
        parts.append(f"Attempt {_number(data, 'attempt')}.")
    if (what := _ATTEMPTS.get(str(data.get("outcome")))) is not None:
        parts.append(f"It {what}.")
    if _number(data, "input_tokens") or _number(data, "output_tokens"):
        read = f"{_number(data, 'input_tokens'):,} tokens read"
        if _number(data, "cached_tokens"):
            read += f" ({_number(data, 'cached_tokens'):,} from the cache)"
        about = " (estimated)" if data.get("estimated") is True else ""
        parts.append(f"{read}, {_number(data, 'output_tokens'):,} written{about}.")
    first = data.get("first_token")
    if isinstance(first, int | float):
        parts.append(f"First words after {seconds(first * 1000)}.")
    return " ".join(parts)


def _tool(data: Mapping[str, Any]) -> str:
    if "waits_for" in data:
        return "Waits for the visitor’s approval."
    if "refused" in data:
        return f"Not run: {data['refused']}."
    if "remembered" in data:
        known = "Its list of tools was at hand." if data["remembered"] else "It was asked for its list of tools."
        return f"{known} {data.get('reason', '')}".strip()
    told = {"done": "It answered.", "failed": "It failed."}.get(str(data.get("status")), "")
    failure = f" ({data['failure']})" if data.get("failure") else ""
    rest = _rest({name: value for name, value in data.items() if name not in ("status", "failure")})
    return f"{told}{failure} {rest}".strip()


def _history(data: Mapping[str, Any]) -> str:
    shown, tokens = _number(data, "items"), _number(data, "tokens")
    parts = [f"{shown} {'item was' if shown == 1 else 'items were'} shown to the model, about {tokens:,} tokens."]
    if dropped := _number(data, "dropped"):
        lost = _number(data, "dropped_tokens")
        parts.append(f"{dropped} older {'one was' if dropped == 1 else 'ones were'} left out, about {lost:,} tokens.")
    if summarised := _number(data, "summarised"):
        parts.append(f"A summary stood in for the first {summarised:,}.")
    if cut := _number(data, "cut"):
        parts.append(f"{cut} {'was' if cut == 1 else 'were'} shortened.")
    return " ".join(parts)


def _rest(data: Mapping[str, Any]) -> str:
    told = [
        f"{name.replace('_', ' ')}: {value}" for name, value in data.items() if isinstance(value, str | int | float)
    ]
    return "; ".join(told)


def _number(data: Mapping[str, Any], name: str) -> int:
    value = data.get(name)
    return value if isinstance(value, int) else 0


def _passages(data: Mapping[str, Any]) -> tuple[Found, ...]:
    found = data.get("passages")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    scores = [row["score"] if isinstance(row.get("score"), int | float) else 0.0 for row in rows]
    best = max([*scores, 0.0]) or 1.0
    return tuple(
        Found(str(row.get("title") or "A document"), f"{score:.2f}", round(max(0.0, 100 * score / best), 1))
        for row, score in zip(rows, scores, strict=True)
    )
