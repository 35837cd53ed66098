"""Every error leaves as an RFC 9457 problem, `application/problem+json`, whoever raised it."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from asyncpg.exceptions import CharacterNotInRepertoireError
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stonechat import errors, ids
from stonechat.errors import StonechatError

PROBLEM_JSON = "application/problem+json"
MAX_FIELD_ERRORS = 50

_log = logging.getLogger(__name__)
_BY_STATUS: dict[int, type[StonechatError]] = {
    400: errors.MalformedBody,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    413: errors.PayloadTooLarge,
    415: errors.UnsupportedMediaType,
    422: errors.InvalidInput,
    429: errors.TooManyRequests,
    503: errors.Unavailable,
}
_PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error (RFC 9457). Some carry more members.",
    "type": "object",
    "required": ["type", "title", "status", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For machines; does not change."},
        "detail": {"type": "string", "description": "For people; may change."},
        "errors": {
            "type": "array",
            "description": "The fields at fault.",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}
_FALLBACK_DETAILS = {
    404: "Check the address and the id.",
    405: "See the Allow header for the methods that this address answers to.",
}


def problem_response(error: StonechatError) -> Response:
    """The error as a response, which is an ASGI application too.

    What went wrong inside (status 500) is logged under an incident id, and only the id is told.
    """
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _incident(error, error)
    headers = dict(error.headers)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return _render(error.problem(), headers)


def install_problem_handlers(app: FastAPI) -> None:
    """Render every error that a route can raise, the framework's and the unexpected ones included.

    Call it before adding other middlewares: theirs must wrap this one, so that problems carry their headers.
    """
    app.add_exception_handler(StonechatError, _on_stonechat_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(DBAPIError, _on_database_error)
    app.add_middleware(UnexpectedErrors)
    _describe_problems(app)


def _describe_problems(app: FastAPI) -> None:
    """Let the OpenAPI document say what errors look like, in place of the framework's own 422."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" in schemas:
            return document
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        schemas["Problem"] = _PROBLEM_SCHEMA
        content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
                operation["responses"]["default"] = {"description": "A problem, see docs/errors.md", "content": content}
        return document

    app.openapi = openapi  # type: ignore[method-assign]


async def _on_stonechat_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, StonechatError)  # noqa: S101
    return problem_response(error)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return problem_response(_from_validation(request, error))


async def _on_database_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)  # noqa: S101
    return database_problem(error)


def database_problem(error: DBAPIError) -> Response:
    """Postgres stores no NUL: whichever field held one, it is the request that is at fault. Raises any other error."""
    cause = error.orig.__cause__ if error.orig else None
    if isinstance(cause, CharacterNotInRepertoireError):
        return problem_response(errors.InvalidInput("One of the values holds a NUL character. Leave it out."))
    raise error


def _from_validation(request: Request, error: RequestValidationError) -> StonechatError:
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        return errors.MalformedBody("The body is not valid JSON.")
    if any(tuple(item["loc"]) == ("body",) for item in found):
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        sent_something = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
        if sent_something and kind != "application/json" and not kind.endswith("+json"):
            return errors.UnsupportedMediaType("Send the body as application/json.")
    fields = [
        {"field": ".".join(str(part) for part in item["loc"][1:])[:200], "message": str(item["msg"])[:300]}
        for item in found[:MAX_FIELD_ERRORS]
    ]
    return errors.InvalidInput("Correct the fields named in “errors” and send the request again.", errors=fields)


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    status, headers = error.status_code, dict(error.headers or {})
    phrase = HTTPStatus(status).phrase
    detail = error.detail if isinstance(error.detail, str) and error.detail != phrase else _FALLBACK_DETAILS.get(status)
    known = _BY_STATUS.get(status)
    if known is not None:
        return problem_response(known(detail, headers=headers))
    document: dict[str, Any] = {
        "type": "about:blank",
        "title": phrase,
        "status": status,
        "code": f"http_{status}",
    }
    return _render(document | ({"detail": detail} if detail else {}), headers)


class UnexpectedErrors:
    """Turns any other exception into a 500 problem with an incident id; the traceback goes to the log alone.

    Innermost of the middlewares and not Starlette's handler for `Exception`, which answers outside all of them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if started:  # nothing honest can be added to half a response: let the server cut it
                raise
            await _incident(StonechatError(), error)(scope, receive, send)


def _incident(shown: StonechatError, cause: BaseException) -> Response:
    incident = ids.new_id("inc")
    _log.error("Incident %s: %s", incident, type(cause).__name__, exc_info=cause)
    document = shown.problem() | {
        "detail": "It was noted. Try again, and if it stays, tell us the incident's id.",
        "incident": incident,
    }
    return _render(document, shown.headers)


def _render(document: dict[str, Any], headers: dict[str, str]) -> Response:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    headers.setdefault("Cache-Control", "no-store")
    return Response(body, document["status"], headers, media_type=PROBLEM_JSON)
