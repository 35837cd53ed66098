"""`/chatkit`: the ChatKit protocol, as plain ASGI for speed, and the runs behind its streams.

Preflights and the naming of origins on responses are `api/cors.py`'s; every refusal is a problem before any stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from chatkit.types import (
    AttachmentsCreateReq,
    InputTranscribeReq,
    NonStreamingReq,
    StreamingReq,
    ThreadsSyncCustomActionReq,
    is_streaming_req,
)
from sqlalchemy.exc import DBAPIError
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stonechat.accounts.suspension import SENTENCE, Suspensions
from stonechat.api.chatkit_body import read_body, require_fitting
from stonechat.api.cors import VisitorCors
from stonechat.api.dependencies import Services, caller_of, require_look, services_of
from stonechat.chat.events import PING, paused
from stonechat.chat.resume import cancel_run, resume
from stonechat.chat.runs import Listener, Run
from stonechat.errors import StonechatError
from stonechat.identity.caller import Caller
from stonechat.limits.addresses import limited_by
from stonechat.settings import Settings
from stonechat.web import DefaultHeaders, UnexpectedErrors, client_address, database_problem, problem_response

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # or nginx would collect a whole answer before passing it on
]
Headers = list[tuple[bytes, bytes]]
PAUSED = paused(SENTENCE)


def routes() -> list[BaseRoute]:
    """The protocol's route, and the two about runs."""
    return [
        Route("/chatkit", limited_by("visitor")(_Endpoint(_chatkit)), methods=["POST"], name="chatkit"),
        Route(
            "/chatkit/runs/{run}/events",
            limited_by("address")(_Endpoint(_run_events)),
            methods=["GET"],
            name="run_events",
        ),
        Route(
            "/chatkit/runs/{run}/cancel",
            limited_by("address")(_Endpoint(_run_cancel)),
            methods=["POST"],
            name="run_cancel",
        ),
    ]


def chat_app(settings: Settings) -> ASGIApp:
    """The protocol's route with just the middlewares that it needs.

    Every event of every answer passes through what stands around the route; the general tower costs each stream 6 KB and
    each event a fifth of its time.
    """
    return DefaultHeaders(VisitorCors(UnexpectedErrors(_Endpoint(_chatkit))), settings=settings)


class _Endpoint:
    """An ASGI application around one of the functions below, which renders what they refuse."""

    def __init__(self, handle: ASGIApp) -> None:
        self._handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._handle(scope, receive, send)
        except StonechatError as error:  # only ever raised before the response has begun
            await problem_response(error)(scope, receive, send)
        except DBAPIError as error:
            await database_problem(error)(scope, receive, send)


async def _chatkit(scope: Scope, receive: Receive, send: Send) -> None:
    connection = HTTPConnection(scope)
    services = services_of(connection)
    caller = await _admit(connection, services)
    body = await read_body(connection, receive)
    if body is None:
        return
    request = services.chat.parse(body)
    require_fitting(request, body)
    if not is_streaming_req(request):
        await _answer_with_json(connection, services, caller, request, receive, send)
        return
    run, headers = await _start_run(connection, services, caller, request)
    suspensions = services.suspensions
    del connection, body, request  # a stream may last; what asked for it need not stay in memory
    await _stream_run(run, headers, receive, send, suspensions=suspensions)


async def _admit(connection: HTTPConnection, services: Services) -> Caller:
    """Who calls. Raises `TenantSuspended`, and `InvalidSession` for an operator's preview whose look is over."""
    caller = caller_of(connection, services)
    await services.suspensions.require_active(caller.tenant_id)
    await require_look(services, caller)
    return caller


