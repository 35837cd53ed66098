"""How often an engine of the index is asked for what, how long it takes, and how often it fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

from stonechat import metrics

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")


def measured(
    operation: str,
) -> Callable[[Callable[Asked, Awaitable[Answer]]], Callable[Asked, Coroutine[Any, Any, Answer]]]:
    """Counts the calls of an engine's method as `operation`, one of `metrics.INDEX_OPERATIONS`."""
    done, failed = (metrics.INDEX_CALLS.of(operation, outcome) for outcome in ("done", "failed"))
    seconds = metrics.INDEX_SECONDS.of(operation)

    def around(method: Callable[Asked, Awaitable[Answer]]) -> Callable[Asked, Coroutine[Any, Any, Answer]]:
        @wraps(method)
        async def call(*args: Asked.args, **options: Asked.kwargs) -> Answer:
            began, outcome = perf_counter(), failed
            try:
                answer = await method(*args, **options)
                outcome = done
                return answer
            finally:
                outcome.value += 1
                seconds.note(perf_counter() - began)

        return call

    return around
