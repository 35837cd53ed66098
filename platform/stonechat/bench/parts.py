"""The parts of the benchmark: what each measures, and what it should come to."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from stonechat.bench.processes import load, server
from stonechat.bench.script import PACED_RATE
from stonechat.bench.seed import CONNECTIONS, Visitors, grow_thread, prepare, refresh_statistics, tidy
from stonechat.settings import Settings

Say = Callable[[str], None]
SIDES = ("plain", "stonechat")
CORE_RATIO, AGENT_RATIO = 4.0, 2.0
PACED_KB = 35.0
PACED_SHARE = 0.99
"""Of the rate that was asked for: what the slowest stream must reach for a server to keep pace."""
GROWN_RATIO = 1.3
SHORT_THREAD = 10
ITEMS_A_THREAD = 50_000
_SOME_STREAMS = 20


def measure_turns(
    settings: Settings, visitors: Visitors, kind: str, *, rounds: int, seconds: float, say: Say
) -> dict[str, Any]:
    """Turns a second, events a CPU second and times to the first event, both sides by turns. `kind`: core or agent."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with ExitStack() as stack:
        starting = {side: stack.enter_context(server(settings, side, kind)) for side in SIDES}
        ports = {side: port() for side, port in starting.items()}
        tokens: dict[str, list[Any]] = {"plain": [None] * CONNECTIONS, "stonechat": visitors.tokens}
        for side, port in ports.items():  # warm up
            load("turns", seconds=min(seconds, 1.0), port=port, tokens=tokens[side])
        asyncio.run(refresh_statistics(settings))
        for number in range(rounds):
            say(f"{kind}: round {number + 1} of {rounds}")
            for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                found[side].append(load("turns", seconds=seconds, port=ports[side], tokens=tokens[side]))
    rates = {side: [each["turns"] / each["seconds"] for each in results] for side, results in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["stonechat"], rates["plain"], strict=True)]
    sides = {side: _turns_of(rates[side], results) for side, results in found.items()}
    goal, ratio = {"core": CORE_RATIO, "agent": AGENT_RATIO}[kind], statistics.median(ratios)
    return {
        "ratio": round(ratio, 2),
        "ratio_by_round": [round(each, 2) for each in ratios],
        "goal": f"at least {goal:g} times the turns a second, the first event no later",
        "reached": ratio >= goal and sides["stonechat"]["first_event_ms_p50"] <= sides["plain"]["first_event_ms_p50"],
        **sides,
    }


def _turns_of(rates: list[float], results: list[dict[str, Any]]) -> dict[str, Any]:
    first = sorted(value for each in results for value in each["first_event"])
    whole = sorted(value for each in results for value in each["whole_answer"])
    cpu, events = sum(each["cpu_seconds"] for each in results), sum(each["events"] for each in results)
    return {
        "turns_per_second": round(statistics.median(rates), 1),
        "turns_per_cpu_second": round(len(first) / cpu),
        "events_per_cpu_second": round(events / cpu),
        "first_event_ms_p50": _ms(first, 0.50),
        "first_event_ms_p99": _ms(first, 0.99),
        "whole_answer_ms_p50": _ms(whole, 0.50),
        "whole_answer_ms_p99": _ms(whole, 0.99),
        "turns": len(first),
    }