async def _answer_with_json(
    connection: HTTPConnection,
    services: Services,
    caller: Caller,
    request: NonStreamingReq,
    receive: Receive,
    send: Send,
) -> None:
    if isinstance(request, ThreadsSyncCustomActionReq | InputTranscribeReq):  # they ask services, as messages do
        await services.limiter.check_message(caller, address=client_address(connection))
    else:
        await services.limiter.check_address(client_address(connection))
    if isinstance(request, AttachmentsCreateReq):
        await services.limiter.check_upload(caller)
    answer = await services.chat.answer(request, caller)
    response = Response(answer, media_type="application/json", headers={"Cache-Control": "no-store"})
    await response(connection.scope, receive, send)


async def _start_run(
    connection: HTTPConnection, services: Services, caller: Caller, request: StreamingReq
) -> tuple[Run, Headers]:
    limits = await services.limiter.check_message(caller, address=client_address(connection))
    resumable = connection.headers.get("stonechat-stream", "").strip().lower() == "resumable"
    slot = services.limiter.answering(caller)
    await slot.__aenter__()

    async def free() -> None:
        await slot.__aexit__(None, None, None)

    try:
        run = await services.chat.start(request, caller, resumable=resumable, on_end=free)
    except BaseException:
        await free()
        raise
    headers = [(b"stonechat-run", run.key.run_id.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in limits.headers().items()]
    return run, headers


async def _stream_run(run: Run, headers: Headers, receive: Receive, send: Send, *, suspensions: Suspensions) -> None:
    """Send what happens, all of one turn of the loop at once. Who hangs up on a run that is not resumable stops it."""
    with run.listen() as listener:
        await _send_events(run, listener, headers, receive, send, suspensions=suspensions)


async def _send_events(
    run: Run, listener: Listener, headers: Headers, receive: Receive, send: Send, *, suspensions: Suspensions
) -> None:
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        if not run.resumable:
            run.stop("cancelled")
        run.wake()

    watcher: asyncio.Task[None] | None = None
    try:
        await asyncio.sleep(0)  # let the run begin, so that the headers and its first events share a write
        await send(_start(headers))
        while not gone:
            over = run.finished
            heard = listener.take()
            if over:
                await send(_chunk(heard + await _last_words(run, suspensions), more=False))
                return
            if heard:
                await send(_chunk(heard, more=True))
            if watcher is None:
                watcher = asyncio.create_task(watch())
            await run.wait(listener.seen)
            if not gone and len(run.frames) == listener.seen and not run.finished:
                await send(_chunk(PING, more=True))
    except BaseException:
        if not run.resumable:
            run.stop("cancelled")
        raise
    finally:
        if watcher is not None:
            watcher.cancel()


async def _last_words(run: Run, suspensions: Suspensions) -> bytes:
    """Why an answer broke off that its visitor did not stop."""
    paused = run.stop_reason == "cancelled" and await suspensions.is_suspended(run.key.tenant_id)
    return PAUSED if paused else b""


async def _run_events(scope: Scope, receive: Receive, send: Send) -> None:
    connection = HTTPConnection(scope)
    services = services_of(connection)
    caller = await _admit(connection, services)
    await services.limiter.check_address(client_address(connection))
    last = connection.headers.get("last-event-id", "")
    events = await resume(services.chat.hub, caller, run_id=scope["path_params"]["run"], last_event_id=last)
    await send(_start([]))
    await _stream_events(events, receive, send)


async def _stream_events(events: AsyncIterator[bytes], receive: Receive, send: Send) -> None:
    async def forward() -> None:
        async for chunk in events:
            await send(_chunk(chunk, more=True))
        await send(_chunk(b"", more=False))

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(forward()), asyncio.create_task(watch())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(results[0], Exception):
        raise results[0]


async def _run_cancel(scope: Scope, receive: Receive, send: Send) -> None:
    connection = HTTPConnection(scope)
    services = services_of(connection)
    caller = caller_of(connection, services)
    await services.limiter.check_address(client_address(connection))
    await cancel_run(services.chat.hub, caller, run_id=scope["path_params"]["run"])
    await Response(b"{}", media_type="application/json")(scope, receive, send)


def _start(headers: Headers) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [*_STREAM_HEADERS, *headers]}


def _chunk(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}
