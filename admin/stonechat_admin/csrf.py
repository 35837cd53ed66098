"""Requests that change something come from our own pages: by where the browser says they start, and by a token."""

from __future__ import annotations

import hmac

from starlette.requests import Request

from stonechat.errors import ForgedRequest

FIELD, HEADER = "csrf", "x-csrf-token"
_SAFE = ("GET", "HEAD", "OPTIONS")


def check_origin(request: Request, allowed: frozenset[str]) -> None:
    """Raise `ForgedRequest` unless the browser says that one of our own pages sent this.

    Browsers name the sender of a form: `Sec-Fetch-Site` where the connection is trustworthy, `Origin` always.
    """
    if request.method in _SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise ForgedRequest("This form was sent from another site. Open the console and send it there.")
    if origin is not None and origin not in allowed:
        expected = " or ".join(sorted(allowed))
        raise ForgedRequest(f"This page was opened at {origin[:100]}, but the console lives at {expected}.")
    if site is None and origin is None:
        raise ForgedRequest("The browser did not say where this form was sent from.")


async def check_token(request: Request, expected: str) -> None:
    """Raise `ForgedRequest` unless the request carries the token of this session, as a header or a field."""
    if request.method in _SAFE:
        return
    sent: object = request.headers.get(HEADER)
    if sent is None and "form" in request.headers.get("content-type", ""):
        sent = (await request.form()).get(FIELD)
    if not isinstance(sent, str) or not hmac.compare_digest(sent.encode(), expected.encode()):
        request.state.stale_form = True
        raise ForgedRequest("You signed in anew since this page was opened. Load it again and repeat that.")
