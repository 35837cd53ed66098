"""What happened in a turn, step by step, for the people who look after the agent. Never sent to visitors.

`Trace` is the recorder: one a turn, in memory, written by whoever does a step. `Trace.finish` makes of it a `TurnTrace`,
which is what is stored (`trace_store.py`) and exported (`telemetry.py`): sizes bounded, secrets struck out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any, Literal
from uuid import UUID

from pydantic_core import to_json

from stonechat import clock

MAX_SPANS = 100
"""Of one turn; later ones are counted, not kept."""
MAX_TEXT = 500
"""Characters of one string: a query, a title, a tool's arguments."""
MAX_MEMBERS = 25
"""Of one list or object."""
MAX_DEPTH = 4
MAX_BYTES = 64 * 1024
"""Of all steps together; what comes after keeps its name and its times."""

SpanKind = Literal["agent", "generation", "tool", "retrieval", "guardrail", "history"]
Outcome = Literal["done", "cancelled", "failed", "blocked", "crashed"]
"""`blocked`: a guardrail answered in place of the agent. `crashed`: the process died; a sweeper ended the turn."""

MIN_SECRET = 12
_STRUCK_OUT = "[removed]"
_SIGNS = ("sk-", "sk_", "pk-", "pk_", "rk-", "rk_", "whsec", "ghp", "gho", "glpat", "xox", "eyJ", "earer", "://", '"')
"""One of these is in each of `_SECRETS`, and looked for much faster."""
_SECRET_NAMES = re.compile(
    r"authorization|cookie|passw|secret|credential|api[-_]?key|(access|refresh|bearer|auth|session|csrf|id)[-_]?token"
    r"|^token$",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"\b(?:sk|pk|rk|whsec|ghp|gho|glpat|xox[abpr])[-_][A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"
    r"|\b[Bb]earer\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<=://)[^\s/@:]*:[^\s/@]*(?=@)"
    r'|"[^"\\]*(?i:passw|secret|api[-_]?key|authorization|cookie)[^"\\]*"\s*:\s*"[^"]*"?'
)


@dataclass(slots=True)
class Span:
    """One step. Times are seconds since the turn began."""

    kind: SpanKind
    name: str
    started: float
    ended: float | None = None
    data: dict[str, Any] = field(default_factory=dict)
    """Small JSON: scores, tokens, reasons, what was searched for. No answers, no headers."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class TurnTrace:
    """A turn that is over."""

    tenant_id: UUID
    run_id: str
    thread_id: str
    agent_id: str
    agent_version: int
    started_at: datetime
    outcome: Outcome
    error_code: str | None
    provider: str | None
    """Of the model that was used last, as the ledger calls it; None if none was."""
    model: str | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    first_token_ms: int | None
    total_ms: int
    spans: tuple[Span, ...]
    spans_dropped: int

    def columns_json(self) -> str:
        """The row as `chat_finish_turn` takes it: one JSON object, its steps under `spans`. The cost is the ledger's."""
        columns = {
            "started_at": self.started_at.isoformat(),
            "agent_id": self.agent_id,
            "agent_version": self.agent_version,
            "outcome": self.outcome,
            "error_code": self.error_code,
            "provider": self.provider,
            "model": self.model,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "first_token_ms": self.first_token_ms,
            "total_ms": self.total_ms,
            "spans_dropped": self.spans_dropped,
        }
        return f'{to_json(columns).decode()[:-1]},"spans":[{_spans_json(self.spans)}]}}'


