"""A turn's trace as OpenTelemetry knows it: names, numbers and ids; not a word of what was asked, found or answered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_never

from stonechat.assistant.trace import Span, TurnTrace
from stonechat.telemetry import TelemetrySpan

Attributes = dict[str, str | int | float | bool]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORDS = frozenset({"provider", "model", "outcome", "status", "failure", "rule", "action", "stage"})
"""Members of a step's data whose text comes from us, not from people, documents or models."""


def telemetry_spans(trace: TurnTrace) -> list[TelemetrySpan]:
    """The turn first, then its steps; named as OpenTelemetry's conventions for generative AI say, where they do."""
    began = (trace.started_at - _EPOCH) // timedelta(microseconds=1) * 1000
    turn: Attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.id": trace.agent_id,
        "gen_ai.agent.version": str(trace.agent_version),
        "gen_ai.usage.input_tokens": trace.input_tokens,
        "gen_ai.usage.output_tokens": trace.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": trace.cached_tokens,
        "stonechat.tenant.id": str(trace.tenant_id),
        "stonechat.thread.id": trace.thread_id,
        "stonechat.run.id": trace.run_id,
        "stonechat.outcome": trace.outcome,
    }
    if trace.provider is not None and trace.model is not None:
        turn |= {"gen_ai.provider.name": trace.provider, "gen_ai.request.model": trace.model}
    if trace.first_token_ms is not None:
        turn["stonechat.first_token_ms"] = trace.first_token_ms
    if trace.error_code is not None:
        turn["error.type"] = trace.error_code
    failed = trace.error_code if trace.outcome in ("failed", "crashed") else None
    root = TelemetrySpan("invoke_agent", began, began + trace.total_ms * 1_000_000, turn, failed)
    return [root, *(_step(span, began) for span in trace.spans if span.kind != "agent")]


def _step(span: Span, began: int) -> TelemetrySpan:
    attributes: Attributes = {}
    match span.kind:
        case "generation":
            name, operation = f"chat {span.name}", "chat"
        case "tool":
            name, operation = f"execute_tool {span.name}", "execute_tool"
            attributes["gen_ai.tool.name"] = span.name
        case "retrieval" | "guardrail" | "history" | "agent":
            name, operation = span.kind, ""
        case _:
            assert_never(span.kind)
    if operation:
        attributes["gen_ai.operation.name"] = operation
    for key, value in span.data.items():
        if isinstance(value, bool | int | float) or (isinstance(value, str) and key in _WORDS):
            attributes[f"stonechat.{span.kind}.{key}"] = value
        elif isinstance(value, list):
            attributes[f"stonechat.{span.kind}.{key}.count"] = len(value)
    ended = span.started if span.ended is None else span.ended
    return TelemetrySpan(
        name,
        began + round(span.started * 1e9),
        began + round(ended * 1e9),
        attributes,
        span.error,
        is_call=span.kind == "generation",
    )
