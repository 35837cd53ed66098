"""`GET /chatkit/sources`: the passage that an answer cites, for the visitor who got the answer; plain ASGI as its neighbours."""

from __future__ import annotations

from dataclasses import asdict

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from stonechat.api.dependencies import caller_of, require_look, services_of
from stonechat.chat.cited import CitedPassage, read_own_citation
from stonechat.errors import NotFound, StonechatError
from stonechat.limits.addresses import limited_by
from stonechat.web import client_address, problem_response

MAX_INDEX = 10_000


def routes() -> list[BaseRoute]:
    """The one route."""
    return [Route("/chatkit/sources", limited_by("address")(_Sources()), methods=["GET"], name="cited_passage")]


class _Sources:
    """The route's ASGI application."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer: ASGIApp = await _read(scope)
        except StonechatError as error:
            answer = problem_response(error)
        await answer(scope, receive, send)


async def _read(scope: Scope) -> JSONResponse:
    connection = HTTPConnection(scope)
    services = services_of(connection)
    caller = caller_of(connection, services)
    await require_look(services, caller)
    await services.limiter.check_address(client_address(connection))
    asked = connection.query_params
    index = asked.get("index", "")
    if not (index.isascii() and index.isdigit() and len(index) <= 5 and int(index) <= MAX_INDEX):
        raise NotFound("There is no such citation.")
    found = await read_own_citation(
        services.database,
        caller,
        thread_id=asked.get("thread", ""),
        item_id=asked.get("item", ""),
        index=int(index),
    )
    return JSONResponse(shown(found), headers={"Cache-Control": "no-store"})


def shown(found: CitedPassage) -> dict[str, object]:
    """As visitors see it: without what is the team's."""
    told = asdict(found)
    del told["document_id"]
    return told
