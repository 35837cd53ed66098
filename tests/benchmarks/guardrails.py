"""What the filter on answers costs a short delta: `python tests/benchmarks/guardrails.py`.

Writes the same answers through `AnswerWriter` with and without it, in turns, and tells the best of each, their ratio, and
the cost of the filter alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from stonechat.assistant.answer import AnswerWriter
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.guardrails.rules import rules_of
from stonechat.assistant.scripted import SCRIPTED_DELTAS

ROUNDS, ANSWERS = 40, 40
PROSE = [
    f" {word}"
    for word in ("Refunds are given within a few days, and shipping is free for all of our shops. " * 4).split()
]


def written(deltas: Sequence[str], new_filter: Callable[[], Any] | None) -> float:
    """Seconds a delta."""
    started = time.perf_counter()
    for _ in range(ANSWERS):
        writer = AnswerWriter(
            "thr_1",
            generate_item_id=lambda _kind: "msg_1",
            emit=lambda _event: None,
            resolve=None,
            new_filter=new_filter,
        )
        for delta in deltas:
            writer.write(1, delta)
        writer.finish()
    return (time.perf_counter() - started) / ANSWERS / len(deltas)


def filtered(deltas: Sequence[str], new_filter: Callable[[], Any]) -> float:
    """Seconds a delta of the filter alone."""
    started = time.perf_counter()
    for _ in range(ANSWERS):
        feed = new_filter().feed
        for delta in deltas:
            feed(delta)
    return (time.perf_counter() - started) / ANSWERS / len(deltas)


def main() -> None:
    rules = rules_of(AgentConfig(name="Shop"))
    for name, deltas in (("scripted", SCRIPTED_DELTAS), ("prose", PROSE)):
        pairs = [(written(deltas, None), written(deltas, rules.filter)) for _ in range(ROUNDS)]
        without, with_filter = min(pair[0] for pair in pairs), min(pair[1] for pair in pairs)
        alone = min(filtered(deltas, rules.filter) for _ in range(ROUNDS))
        print(
            json.dumps(
                {
                    "text": name,
                    "writer_us": round(without * 1e6, 2),
                    "with_filter_us": round(with_filter * 1e6, 2),
                    "ratio": round(with_filter / without, 2),
                    "filter_alone_us": round(alone * 1e6, 2),
                }
            )
        )


if __name__ == "__main__":
    main()
