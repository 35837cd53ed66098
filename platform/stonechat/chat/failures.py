"""What a person is told of an answer that failed. What went wrong inside is logged, never told."""

from __future__ import annotations

import logging

from chatkit.errors import CustomStreamError, ErrorCode, StreamError
from chatkit.types import ErrorEvent

from stonechat.errors import StonechatError

_TROUBLE = "Something went wrong while answering. Please try again."
_log = logging.getLogger(__name__)


def failure(message: str, *, allow_retry: bool) -> ErrorEvent:
    """An error in our own words."""
    return ErrorEvent(code="custom", message=message, allow_retry=allow_retry)


def error_event(error: Exception) -> ErrorEvent:
    """What is said of an error that ended an answer."""
    match error:
        case StonechatError() if error.status != 500:
            retry = error.members.get("allow_retry", error.status == 429 or error.status > 500)
            return failure(error.detail or f"{error.title}.", allow_retry=bool(retry))
        case CustomStreamError():
            return failure(error.message, allow_retry=error.allow_retry)
        case StreamError():
            return ErrorEvent(code=error.code, message=_TROUBLE, allow_retry=error.allow_retry)
        case _:
            _log.error("a run failed", exc_info=error)
            return ErrorEvent(code=ErrorCode.STREAM_ERROR, message=_TROUBLE, allow_retry=True)
