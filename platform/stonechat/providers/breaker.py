"""Circuit breakers: a provider that does not answer is left alone for a while, per tenant.

After `FAILURES` calls in a row that failed for reasons of the host's, calls are refused at once until some time has
passed. Then one call is let through to see: if it succeeds, all is as before; if not, the pause doubles.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from stonechat import metrics
from stonechat.errors import ProviderResting

FAILURES = 5
REST_SECONDS = 20.0
LONGEST_REST_SECONDS = 300.0
PROBE_SECONDS = 5.0
"""When to come back, told to those who arrive while the one call is under way."""
MAX_KEPT = 10_000

BreakerKey = tuple[UUID, str]
"""Whose calls, and to which provider: one tenant's trouble is nobody else's."""


@dataclass(slots=True)
class _State:
    failures: int = 0
    rest: float = REST_SECONDS
    open_until: float = 0.0
    probing: bool = False


class Call:
    """One call that was let through. Say once what became of it; what is not said counts for nothing."""

    def __init__(self, state: _State, *, probe: bool) -> None:
        self._state = state
        self._probe = probe
        self.outcome: bool | None = None

    def succeeded(self) -> None:
        """The host answered."""
        if self.outcome is None:
            self.outcome = True

    def failed(self) -> None:
        """The host did not answer as it should."""
        if self.outcome is None:
            self.outcome = False


class Breakers:
    """The breakers of one process. Only those that saw a failure take up memory, and at most `max_kept`."""

    def __init__(self, *, max_kept: int = MAX_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_kept = max_kept
        self._clock = clock
        self._states: OrderedDict[BreakerKey, _State] = OrderedDict()

    def __len__(self) -> int:
        return len(self._states)

    @contextmanager
    def calling(self, key: BreakerKey) -> Iterator[Call]:
        """Let a call through, or raise `ProviderResting`."""
        state = self._states.get(key, _State())
        probe = state.failures >= FAILURES
        if probe:
            wait = state.open_until - self._clock()
            if wait > 0 or state.probing:
                metrics.BREAKER_REFUSALS.add()
                raise resting(wait if wait > 0 else PROBE_SECONDS)
            state.probing = True
            metrics.BREAKER_CHANGES.of("half_open").add()
        call = Call(state, probe=probe)
        try:
            yield call
        finally:
            if probe:
                state.probing = False
            self._note(key, state, call)

    def _note(self, key: BreakerKey, state: _State, call: Call) -> None:
        if call.outcome is None:
            return
        if call.outcome:
            left = self._states.pop(key, None)
            if left is not None and left.failures >= FAILURES:
                metrics.BREAKER_CHANGES.of("closed").add()
            return
        state = self._states.setdefault(key, state)
        state.failures += 1
        if state.failures >= FAILURES and self._clock() >= state.open_until:
            # Those that fail while it rests had begun before, and say nothing new.
            metrics.BREAKER_CHANGES.of("open").add()
            state.open_until = self._clock() + state.rest
            state.rest = min(2 * state.rest, LONGEST_REST_SECONDS)
        self._states.move_to_end(key)
        while len(self._states) > self._max_kept:
            self._states.popitem(last=False)


def resting(seconds: float) -> ProviderResting:
    """The refusal that says when it will be tried again."""
    wait = max(1, math.ceil(seconds))
    return ProviderResting(
        "The assistant’s language model does not answer at the moment. "
        f"It will be tried again in {wait} second{'s' if wait > 1 else ''}.",
        headers={"Retry-After": str(wait)},
        reason="provider_resting",
        allow_retry=True,
        retry_after=wait,
    )
