"""What a failed call of a model means for the next one: ask again, ask another model, or give up.

Only ever before the first token: a visitor who has read half an answer must not read another half.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import httpx2
import openai

from stonechat.errors import ProviderResting, UpstreamFailed, UpstreamTimedOut

_PERMANENT = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_BUSY_STATUSES = frozenset({408, 409, 425, 429})
_TRANSIENT_REPORTS = frozenset({"server_error", "rate_limit_exceeded", "overloaded_error", "vector_store_timeout"})


class StreamBroken(Exception):
    """A stream ended without saying that it was complete."""


class AnswerWithheld(Exception):
    """The provider's filter stopped the answer before its first word."""


class ReportedFailure(Exception):
    """The provider said within its stream that it failed. `code` is its word for it."""

    def __init__(self, code: str | None) -> None:
        super().__init__(code or "no reason given")
        self.code = code


class Verdict(NamedTuple):
    """What an error means before the first token."""

    retry: bool
    """Whether the same model may be asked again, after a pause."""
    fall_back: bool
    """Whether the model could not be reached, so that another may be asked."""
    counts: bool
    """Whether it tells that the host is in trouble, rather than the request."""


_AGAIN, _ELSEWHERE, _FINAL = Verdict(True, True, True), Verdict(False, True, True), Verdict(False, False, False)
_NO_CREDIT = Verdict(False, True, False)
_BUSY = Verdict(True, True, False)
_RESTING = Verdict(False, True, False)


def judge(error: BaseException) -> Verdict:  # noqa: PLR0911  one line a fact
    """What is to be done about an error of a model's call."""
    match error:
        case ProviderResting():
            return _RESTING
        case openai.APITimeoutError() | TimeoutError() | httpx2.TimeoutException() | UpstreamTimedOut():
            return _ELSEWHERE  # waiting as long again helps nobody who waits
        case openai.APIConnectionError() | httpx2.TransportError() | StreamBroken() | UpstreamFailed():
            return _AGAIN
        case openai.APIStatusError():
            if error.code in _PERMANENT:
                return _NO_CREDIT
            if error.response.headers.get("x-should-retry", "").lower() == "false":
                return _ELSEWHERE if error.status_code >= 500 else _FINAL
            if error.status_code in _BUSY_STATUSES:
                return _BUSY
            return _AGAIN if error.status_code >= 500 else _FINAL
        case ReportedFailure():
            return _AGAIN if error.code in _TRANSIENT_REPORTS else _FINAL
        case _:
            return _FINAL


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds, but for `retries`."""

    retries: int = 2
    first_pause: float = 0.4
    longest_pause: float = 8.0
    """Of our own choosing, and of a host's: one that asks for more is not asked again."""

    def pause(self, attempt: int, error: BaseException) -> float | None:
        """How long to wait after attempt number `attempt` (from 1) failed; None if it was the last.

        Half of it is left to chance, so that those who failed together do not come back together.
        """
        if attempt > self.retries:
            return None
        asked = retry_after(error)
        if asked is not None and asked > self.longest_pause:
            return None
        ours = min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
        return max(ours, asked or 0.0)


def retry_after(error: BaseException) -> float | None:
    """The seconds that a host asked to be left alone, in any of the three ways of saying so; None if it did not."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers: Mapping[str, str] = error.response.headers
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds: float = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
        return None
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
