"""What a failed model call means to the visitor: an error with a calm sentence, and whether to try again.

Visitors cannot mend a wrong key, so they are not told of it; `reason` and the log say what it was.
"""

from __future__ import annotations

import json
import re

import httpx2
import openai
from agents.exceptions import MaxTurnsExceeded, ModelBehaviorError

from stonechat.errors import (
    ModelUnknown,
    SecretUnreadable,
    StonechatError,
    TargetNotAllowed,
    UpstreamFailed,
    UpstreamTimedOut,
)
from stonechat.providers.retries import AnswerWithheld, ReportedFailure, StreamBroken, judge

_BUSY = "The assistant is very busy right now. Please try again in a moment."
_LATE = "The answer took too long. Please try again."
_BROKEN_OFF = "The answer broke off. Please try again."
_NOT_SET_UP = "The assistant cannot answer right now because of how it is set up. Its owner can see why."
_REFUSED = "The assistant could not take this message. Try to put it differently."
_WITHHELD = "The language model’s provider withheld the answer. Try to ask in another way."
_MAX_CAUSES = 10
# Gemini answers a wrong key with 400.
_KEY_REFUSED = re.compile(r"api.?key.{0,20}(not valid|invalid)|invalid.{0,10}api.?key", re.IGNORECASE)


def as_failure(error: BaseException, *, begun: bool) -> StonechatError | None:
    """The public face of an error from a run, or None for what is our own mistake and must stay visible as such.

    `begun` says whether the visitor has read a part of the answer already.
    """
    for cause in _chain(error):
        if isinstance(cause, ModelUnknown | TargetNotAllowed | SecretUnreadable):
            return UpstreamFailed(_NOT_SET_UP, reason=cause.code, allow_retry=False)
        if isinstance(cause, StonechatError):
            return cause
    for cause in _chain(error):
        failure = _from_vendor(cause, begun=begun)
        if failure is not None:
            return failure
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what caused it, outermost first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _MAX_CAUSES:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain


def _from_vendor(error: BaseException, *, begun: bool) -> StonechatError | None:  # noqa: C901, PLR0911, PLR0912  one case a fact
    match error:
        case openai.APITimeoutError() | TimeoutError() | httpx2.TimeoutException():
            return UpstreamTimedOut(_LATE, reason="timed_out", allow_retry=True)
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return UpstreamFailed(_NOT_SET_UP, reason="key_refused", allow_retry=False)
        case openai.NotFoundError():
            return UpstreamFailed(_NOT_SET_UP, reason="model_not_found", allow_retry=False)
        case openai.RateLimitError():
            exhausted = error.code == "insufficient_quota"
            return UpstreamFailed(
                _NOT_SET_UP if exhausted else _BUSY,
                reason="quota_exhausted" if exhausted else "rate_limited",
                allow_retry=not exhausted,
            )
        case openai.BadRequestError() if _KEY_REFUSED.search(str(error.body)[:2000]):
            return UpstreamFailed(_NOT_SET_UP, reason="key_refused", allow_retry=False)
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return UpstreamFailed(_REFUSED, reason="request_refused", allow_retry=False)
        case openai.APIStatusError():
            # A redirect counts here too: it is not followed, and a key is not sent along.
            broken = error.status_code >= 500
            return UpstreamFailed(
                _BUSY if broken else _NOT_SET_UP, reason=f"status_{error.status_code}", allow_retry=broken
            )
        case openai.APIConnectionError() | StreamBroken() if begun:
            return UpstreamFailed(_BROKEN_OFF, reason="broken_off", allow_retry=True)
        case openai.APIConnectionError() | StreamBroken():
            return UpstreamFailed(_BUSY, reason="unreachable", allow_retry=True)
        case AnswerWithheld():
            return UpstreamFailed(_WITHHELD, reason="content_filter", allow_retry=False)
        case ReportedFailure():
            busy = judge(error).retry and not begun
            return UpstreamFailed(_BUSY if busy else _BROKEN_OFF, reason="provider_failed", allow_retry=True)
        case (
            openai.APIError()
            | ModelBehaviorError()
            | httpx2.HTTPError()
            | json.JSONDecodeError()
            | RecursionError()
            | UnicodeDecodeError()
            | UnicodeEncodeError()  # the Runner, of arguments with half a surrogate pair
        ):
            return UpstreamFailed(_BROKEN_OFF, reason="bad_answer", allow_retry=True)
        case MaxTurnsExceeded():
            return UpstreamFailed(_BROKEN_OFF, reason="too_many_steps", allow_retry=True)
        case _:
            return None
