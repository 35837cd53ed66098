"""What happened in a turn, step by step, for the people who look after the agent. Never sent to visitors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_SPANS = 100
"""Of one turn; later ones are counted, not kept."""

SpanKind = Literal["agent", "generation", "tool", "retrieval", "guardrail", "history"]


@dataclass(slots=True)
class Span:
    """One step. Times are seconds since the turn began."""

    kind: SpanKind
    name: str
    started: float
    ended: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    """Small JSON: scores, tokens, reasons. No secrets, no headers."""
    error: str | None = None


class Trace:
    """The steps of one turn, in the order in which they began."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.spans: list[Span] = []
        self.dropped = 0
        self.first_token: float | None = None
        """Seconds until the first text for the visitor."""

    def now(self) -> float:
        """Seconds since the turn began."""
        return time.monotonic() - self._began

    def note_text(self) -> None:
        """The visitor is about to see text."""
        if self.first_token is None:
            self.first_token = self.now()

    @contextmanager
    def span(self, kind: SpanKind, name: str, **data: Any) -> Iterator[Span]:
        """Record a step for as long as the context is open; an exception marks it as failed."""
        span = Span(kind, name, self.now(), data=data)
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.dropped += 1
        try:
            yield span
        except BaseException as error:
            span.error = type(error).__name__
            raise
        finally:
            span.ended = self.now()
