"""Every error leaves the platform as a problem document; in the console it becomes a page, a toast, or the way to sign in."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stonechat.web import PROBLEM_JSON
from stonechat_admin.render import fragment, is_partial, page

PREFIXES = ("/console", "/setup", "/dev/mail", "/operator")
LOGIN = "/console/login"
OPERATOR_LOGIN = "/operator/login"


class ConsoleProblems:
    """Translates the problems of the console's own addresses; everything else passes through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})
        held: Message | None = None
        body = b""

        async def translating_send(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start":
                headers = dict(message.get("headers", ()))
                if headers.get(b"content-type", b"").startswith(PROBLEM_JSON.encode()):
                    held = message
                    return
            if held is None:
                await send(message)
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                kept = {k.decode(): v.decode("latin-1") for k, v in held.get("headers", ()) if k in _KEPT}
                await _told(Request(scope), json.loads(body), kept)(scope, receive, send)

        await self._app(scope, receive, translating_send)


_KEPT = frozenset(
    {b"retry-after", b"allow", b"x-request-id", b"x-content-type-options", b"strict-transport-security", b"connection"}
)


def _told(request: Request, problem: dict[str, Any], headers: dict[str, str]) -> Response:
    status, code = int(problem["status"]), problem.get("code")
    if code == "sign_in_needed":
        return _to_login(request, LOGIN)
    if code == "operator_sign_in_needed":
        return _to_login(request, OPERATOR_LOGIN)
    if code == "forged_request" and is_partial(request) and hasattr(request.state, "stale_form"):
        return _reload(request)
    sentence = str(problem.get("detail") or problem["title"])
    if is_partial(request):
        answer = fragment(request, status=status, toast=sentence, kind="error", headers=headers)
        answer.headers["HX-Reswap"] = "none"
        return answer
    return page(request, "error.html", status=status, headers=headers, problem=problem, sentence=sentence)


def _to_login(request: Request, login: str) -> Response:
    """Sign in, and come back. A page that htmx asked on behalf of keeps what was typed in it, and has it again then."""
    if is_partial(request):
        shown = urlsplit(request.headers.get("hx-current-url", ""))
        url = f"{login}?next={quote(_path(shown.path, shown.query))}"
        return Response(status_code=401, headers={"HX-Redirect": url, "Console": '{"keep": true}', **_NO_STORE})
    if request.method == "GET":
        back = _path(request.url.path, request.url.query)
    else:
        came = urlsplit(request.headers.get("referer", ""))
        back = _path(came.path, came.query)
    return RedirectResponse(f"{login}?next={quote(back)}", 303, _NO_STORE)


def _reload(request: Request) -> Response:
    shown = urlsplit(request.headers.get("hx-current-url", ""))
    url = _path(shown.path, shown.query)
    return Response(status_code=403, headers={"HX-Redirect": url, "Console": '{"keep": true}', **_NO_STORE})


_NO_STORE = {"Cache-Control": "no-store"}


def _path(path: str, query: str) -> str:
    return f"{path or '/console'}{'?' if query else ''}{query}"


def safe_next(url: str, home: str = "/console") -> str:
    """A page of this room to go to after signing in: nobody's link may send people elsewhere."""
    parts = urlsplit(url)
    inside = parts.path == home or parts.path.startswith(f"{home}/")
    if not inside or parts.scheme or parts.netloc or "\\" in url or not url.isprintable() or len(url) > 1000:
        return home
    return home if parts.path in (LOGIN, OPERATOR_LOGIN) else url
