"""The ASGI application: keys, versions, idempotency, outages; and a server for it on the loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from support.stripe_double import pages
from support.stripe_double.account import API_VERSION, Account
from support.stripe_double.clocks import run_until
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, routed
from support.stripe_double.shapes import checked
from support.stripe_double.wire import decoded_form, rendered

Json = dict[str, Any]
MAX_BODY = 1_000_000
KEY_SECONDS = 24 * 3600
Answer = tuple[int, dict[str, str], bytes]


class Unreachable(ConnectionError):
    """What a client in the same process meets instead of a refused connection."""


@dataclass
class Outage:
    """How the API misbehaves, for how many requests (None: until told otherwise), and on which paths."""

    mode: str
    """`unreachable`, `slow`, `429`, `500`; or `lost`: the work is done, the answer never arrives."""
    seconds: float = 0.5
    retry_after: int = 1
    times: int | None = None
    paths: str = "/"


@dataclass
class Kept:
    """What was answered to an idempotency key."""

    fingerprint: str
    answer: Answer
    at: int


@dataclass
class Seen:
    """A request as it came, for tests that look."""

    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int = 0


@dataclass
class Api:
    """`ASGI(scope, receive, send)` over an account. One request at a time changes it."""

    account: Account
    api_key: str | None = None
    """None: any test key is good."""
    outage: Outage | None = None
    requests: list[Seen] = field(default_factory=list)
    _kept: dict[str, Kept] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _ticked: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if len(body) > MAX_BODY or not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        seen = Seen(scope["method"], scope["path"], headers, body.decode(errors="replace"))
        self.requests.append(seen)
        outage = self._struck(scope["path"])
        if outage is not None and outage.mode == "unreachable":
            raise Unreachable("the connection was refused")
        if outage is not None and outage.mode == "slow":
            await asyncio.sleep(outage.seconds)
        status, more, answer = self._answered_or_out(outage, seen, scope["query_string"].decode(), body)
        if outage is not None and outage.mode == "lost":
            raise Unreachable("the connection was lost before the answer came")
        seen.status = status
        raw = [(name.lower().encode(), value.encode()) for name, value in more.items()]
        await send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [*raw, (b"content-length", str(len(answer)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": answer})

    def _struck(self, path: str) -> Outage | None:
        """The outage, where this request is one that it hits."""
        outage = self.outage
        if outage is None or not path.startswith(outage.paths):
            return None
        if outage.times is not None:
            outage.times -= 1
            if outage.times <= 0:
                self.outage = None
        return outage

    def _answered_or_out(self, outage: Outage | None, seen: Seen, query: str, body: bytes) -> Answer:
        if outage is not None and outage.mode == "429":
            error = Refused(
                "Request rate limit exceeded.", status=429, code="rate_limit", retry_after=outage.retry_after
            )
            return _error(error, "")
        if outage is not None and outage.mode == "500":
            return _error(Refused("An unknown error occurred.", status=500, kind="api_error"), "")
        with self.lock:
            return self.answer(seen, query, body)

    def answer(self, seen: Seen, query: str, body: bytes) -> Answer:
        """One request, whole."""
        self.tick()
        if not seen.path.startswith(("/v1/", "/v2/")):
            try:
                status, headers, text = pages.shown(self.account, seen.method, seen.path, body)
            except Refused as error:
                return _error(error, "")
            return status, headers, text.encode()
        request_id = self.account.new_id("req", 14)
        key = seen.headers.get("idempotency-key")
        self.account.request = {"id": request_id, "idempotency_key": key}
        try:
            self._authorise(seen)
            return self._once(seen, query, body, key, request_id)
        except Refused as error:
            return _error(error, request_id)
        finally:
            self.account.request = {"id": None, "idempotency_key": None}

    def tick(self) -> None:
        """Let the time that has passed outside the test clocks have its effects."""
        now = self.account.wall()
        if now != self._ticked:
            self._ticked = now
            run_until(self.account, None, now)

    def _authorise(self, seen: Seen) -> None:
        given = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if seen.path == "/v2/billing/meter_event_stream":
            if self.account.meter_sessions.get(given, 0) < self.account.wall():
                raise Refused(
                    "The meter event session has expired.",
                    status=401,
                    kind="temporary_session_expired",
                    code="billing_meter_event_session_expired",
                )
            return
        good = given == self.api_key if self.api_key else given.startswith(("sk_test_", "rk_test_"))
        if not good:
            raise Refused(f"Invalid API Key provided: {given[:8]}***", status=401)
        version = seen.headers.get("stripe-version", API_VERSION)
        if version != API_VERSION:
            raise Refused(f"Invalid Stripe API version: {version}")

    def _once(self, seen: Seen, query: str, body: bytes, key: str | None, request_id: str) -> Answer:
        """The same answer to the same key; another body under it is refused. Failed validation is not remembered."""
        if not key or seen.method != "POST":
            return self._done(seen, query, body, request_id)
        fingerprint = f"{seen.method} {seen.path}?{query}\n{body.decode(errors='replace')}"
        kept = self._kept.get(key)
        if kept is not None and self.account.wall() - kept.at < KEY_SECONDS:
            if kept.fingerprint != fingerprint:
                raise Refused(
                    "Keys for idempotent requests can only be used with the same parameters they were first used with. "
                    f"Try using a key other than '{key}' if you meant to execute a different request.", kind="idempotency_error",
                )  # fmt: skip
            status, headers, answer = kept.answer
            return status, {**headers, "Idempotent-Replayed": "true", "Original-Request": headers["Request-Id"]}, answer
        try:
            answer_ = self._done(seen, query, body, request_id)
        except Refused as error:
            if error.status == 402:
                self._kept[key] = Kept(fingerprint, _error(error, request_id), self.account.wall())
            raise
        self._kept[key] = Kept(fingerprint, answer_, self.account.wall())
        return answer_

    def _done(self, seen: Seen, query: str, body: bytes, request_id: str) -> Answer:
        found, ids = routed(seen.method, seen.path)
        given = decoded_form(query)
        page = given.pop("page", None) if seen.path.startswith("/v2/") else None
        if seen.method == "POST":
            if seen.headers.get("content-type", "").startswith("application/json"):
                given = json.loads(body or b"{}")
            else:
                given = decoded_form(body.decode())
        params = checked(given, found.shape)
        call = Call(self.account, params, ids, seen.path, page)
        result = rendered(self.account, found.handler(call), tuple(params.get("expand", ())))
        headers = {"Content-Type": "application/json", "Request-Id": request_id, "Stripe-Version": API_VERSION}
        if key := seen.headers.get("idempotency-key"):
            headers["Idempotency-Key"] = key
        return 200, headers, json.dumps(result).encode()


def _error(error: Refused, request_id: str) -> Answer:
    headers = {"Content-Type": "application/json", "Request-Id": request_id or "req_out", "Stripe-Version": API_VERSION}
    headers["Stripe-Should-Retry"] = "true" if error.status >= 500 or error.status == 429 else "false"
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return error.status, headers, json.dumps(error.body).encode()


class Served:
    """The application on a port of the loopback, in a thread of its own, so that clients may block."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)
        protocol = _protocol(api)
        config = uvicorn.Config(
            api, http=protocol, lifespan="off", log_level="critical", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        api.account.base_url = self.url

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._socket.close()


def _protocol(api: Api) -> type[HttpToolsProtocol]:
    """A protocol that hangs up on everyone while the API is to be unreachable, or its answers are to be lost."""

    class HangingUp(HttpToolsProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if api.outage is not None and api.outage.mode == "unreachable" and api.outage.paths == "/":
                transport.abort()

        async def _hang_up(self, scope: Any, receive: Any, send: Any) -> None:
            try:
                await api(scope, receive, send)
            except Unreachable:
                self.transport.abort()

        def on_message_begin(self) -> None:
            self.app = self._hang_up
            super().on_message_begin()

    return HangingUp