def measure_streams(settings: Settings, visitors: Visitors, *, streams: int, say: Say) -> dict[str, Any]:
    """Memory of streams that wait and of streams that flow, and whether one process keeps the pace of many."""
    result: dict[str, Any] = {}
    for side in SIDES:
        tokens: list[Any] = visitors.tokens if side == "stonechat" else [None] * CONNECTIONS
        with server(settings, side, "core") as port:
            listening = port()
            load("turns", seconds=1.0, port=listening, tokens=tokens)
            # A few first, so that what is made once is made then; and then idle ones, which need less.
            load("streams", port=listening, tokens=tokens, count=min(_SOME_STREAMS, streams), idle=False)
            idle = load("streams", port=listening, tokens=tokens, count=streams, idle=True)
            say(f"{side}: {streams} idle streams, then {streams} paced ones")
            paced = load("streams", port=listening, tokens=tokens, count=streams, idle=False)
        kb = {
            name: round((found["memory"] - idle["memory_before"]) / streams / 1024, 1)
            for name, found in (("idle", idle), ("paced", paced))
        }
        result[side] = {"idle_kb_per_stream": kb["idle"], "paced_kb_per_stream": kb["paced"], **_paced(paced)}
    ours = result["stonechat"]
    kept_pace = ours["whole"] == streams and ours["slowest_rate"] >= PACED_RATE * PACED_SHARE
    return {
        "streams": streams,
        "events_per_second_asked": PACED_RATE,
        "goal": f"every paced stream keeps its pace, at {PACED_KB:g} KB at most",
        "reached": kept_pace and ours["paced_kb_per_stream"] <= PACED_KB,
        **result,
    }


def _paced(found: dict[str, Any]) -> dict[str, Any]:
    rates, late = sorted(found["rates"]) or [0.0], {int(key): count for key, count in found["late_ms"].items()}
    return {
        "whole": found["whole"],
        "missing_events": found["missing"],
        "median_rate": round(statistics.median(rates), 2),
        "slowest_rate": round(rates[0], 2),
        "late_ms_p50": _late(late, 0.50),
        "late_ms_p99": _late(late, 0.99),
        "cpu_share": round(found["cpu_seconds"] / found["seconds"], 2),
    }


def _late(late: dict[int, int], part: float) -> int:
    seen, total = 0, sum(late.values())
    for late_by in sorted(late):
        seen += late[late_by]
        if seen >= total * part:
            return late_by
    return 0


def measure_growth(
    settings: Settings, visitors: Visitors, *, items: int, long_thread: int, turns: int, say: Say
) -> dict[str, Any]:
    """The time of a turn in a short thread, in a long one, and in a short one of a tenant with `items` items."""
    say(f"growth: writing {items:,} items")
    big = asyncio.run(prepare(settings))
    try:
        short = asyncio.run(grow_thread(settings, visitors, items=SHORT_THREAD))
        long = asyncio.run(grow_thread(settings, visitors, items=long_thread))
        for number in range(-(-items // ITEMS_A_THREAD)):
            left = min(ITEMS_A_THREAD, items - number * ITEMS_A_THREAD)
            asyncio.run(grow_thread(settings, big, items=left, user=number % CONNECTIONS))
        crowded = asyncio.run(grow_thread(settings, big, items=SHORT_THREAD))
        threads = {
            "short_thread": [visitors.tokens[0], short],
            "long_thread": [visitors.tokens[0], long],
            "big_tenant": [big.tokens[0], crowded],
        }
        say("growth: one turn at a time")
        with server(settings, "stonechat", "core") as port:
            found = load("latency", port=port(), threads=threads, turns=turns)
    finally:
        say("growth: taking it away again")
        asyncio.run(tidy(settings, big.tenant_id))
    times = {name: {key: sorted(values) for key, values in each.items()} for name, each in found.items()}
    medians = {name: statistics.median(each["whole_answer"]) for name, each in times.items()}
    ratios = {name: round(medians[name] / medians["short_thread"], 2) for name in ("long_thread", "big_tenant")}
    return {
        "items_in_short_thread": SHORT_THREAD,
        "items_in_long_thread": long_thread,
        "items_in_big_tenant": items,
        "goal": f"an answer's p50 within {GROWN_RATIO:g} times",
        "reached": max(ratios.values()) <= GROWN_RATIO,
        "ratio": ratios,
        **{
            name: {f"{key}_ms_p50": _ms(values, 0.5) for key, values in each.items()}
            | {f"{key}_ms_p99": _ms(values, 0.99) for key, values in each.items()}
            for name, each in times.items()
        },
    }


def _ms(ordered: list[float], part: float) -> float:
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000, 1)