class Trace:
    """The steps of one turn, in the order in which they began."""

    def __init__(self) -> None:
        self.started_at = clock.now()
        self._began = time.monotonic()
        self.spans: list[Span] = []
        self.dropped = 0
        self.first_token: float | None = None
        """Seconds until the first text for the visitor."""
        self.abstained = False
        """Set by the model `extractive` when it says that the documents do not answer."""
        self.error_code: str | None = None
        """What the turn failed of: the code of a `StonechatError`, or `internal`."""

    def now(self) -> float:
        """Seconds since the turn began."""
        return time.monotonic() - self._began

    def note_text(self) -> None:
        """The visitor is about to see text."""
        if self.first_token is None:
            self.first_token = self.now()

    def note(self, kind: SpanKind, name: str, **data: Any) -> Span:
        """Record something that took no time to speak of."""
        now = self.now()
        return self._keep(Span(kind, name, now, now, data))

    @contextmanager
    def span(self, kind: SpanKind, name: str, **data: Any) -> Iterator[Span]:
        """Record a step for as long as the context is open; an exception marks it as failed."""
        span = self._keep(Span(kind, name, self.now(), data=data))
        try:
            yield span
        except GeneratorExit:
            raise  # whoever listened had enough
        except BaseException as error:
            span.error = type(error).__name__
            raise
        finally:
            span.ended = self.now()

    @property
    def blocked(self) -> bool:
        """Whether a guardrail answered in place of the agent: its step says so."""
        return any(
            span.kind == "guardrail" and (span.data.get("action") == "blocked" or span.data.get("blocked") is True)
            for span in self.spans
        )

    def _keep(self, span: Span) -> Span:
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.dropped += 1
        return span

    def finish(
        self,
        *,
        tenant_id: UUID,
        run_id: str,
        thread_id: str,
        agent_id: str,
        agent_version: int,
        outcome: Outcome,
        provider: str | None = None,
        model: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
    ) -> TurnTrace:
        """What to keep of the turn. The recorder may go on; the result does not change any more."""
        now = self.now()
        return TurnTrace(
            tenant_id=tenant_id,
            run_id=run_id,
            thread_id=thread_id,
            agent_id=agent_id,
            agent_version=agent_version,
            started_at=self.started_at,
            outcome="blocked" if self.blocked and outcome in ("done", "failed") else outcome,
            error_code=self.error_code,
            provider=provider,
            model=model,
            input_tokens=max(0, input_tokens),
            output_tokens=max(0, output_tokens),
            cached_tokens=max(0, cached_tokens),
            first_token_ms=None if self.first_token is None else _ms(self.first_token),
            total_ms=_ms(now),
            spans=_bounded(self.spans, now),
            spans_dropped=self.dropped,
        )


def _bounded(spans: list[Span], now: float) -> tuple[Span, ...]:
    return tuple(
        Span(
            span.kind,
            _text(span.name)[:200],
            span.started,
            now if span.ended is None else span.ended,
            _clean(span.data, MAX_DEPTH) if span.data else span.data,
            None if span.error is None else _text(span.error)[:200],
        )
        for span in spans
    )


def _clean(value: Any, depth: int) -> Any:  # noqa: PLR0911  one line a kind of value
    """The value as small JSON without secrets."""
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return value if abs(value) < 1e300 else None  # JSON knows neither infinity nor NaN
    if kind is dict or isinstance(value, Mapping):
        if depth == 0:
            return "…"
        cleaned = {}
        for name, member in islice(value.items(), MAX_MEMBERS):
            shown, is_secret = _member_name(str(name))
            cleaned[shown] = _STRUCK_OUT if is_secret else _clean(member, depth - 1)
        return cleaned
    if kind is list or kind is tuple:
        return "…" if depth == 0 else [_clean(member, depth - 1) for member in value[:MAX_MEMBERS]]
    return _text(str(value))


@lru_cache(maxsize=512)
def _member_name(name: str) -> tuple[str, bool]:
    """The name as kept, and whether what it names is a secret."""
    return _text(name)[:100], _SECRET_NAMES.search(name) is not None


def _text(text: str) -> str:
    if len(text) <= MIN_SECRET and text.isascii() and "\x00" not in text:
        return text  # nearly all of them
    cut = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    if _may_hold_secret(text):
        # Looked for in a little more than is kept: a secret must not escape by being cut.
        found = _SECRETS.sub(_STRUCK_OUT, text[: MAX_TEXT + 200])
        cut = found if len(found) <= MAX_TEXT else found[: MAX_TEXT - 1] + "…"
    # Postgres takes neither NUL nor half of a surrogate pair out of JSON.
    if not cut.isascii() or "\x00" in cut:
        cut = cut.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return cut


def _may_hold_secret(text: str) -> bool:
    for sign in _SIGNS:  # noqa: SIM110  a generator costs more than all of it
        if sign in text:
            return True
    return False


def _spans_json(spans: Iterable[Span]) -> str:
    left = MAX_BYTES
    texts = []
    for span in spans:
        text = to_json(_span_json(span))
        left -= len(text)
        texts.append(text if left > 0 or not span.data else to_json(_span_json(replace(span, data={}))))
    return b",".join(texts).decode()


def _span_json(span: Span) -> dict[str, Any]:
    ended = span.started if span.ended is None else span.ended
    shown: dict[str, Any] = {
        "kind": span.kind,
        "name": span.name,
        "start_ms": _tenths(span.started),
        "ms": _tenths(ended - span.started),
    }
    if span.data:
        shown["data"] = span.data
    if span.error is not None:
        shown["error"] = span.error
    return shown


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _tenths(seconds: float) -> float:
    return round(max(0.0, seconds) * 1000, 1)
