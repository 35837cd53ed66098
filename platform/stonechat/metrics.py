"""What a process counts of itself, for Prometheus: every series that we have is named here, once.

Counting is an addition: no lock, no look-up where the place is known beforehand. So it is done on the loop's thread alone, and
what is read meanwhile (`scraping.py`, on the metrics port) may be one event behind. Labels are words that stand in the code:
series are never named by a tenant, a visitor, a conversation, a host, a path or a message, and those of each name are bounded.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from functools import partial
from itertools import accumulate, product
from typing import Generic, Literal, TypeVar, get_args

Kind = Literal["counter", "gauge", "histogram"]
OTHER = "other"
"""Stands for every value of a label that is not known."""
MAX_CHILDREN = 2_000
"""Of one series whose labels are names in the code, such as routes; what is beyond counts as `other`."""
FROM_CODE: tuple[str, ...] = ()
"""The values of a label that nobody can name beforehand, but that come from the code all the same."""

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
SLOW = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
LONG = (0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0)


class Count:
    """A number that only grows, or of a gauge one that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float = 1) -> None:
        self.value += amount


class Spread:
    """How often a number of seconds was at most each of the bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def note(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, int]]:
        """Each bound as it is written, and how often it was at most that, as histograms are told."""
        bounds = (*(str(bound) for bound in self.bounds), "+Inf")
        return list(zip(bounds, accumulate(list(self.counts)), strict=True))


Child = TypeVar("Child", Count, Spread)


class Series(Generic[Child]):
    """One name, and a child for each combination of its labels' values."""

    def __init__(
        self, name: str, text: str, kind: Kind, labels: dict[str, tuple[str, ...]], new: Callable[[], Child]
    ) -> None:
        """`labels` maps each to its known values, all of which are there from the start, or to `FROM_CODE`."""
        self.name, self.text, self.kind = name, text, kind
        self.labels = tuple(labels)
        self._known = tuple(labels.values())
        self._new: Callable[[], Child] = new
        self._children: dict[tuple[str, ...], Child] = {}
        if all(self._known):
            for values in product(*self._known):
                self._children[values] = self._new()
        SERIES.append(self)

    def of(self, *values: str) -> Child:
        """The child to count with. Values that are not known are `other`."""
        child = self._children.get(values)
        return child if child is not None else self._made(values)

    def children(self) -> list[tuple[tuple[str, ...], Child]]:
        """All of them with their labels' values. Safe to call from another thread."""
        return list(self._children.items())

    def _made(self, values: tuple[str, ...]) -> Child:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}")
        full = len(self._children) >= MAX_CHILDREN
        values = tuple(
            value if (value in known if known else not full) else OTHER
            for value, known in zip(values, self._known, strict=True)
        )
        return self._children.setdefault(values, self._new())


class Asked:
    """A gauge whose value is asked for when somebody reads: what `scraping.py` finds, and nothing where it cannot ask."""

    def __init__(self, name: str, text: str, *labels: str) -> None:
        self.name, self.text, self.labels = name, text, labels
        self.kind: Kind = "gauge"
        SERIES.append(self)


SERIES: list[Series[Count] | Series[Spread] | Asked] = []
"""All of our own, in the order of this file."""


def _counter(name: str, text: str, **labels: tuple[str, ...]) -> Series[Count]:
    return Series(name, text, "counter", labels, Count)


def _gauge(name: str, text: str, **labels: tuple[str, ...]) -> Series[Count]:
    return Series(name, text, "gauge", labels, Count)


def _histogram(name: str, text: str, bounds: tuple[float, ...], **labels: tuple[str, ...]) -> Series[Spread]:
    return Series(name, text, "histogram", labels, partial(Spread, bounds))


# Requests

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", OTHER)
STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx", "none")
UNMATCHED = "unmatched"
"""In place of a route, for paths that no route has."""

REQUESTS = _counter(
    "stonechat_http_requests_total",
    "Requests that ended, by route template, method and class of status; `none` was never answered.",
    route=FROM_CODE,
    method=METHODS,
    status=STATUSES,
)
REQUEST_SECONDS = _histogram(
    "stonechat_http_request_duration_seconds",
    "Seconds until a request had ended, by route template; of answers, until the stream had.",
    SLOW,
    route=FROM_CODE,
)
_CHAT_ROUTE = "/chatkit"
CHAT_SECONDS = REQUEST_SECONDS.of(_CHAT_ROUTE)
CHAT_REQUESTS = {status: REQUESTS.of(_CHAT_ROUTE, "POST", status) for status in STATUSES}
_CLASSES = tuple(STATUSES[hundred - 1] if 1 <= hundred <= 5 else "none" for hundred in range(10))


