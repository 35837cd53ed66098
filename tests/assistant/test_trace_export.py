"""Traces for the operator's own collector: right, content-free, and never in anybody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr, ValidationError

from stonechat.app import exporting_traces
from stonechat.assistant.trace import Outcome, Trace, TurnTrace
from stonechat.assistant.trace_export import telemetry_spans
from stonechat.settings import Settings
from stonechat.telemetry import OtlpExporter
from support.loopback import Answer, Loopback, plain, serve

PRIVATE = "how do I return a coat"


def turn(outcome: Outcome = "done", *, error_code: str | None = None) -> TurnTrace:
    trace = Trace()
    trace.error_code = error_code
    with trace.span("agent", PRIVATE):
        with trace.span("history", "conversation", items=3, dropped=1):
            pass
        with trace.span("retrieval", "search_knowledge", query=PRIVATE) as span:
            span.data["passages"] = [{"title": PRIVATE, "score": 0.5}]
        with trace.span("tool", "get_order", arguments=f'{{"q": "{PRIVATE}"}}', status="done"):
            pass
        with trace.span("generation", "gpt-5", provider="openai", input_tokens=120):
            trace.note_text()
        trace.note("guardrail", "blocked_topic", action="flagged", category=PRIVATE)
    return trace.finish(
        tenant_id=UUID(int=1),
        run_id="run_1",
        thread_id="thr_1",
        agent_id="agt_1",
        agent_version=3,
        outcome=outcome,
        provider="openai",
        model="gpt-5",
        input_tokens=120,
        output_tokens=7,
    )


@asynccontextmanager
async def exporting(answer: Answer | bytes, *, headers: str = "") -> AsyncIterator[tuple[OtlpExporter, Loopback]]:
    async with serve(answer) as collector:
        exporter = OtlpExporter(collector.url, headers=headers, version="1.2.3")
        try:
            yield exporter, collector
        finally:
            await exporter.aclose()


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in of["attributes"]}


async def test_a_turn_and_its_steps_reach_the_collector() -> None:
    trace = turn()
    async with exporting(plain(b"{}"), headers="authorization=Bearer x=1, x-team=shop") as (exporter, collector):
        exporter.export(telemetry_spans(trace))
        await exporter.aclose()
        assert exporter.sent == 1
    [request] = collector.requests
    assert (request.method, request.path) == ("POST", "/v1/traces")
    assert request.headers["authorization"] == "bearer x=1"  # the double writes headers small
    assert request.headers["x-team"] == "shop"
    [resource] = json.loads(request.body)["resourceSpans"]
    assert attributes(resource["resource"]) == {"service.name": "stonechat", "service.version": "1.2.3"}
    root, *steps = resource["scopeSpans"][0]["spans"]
    assert root["name"] == "invoke_agent"
    told = attributes(root)
    assert told["gen_ai.usage.input_tokens"] == "120"
    assert told["gen_ai.request.model"] == "gpt-5"
    assert told["stonechat.tenant.id"] == str(UUID(int=1))
    assert [step["name"] for step in steps] == [
        "history",
        "retrieval",
        "execute_tool get_order",
        "chat gpt-5",
        "guardrail",
    ]
    for step in steps:
        assert (step["traceId"], step["parentSpanId"]) == (root["traceId"], root["spanId"])
        assert int(root["startTimeUnixNano"]) <= int(step["startTimeUnixNano"]) <= int(step["endTimeUnixNano"])
    assert len({span["spanId"] for span in (root, *steps)}) == 6
    assert (len(root["traceId"]), len(root["spanId"])) == (32, 16)
    assert attributes(steps[1]) == {"stonechat.retrieval.passages.count": "1"}
    assert abs(int(root["startTimeUnixNano"]) / 1e9 - trace.started_at.timestamp()) < 0.001
    assert PRIVATE.encode() not in request.body


@pytest.mark.parametrize(("outcome", "code"), [("failed", 2), ("cancelled", 1), ("done", 1)])
async def test_a_turn_that_failed_is_an_error_there(outcome: Outcome, code: int) -> None:
    async with exporting(plain(b"{}")) as (exporter, collector):
        exporter.export(telemetry_spans(turn(outcome, error_code="upstream_failed" if outcome == "failed" else None)))
        await exporter.aclose()
    root = json.loads(collector.requests[0].body)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert root["status"]["code"] == code
    assert attributes(root).get("error.type") == ("upstream_failed" if outcome == "failed" else None)


async def test_many_turns_share_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with exporting(plain(b"{}")) as (exporter, collector):
        for _ in range(25):
            exporter.export(telemetry_spans(turn()))
        await exporter.aclose()
        assert (exporter.sent, exporter.dropped) == (25, 0)
        assert len(collector.requests) == 1


async def test_a_collector_that_never_answers_delays_nobody_and_fills_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OtlpExporter, "CLOSE_SECONDS", 0.05)
    monkeypatch.setattr(OtlpExporter, "MAX_QUEUED", 10)

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    async with exporting(hang) as (exporter, _):
        for _ in range(50):
            exporter.export(telemetry_spans(turn()))  # returns at once: there is nothing to await
        assert exporter.dropped == 40
        async with asyncio.timeout(5):
            await exporter.aclose()
        assert exporter.sent == 0


@pytest.mark.parametrize("status", [302, 400, 500])
async def test_what_the_collector_does_not_take_is_dropped_and_the_next_is_sent(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [plain(b"no", status=status, headers={"Location": "http://127.0.0.1:1/"}), plain(b"{}")]

    async def answer(_: object, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))
        await writer.drain()

    async with exporting(answer) as (exporter, collector):
        exporter.export(telemetry_spans(turn()))
        for _ in range(500):
            if exporter.dropped:
                break
            await asyncio.sleep(0.01)
        exporter.export(telemetry_spans(turn()))
        await exporter.aclose()
        assert (exporter.sent, exporter.dropped, len(collector.requests)) == (1, 1, 2)


async def test_without_an_endpoint_nothing_is_exported() -> None:
    async with exporting_traces(Settings()) as on_trace:
        assert on_trace is None


async def test_the_settings_name_the_collector() -> None:
    async with serve(plain(b"{}")) as collector:
        settings = Settings(otlp_endpoint=collector.url, otlp_headers=SecretStr("x-key=1"))
        async with exporting_traces(settings) as on_trace:
            assert on_trace is not None
            on_trace(turn())
        assert collector.requests[0].headers["x-key"] == "1"


@pytest.mark.parametrize("url", ["collector:4318", "ftp://x", "http://", "http://user:pw@x", "http://x?y=1"])
def test_an_endpoint_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValidationError):
        Settings(otlp_endpoint=url)
