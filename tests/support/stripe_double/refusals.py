"""What Stripe answers when it says no, in the error bodies that its clients parse."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after: int | None = None,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        known = {"message": message, "type": kind, "code": code, "param": param}
        self.body = {"error": {name: value for name, value in {**known, **more}.items() if value is not None}}


def missing(kind: str, object_id: str, *, param: str = "id", status: int = 404) -> Refused:
    return Refused(f"No such {kind}: '{object_id}'", code="resource_missing", param=param, status=status)


def declined(code: str = "generic_decline", **more: Any) -> Refused:
    return Refused(
        "Your card was declined.", status=402, kind="card_error", code="card_declined", decline_code=code, **more
    )
