"""Problems, limits on bodies, addresses through proxies, pages: what surrounds every route."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, File, HTTPException, Request, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from stonechat import errors
from stonechat.settings import Settings
from stonechat.web import (
    Page,
    client_address,
    decode_cursor,
    encode_cursor,
    install_middlewares,
    install_problem_handlers,
    middleware,
    problem_response,
)
from stonechat.web.addresses import resolve


class Order(BaseModel):
    name: str
    count: int


def build_app(**settings: Any) -> FastAPI:
    app = FastAPI()
    install_problem_handlers(app)
    install_middlewares(app, Settings(**settings), body_limits={"/upload": 4096, "/upload/small": 10})

    @app.post("/orders")
    async def order(body: Order) -> Order:
        return body

    @app.post("/upload")
    async def upload(file: Annotated[UploadFile, File()]) -> int:
        return len(await file.read())

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    @app.post("/upload/small")
    async def small(request: Request) -> int:
        return len(await request.body())

    @app.get("/nul/{name}")
    async def nul(name: str) -> str:
        return name

    @app.get("/busy")
    async def busy() -> None:
        raise errors.RateLimited("Wait a moment.", headers={"Retry-After": "3"}, scope="visitor")

    @app.get("/private")
    async def private() -> None:
        raise errors.InvalidSession("The session has expired.")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the password is swordfish")

    @app.get("/unreadable")
    async def unreadable() -> None:
        raise errors.SecretUnreadable("platform key 0123 is missing")

    @app.get("/half")
    async def half() -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError("midway")

        return StreamingResponse(body())

    @app.get("/who")
    async def who(request: Request) -> dict[str, Any]:
        return {
            "host": client_address(request).host,
            "scheme": request.url.scheme,
            "loopback": client_address(request).is_loopback,
        }

    @app.get("/styled")
    async def styled() -> Any:
        from fastapi.responses import HTMLResponse

        return HTMLResponse("<p>hi", headers={"Content-Security-Policy": "default-src 'self'"})

    return app


def client_of(app: FastAPI, *, peer: str = "198.51.100.7") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, client=(peer, 4711))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver")


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(build_app()) as opened:
        yield opened


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    problem = response.json()
    assert (response.status_code, problem.get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["title"]
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    return problem


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status", "code"),
    [
        ("POST", "/orders", b"{", JSON, 400, "malformed_body"),
        ("POST", "/orders", b"\xff\xfe\x00", JSON, 400, "malformed_body"),
        ("POST", "/orders", b"[" * 100_000, JSON, 400, "malformed_body"),
        ("POST", "/orders", b"", JSON, 422, "invalid_input"),
        ("POST", "/orders", b"[]", JSON, 422, "invalid_input"),
        ("POST", "/orders", b'{"name": 3}', JSON, 422, "invalid_input"),
        (
            "POST",
            "/orders",
            b'{"name": "a", "count": 1}',
            {"content-type": "text/plain"},
            415,
            "unsupported_media_type",
        ),
        (
            "POST",
            "/orders",
            b"name=a&count=1",
            {"content-type": "application/x-www-form-urlencoded"},
            415,
            "unsupported_media_type",
        ),
        ("POST", "/orders", b'{"name": "a", "count": 1}', {}, 415, "unsupported_media_type"),
        (
            "POST",
            "/upload",
            b"--x\r\nnonsense",
            {"content-type": "multipart/form-data; boundary=x"},
            422,
            "invalid_input",
        ),
        ("POST", "/upload", b"", {"content-type": "multipart/form-data"}, 400, "malformed_body"),
        ("GET", "/nowhere", None, {}, 404, "not_found"),
        ("GET", "/nul/%00", None, {}, 404, "not_found"),
        ("DELETE", "/orders", None, {}, 405, "method_not_allowed"),
        ("GET", "/teapot", None, {}, 418, "http_418"),
        ("GET", "/busy", None, {}, 429, "rate_limited"),
        ("GET", "/private", None, {}, 401, "invalid_session"),
        ("GET", "/broken", None, {}, 500, "internal_error"),
        ("GET", "/unreadable", None, {}, 500, "secret_unreadable"),
    ],
)
async def test_every_error_is_a_problem(
    client: httpx.AsyncClient,
    method: str,
    path: str,
    content: bytes | None,
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    assert_problem(await client.request(method, path, content=content, headers=headers), status, code)


async def test_fields_at_fault_are_named_without_repeating_what_was_sent(client: httpx.AsyncClient) -> None:
    problem = assert_problem(
        await client.post("/orders", json={"name": "secret", "count": "swordfish"}), 422, "invalid_input"
    )
    assert [error["field"] for error in problem["errors"]] == ["count"]
    assert "swordfish" not in json.dumps(problem)


def test_the_openapi_document_describes_problems() -> None:
    document = build_app().openapi()
    for path in document["paths"].values():
        for operation in path.values():
            assert "422" not in operation["responses"]
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in json.dumps(document)
    assert set(document["components"]["schemas"]["Problem"]["required"]) == {"type", "title", "status", "code"}


async def test_errors_keep_their_headers_and_members(client: httpx.AsyncClient) -> None:
    limited = await client.get("/busy")
    assert limited.headers["retry-after"] == "3"
    assert limited.json()["scope"] == "visitor"
    assert (await client.get("/private")).headers["www-authenticate"] == "Bearer"
    assert (await client.delete("/orders")).headers["allow"] == "POST"


@pytest.mark.parametrize(("path", "secret"), [("/broken", "swordfish"), ("/unreadable", "0123")])
async def test_what_went_wrong_inside_is_logged_and_not_told(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, path: str, secret: str
) -> None:
    with caplog.at_level(logging.ERROR):
        response = await client.get(path)
    assert secret not in response.text
    assert response.json()["incident"] in caplog.text
    assert secret in caplog.text
    assert "Traceback" in caplog.text


async def test_half_a_response_is_cut_rather_than_completed(client: httpx.AsyncClient) -> None:
    with pytest.raises(RuntimeError, match="midway"):
        await client.get("/half")


async def test_a_plain_asgi_route_can_answer_with_a_problem() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    await problem_response(errors.InvalidSession())({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert sent[0]["status"] == 401
    assert json.loads(sent[1]["body"])["code"] == "invalid_session"


async def test_who_asks_first_is_refused_without_sending_the_body() -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b"x"

    headers = {"content-length": str((1 << 20) + 1), "expect": "100-continue"}
    async with client_of(build_app()) as client:
        response = await client.post("/raw", content=body(), headers=headers)
    problem = assert_problem(response, 413, "payload_too_large")
    assert problem["max_bytes"] == 1 << 20
    assert response.headers["connection"] == "close"
    assert not read


@pytest.mark.parametrize("path", ["/raw", "/orders"])
async def test_a_streamed_body_is_refused_and_only_so_much_of_it_is_waited_for(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "DISCARD_BYTES", 65536 * 10)
    produced = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(1000):
            produced += 1
            yield b" " * 65536

    async with client_of(build_app()) as client:
        response = await client.post(path, content=body(), headers=JSON)
    assert_problem(response, 413, "payload_too_large")
    assert produced == 17 + 10


async def test_limits_go_by_path_and_the_longest_prefix_counts(client: httpx.AsyncClient) -> None:
    assert (await client.post("/upload", files={"file": b"x" * 2000})).json() == 2000
    assert_problem(await client.post("/upload", files={"file": b"x" * 5000}), 413, "payload_too_large")
    assert (await client.post("/upload/small", content=b"x" * 10)).json() == 10
    assert_problem(await client.post("/upload/small", content=b"x" * 11), 413, "payload_too_large")
    assert (await client.post("/raw", content=b"x" * 5000)).json() == 5000


async def test_a_response_keeps_the_headers_it_sets_itself(client: httpx.AsyncClient) -> None:
    assert (await client.get("/styled")).headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert (await client.get("/who")).headers.get_list("content-security-policy") == ["frame-ancestors 'none'"]
    assert (await client.get("/who")).headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in (await client.get("/who")).headers
    async with client_of(build_app(configured_public_url="https://chat.example")) as secure:
        assert "strict-transport-security" in (await secure.get("/who")).headers


async def test_request_ids_differ(client: httpx.AsyncClient) -> None:
    first, second = [(await client.get("/who")).headers["x-request-id"] for _ in range(2)]
    assert first != second


TRUSTED = ("10.0.0.0/8", "2001:db8:ffff::/48")


@pytest.mark.parametrize(
    ("peer", "forwarded", "proto", "host", "scheme"),
    [
        ("198.51.100.7", None, None, "198.51.100.7", "http"),
        ("198.51.100.7", "203.0.113.9", "https", "198.51.100.7", "http"),
        ("10.0.0.1", "203.0.113.9", "https", "203.0.113.9", "https"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9", None, "203.0.113.9", "http"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9, 10.2.2.2", "https", "203.0.113.9", "https"),
        ("10.0.0.1", "10.3.3.3, 10.2.2.2", None, "10.3.3.3", "http"),
        ("10.0.0.1", "203.0.113.9, nonsense, 10.2.2.2", None, "10.2.2.2", "http"),
        ("10.0.0.1", "nonsense", None, "10.0.0.1", "http"),
        ("10.0.0.1", "203.0.113.9:8443", None, "203.0.113.9", "http"),
        ("10.0.0.1", "[2001:db8::5]:8443", None, "2001:db8::5", "http"),
        ("10.0.0.1", "2001:DB8::5", None, "2001:db8::5", "http"),
        ("10.0.0.1", "::ffff:203.0.113.9", None, "203.0.113.9", "http"),
        ("::ffff:10.0.0.1", "203.0.113.9", None, "203.0.113.9", "http"),
        ("2001:db8:ffff::1", "203.0.113.9", "gopher", "203.0.113.9", "http"),
        ("10.0.0.1", "127.0.0.1", None, "127.0.0.1", "http"),
    ],
)
def test_only_trusted_proxies_are_believed(
    peer: str, forwarded: str | None, proto: str | None, host: str, scheme: str
) -> None:
    headers = []
    if forwarded:
        headers.append((b"x-forwarded-for", forwarded.encode()))
    if proto:
        headers.append((b"x-forwarded-proto", proto.encode()))
    scope = {"type": "http", "scheme": "http", "client": (peer, 1), "headers": headers}
    found, found_scheme = resolve(scope, tuple(ip_network(network) for network in TRUSTED))
    assert (found.host, found_scheme) == (host, scheme)
    assert not found.is_loopback


async def test_routes_see_the_real_address() -> None:
    app = build_app(trusted_proxies=TRUSTED)
    async with client_of(app, peer="10.1.1.1") as proxied:
        answer = await proxied.get("/who", headers={"x-forwarded-for": "203.0.113.9", "x-forwarded-proto": "https"})
    assert answer.json() == {"host": "203.0.113.9", "scheme": "https", "loopback": False}
    async with client_of(app, peer="::1") as local:
        assert (await local.get("/who", headers={"x-forwarded-for": "203.0.113.9"})).json() == {
            "host": "::1",
            "scheme": "http",
            "loopback": True,
        }


def test_a_server_without_addresses_still_gives_a_key() -> None:
    assert resolve({"type": "http", "headers": [], "client": None}, ())[0].host == "unknown"


def test_cursors_come_back_as_they_went() -> None:
    cursor = encode_cursor("thr_01", 42, "ünïcode")
    assert decode_cursor(cursor, str, int, str) == ("thr_01", 42, "ünïcode")
    assert cursor.replace("-", "").replace("_", "").isalnum()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "!",
        "e30",
        "W10",
        "bnVsbA",
        "WzEsMl0",
        "W3RydWVd",
        "WyJhIl0=",
        "WzFlNDAwXQ",
        "x" * 2000,
        "W1tbW1td",
        "WyJcdWQ4MDAiXQ",
        "é",
        encode_cursor(1 << 63),
        encode_cursor(1, 2),
    ],
)
def test_a_cursor_that_is_not_ours_is_refused(cursor: str) -> None:
    with pytest.raises(errors.InvalidCursor):
        decode_cursor(cursor, int)


@pytest.mark.parametrize("cursor", ["WyJcdWQ4MDAiXQ", "WyJcdTAwMDAiXQ", encode_cursor(1)])
def test_a_cursor_with_text_that_no_database_takes_is_refused(cursor: str) -> None:
    with pytest.raises(errors.InvalidCursor):
        decode_cursor(cursor, str)


def test_a_page_says_where_the_next_begins() -> None:
    assert Page[Order](data=[Order(name="a", count=1)], next_cursor="abc").model_dump() == {
        "data": [{"name": "a", "count": 1}],
        "next_cursor": "abc",
    }