def status_class(status: int | None) -> str:
    """`2xx` for 204; `none` for None."""
    return "none" if status is None else _CLASSES[status // 100 % 10]


# Answers

RUN_OUTCOMES = ("done", "cancelled", "failed", "timeout", "shutdown", "lost")
RUNS_STARTED = _counter("stonechat_runs_started_total", "Answers that were begun.").of()
RUNS_ENDED = _counter("stonechat_runs_ended_total", "Answers that ended, by outcome.", outcome=RUN_OUTCOMES)
RUNS = _gauge("stonechat_runs_in_progress", "Answers that are being written right now.").of()
RUN_SECONDS = _histogram("stonechat_run_duration_seconds", "Seconds from the start of an answer to its end.", SLOW).of()
FIRST_TEXT = _histogram(
    "stonechat_run_first_event_seconds", "Seconds from the start of an answer to the first event with its text.", SLOW
).of()
RUN_EVENTS = _counter("stonechat_run_events_total", "Events of answers that ended.").of()
RUN_BYTES = _counter("stonechat_run_event_bytes_total", "Bytes of the events of answers that ended.").of()
RUN_REFUSALS = ("tokens", "cost", "included_messages", "included_tokens", "cheaper", "aside")
BUDGET_REFUSALS = _counter(
    "stonechat_budget_refusals_total",
    "Questions that met the end of a budget or of what a plan includes; `cheaper` went to a cheaper model, `aside` was no question.",
    reason=RUN_REFUSALS,
)
LIMIT_REFUSALS = _counter(
    "stonechat_limit_refusals_total",
    "Requests refused because a limit was used up, by whose or of what.",
    scope=(
        *("address", "visitor", "agent", "tenant", "upload", "privacy"),
        *("concurrent", "process", "uploads_at_once", "dictations_at_once"),
    ),
)
GUARDRAILS = _counter(
    "stonechat_guardrail_trips_total",
    "Findings of the guardrails, by rule and by what was done.",
    rule=("length", "language", "blocked_topic", "moderation", "injection", "links", "images", "redact", "strict"),
    action=("blocked", "flagged", "removed", "skipped"),
)


def run_ended(outcome: str, *, seconds: float, first_text: float | None, events: int, size: int) -> None:
    """An answer is over; `first_text` is None where there was none, `size` is in bytes."""
    RUNS.value -= 1
    RUNS_ENDED.of(outcome).value += 1
    RUN_SECONDS.note(seconds)
    if first_text is not None:
        FIRST_TEXT.note(first_text)
    RUN_EVENTS.value += events
    RUN_BYTES.value += size


# Models

MODEL_KINDS = ("built-in", "openai", "anthropic", "gemini", "mistral", "cohere", "ollama", "vllm", "compatible")
MODEL_CALLS = _counter(
    "stonechat_model_calls_total",
    "Calls of models for answers, titles and summaries, by kind of provider and outcome: `failed` broke off, `not_reached` never began, `stopped` was cut off by us.",
    provider=MODEL_KINDS,
    outcome=("answered", "failed", "not_reached", "refused", "stopped"),
)
MODEL_SECONDS = _histogram(
    "stonechat_model_call_duration_seconds",
    "Seconds of a model's call, by kind of provider.",
    SLOW,
    provider=MODEL_KINDS,
)
MODEL_TOKENS = _counter(
    "stonechat_model_tokens_total",
    "Tokens of models' calls; `cached` are among those that went `in`. Estimated where the provider does not tell.",
    provider=MODEL_KINDS,
    direction=("in", "out", "cached"),
)
SidePurpose = Literal["embedding", "dictation", "moderation"]
SIDE_PURPOSES: tuple[SidePurpose, ...] = get_args(SidePurpose)
SIDE_CALLS = _counter(
    "stonechat_model_side_calls_total",
    "Calls of providers that are for no text of a model's, by purpose and outcome, as for models' calls.",
    purpose=SIDE_PURPOSES,
    outcome=("answered", "not_reached", "refused", "stopped"),
)
SIDE_SECONDS = _histogram(
    "stonechat_model_side_call_duration_seconds",
    "Seconds of a call of a provider that is for no text of a model's, by purpose.",
    SLOW,
    purpose=SIDE_PURPOSES,
)
BREAKER_CHANGES = _counter(
    "stonechat_model_breaker_changes_total",
    "Circuit breakers that opened after failures, let one call through to see, or closed again.",
    to=("open", "half_open", "closed"),
)
BREAKER_REFUSALS = _counter(
    "stonechat_model_breaker_refusals_total", "Calls of models that an open breaker refused at once."
).of()


def model_called(provider: str, outcome: str, *, seconds: float, tokens_in: int, tokens_out: int, cached: int) -> None:
    """A model's call is over."""
    MODEL_CALLS.of(provider, outcome).value += 1
    MODEL_SECONDS.of(provider).note(seconds)
    if tokens_in or tokens_out:
        MODEL_TOKENS.of(provider, "in").value += tokens_in
        MODEL_TOKENS.of(provider, "out").value += tokens_out
        MODEL_TOKENS.of(provider, "cached").value += cached


def asked_aside(purpose: SidePurpose, outcome: str, *, seconds: float) -> None:
    """A provider's call is over that was for no text of a model's."""
    SIDE_CALLS.of(purpose, outcome).value += 1
    SIDE_SECONDS.of(purpose).note(seconds)


# Work in the background

JOB_OUTCOMES = ("done", "retried", "given_up", "interrupted")
JOBS = _counter(
    "stonechat_jobs_total",
    "Attempts at jobs, by kind and outcome: `retried` is tried again later, `given_up` never, `interrupted` counts for nothing.",
    kind=FROM_CODE,
    outcome=JOB_OUTCOMES,
)
JOB_SECONDS = _histogram("stonechat_job_duration_seconds", "Seconds of an attempt at a job.", LONG, kind=FROM_CODE)
SCHEDULED = _counter(
    "stonechat_scheduled_work_total", "Rounds of what the worker does by the clock.", outcome=("done", "failed")
)
JOBS_WAITING = Asked(
    "stonechat_jobs_waiting", "Jobs that are due and wait for a worker, counted up to 10000. Told by workers.", "kind"
)
JOBS_OLDEST = Asked(
    "stonechat_jobs_oldest_wait_seconds",
    "Seconds that the longest waiting job of a kind is overdue. Told by workers.",
    "kind",
)
MAILS = _counter("stonechat_mails_total", "Attempts to hand over a mail.", outcome=("sent", "failed"))
WEBHOOKS = _counter(
    "stonechat_webhook_attempts_total",
    "Attempts to deliver a webhook to a tenant's server.",
    outcome=("delivered", "failed", "gone"),
)
STRIPE_WEBHOOKS = _counter(
    "stonechat_stripe_webhooks_total",
    "Webhooks of Stripe's that were taken in; `again` were repetitions.",
    outcome=("new", "again"),
)
STRIPE_REFUSED = _counter(
    "stonechat_stripe_webhooks_refused_total",
    "Webhooks that claimed to be Stripe's and were refused, by reason.",
    reason=("no_secret", "unsigned", "wrong_signature", "too_old", "malformed", OTHER),
)
METER_WAITING = Asked(
    "stonechat_meter_outbox_waiting",
    "Rows of overage that Stripe is still to be told, counted up to 10000. Told by workers.",
)
METER_OLDEST = Asked(
    "stonechat_meter_outbox_oldest_wait_seconds",
    "Seconds since the longest waiting row of overage was made. Told by workers.",
)

# Stores

DB_IN_USE = Asked(
    "stonechat_database_connections_in_use", "Connections to Postgres that are lent right now, by pool.", "pool"
)
DB_LIMIT = Asked("stonechat_database_connections_limit", "Connections to Postgres that a pool may have.", "pool")
HOT_WAITS = _counter(
    "stonechat_database_hot_waits_total",
    "Calls on the chat's hot path that found all of its connections lent and had to wait.",
    outcome=("served", "timeout"),
)
INDEX_OPERATIONS = ("upsert", "search", "nearest", "delete", "label", "drop", "count", "held")
INDEX_CALLS = _counter(
    "stonechat_index_operations_total",
    "Operations of the search index.",
    operation=INDEX_OPERATIONS,
    outcome=("done", "failed"),
)
INDEX_SECONDS = _histogram(
    "stonechat_index_operation_duration_seconds",
    "Seconds of an operation of the search index.",
    QUICK,
    operation=INDEX_OPERATIONS,
)

# The reading itself

QUESTIONS_FAILED = _counter(
    "stonechat_metrics_questions_failed_total",
    "Readings for which the database could not be asked, so that what it knows is missing.",
).of()
BUILD = Asked("stonechat_build_info", "1, with the version that runs.", "version")
