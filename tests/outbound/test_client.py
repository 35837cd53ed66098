"""What the guarded client does where it may go: against real servers on the loopback, which the tests allow."""

import asyncio
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from stonechat.errors import InvalidInput, PayloadTooLarge, TargetNotAllowed, UpstreamFailed, UpstreamTimedOut
from stonechat.outbound import policy
from stonechat.outbound.client import OutboundClient
from support.loopback import Loopback, Received, certificate_for, plain, serve
from support.outbound import PUBLIC, TLS, CannedBackend, TableResolver

LOOPBACK = [ip_network("127.0.0.0/8")]
SECRETS = {"Authorization": "Bearer s3cret", "X-Api-Key": "s3cret", "Cookie": "a=s3cret", "Webhook-Signature": "s3cret"}


def client_for(resolver: TableResolver | None = None, *, ssl_context: ssl.SSLContext = TLS) -> OutboundClient:
    resolver = resolver or TableResolver({"one.test": ["127.0.0.1"], "two.test": ["127.0.0.1"]})
    return OutboundClient(resolver=resolver, allowed_networks=LOOPBACK, ssl_context=ssl_context)


async def get(url: str, **options: Any) -> Any:
    client = client_for()
    try:
        return await client.request("GET", url, allow_http=True, **options)
    finally:
        await client.aclose()


async def test_a_request_arrives_as_it_was_made_and_the_answer_comes_back() -> None:
    async with serve(plain(b"hello", status=201, headers={"X-Kind": "test"})) as server:
        client = client_for()
        answer = await client.request(
            "POST", f"{server.url}/a?b=c", json={"é": 1}, headers={"X-Mine": "yes"}, allow_http=True
        )
        await client.aclose()
    assert (answer.status, answer.content, answer.headers["x-kind"]) == (201, b"hello", "test")
    assert answer.url == f"{server.url}/a?b=c"
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/a?b=c")
    assert json.loads(request.body) == {"é": 1}
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-mine"] == "yes"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["user-agent"].startswith("stonechat/")


async def test_statuses_of_failure_are_answers() -> None:
    async with serve(plain(b"no", status=503)) as server:
        assert (await get(server.url)).status == 503


async def test_the_host_cannot_be_named_by_a_header() -> None:
    async with serve(plain()) as server:
        await get(server.url, headers={"Host": "internal.example", "Proxy-Authorization": "x", "Upgrade": "h2c"})
    [request] = server.requests
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert not {"proxy-authorization", "upgrade"} & request.headers.keys()


@pytest.mark.parametrize("headers", [{"X": "a\r\nY: b"}, {"X\r\nY": "b"}, {"X": "ä"}, {"X": "a\0"}])
async def test_headers_that_would_break_the_request_are_not_sent(headers: dict[str, str]) -> None:
    async with serve(plain()) as server:
        with pytest.raises(InvalidInput):
            await get(server.url, headers=headers)
    assert server.requests == []


async def test_no_cookie_is_kept_and_no_proxy_or_login_of_the_environment_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password s3cret")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serve(plain(headers={"Set-Cookie": "a=b; Path=/"})) as server:
        client = client_for()
        for _ in range(2):
            await client.request("GET", server.url, allow_http=True)
        async with client.httpx_client(server.url, allow_http=True) as sdk:
            for _ in range(2):
                await sdk.get("/x")
        await client.aclose()
    assert len(server.requests) == 4
    assert all(not {"cookie", "authorization"} & request.headers.keys() for request in server.requests)


# Redirects


async def hop_down(request: Received, writer: asyncio.StreamWriter) -> None:
    """`/3` leads to `/2`, and so on to `/0`, which answers."""
    left = int(request.path.strip("/"))
    writer.write(plain(b"there") if left == 0 else plain(status=302, headers={"Location": f"/{left - 1}"}))


async def test_redirects_are_followed_only_when_asked_and_only_so_far() -> None:
    async with serve(hop_down) as server:
        assert (await get(f"{server.url}/3")).status == 302
        answer = await get(f"{server.url}/3", follow_redirects=3)
        assert (answer.content, answer.url) == (b"there", f"{server.url}/0")
        with pytest.raises(UpstreamFailed, match="too often"):
            await get(f"{server.url}/3", follow_redirects=2)


@pytest.mark.parametrize(
    ("status", "method", "then", "with_body"),
    [
        (301, "POST", "GET", False),
        (302, "POST", "GET", False),
        (303, "PUT", "GET", False),
        (303, "HEAD", "HEAD", False),
        (307, "POST", "POST", True),
        (308, "PUT", "PUT", True),
        (302, "DELETE", "DELETE", False),
    ],
)
async def test_methods_and_bodies_change_as_browsers_change_them(
    status: int, method: str, then: str, with_body: bool
) -> None:
    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        moved = plain(status=status, headers={"Location": "/there"})
        writer.write(plain() if request.path == "/there" else moved)

    content = None if method in {"HEAD", "DELETE"} else b"body"
    async with serve(answer) as server:
        client = client_for()
        await client.request(method, server.url, content=content, headers=SECRETS, follow_redirects=1, allow_http=True)
        await client.aclose()
    second = server.requests[1]
    assert (second.method, second.body) == (then, b"body" if with_body else b"")
    assert second.headers["authorization"] == "bearer s3cret"  # the same origin


async def test_secrets_do_not_follow_a_redirect_to_another_origin() -> None:
    async with serve(plain(b"elsewhere")) as other:
        moved = plain(status=302, headers={"Location": f"http://two.test:{other.port}/x"})
        async with serve(moved) as server:
            sent = SECRETS | {"Accept-Language": "de"}
            answer = await get(f"http://one.test:{server.port}/", headers=sent, follow_redirects=1)
    assert answer.content == b"elsewhere"
    assert "s3cret" in str(server.requests[0].headers)
    assert "s3cret" not in str(other.requests[0].headers)
    assert other.requests[0].headers["accept-language"] == "de"
    assert other.requests[0].headers["host"] == f"two.test:{other.port}"


async def test_another_port_is_another_origin() -> None:
    async with serve(plain()) as other, serve(plain(status=307, headers={"Location": f"{other.url}/"})) as server:
        await get(server.url, headers=SECRETS, follow_redirects=1)
    assert "s3cret" not in str(other.requests[0].headers)


async def test_a_body_does_not_follow_a_redirect_to_another_origin() -> None:
    async with serve(plain()) as other, serve(plain(status=307, headers={"Location": f"{other.url}/"})) as server:
        client = client_for()
        with pytest.raises(TargetNotAllowed, match="another site"):
            await client.request("POST", server.url, content=b"s3cret", follow_redirects=1, allow_http=True)
        await client.aclose()
    assert other.requests == []


async def test_a_redirect_does_not_leave_encryption() -> None:
    backend = CannedBackend(plain(status=302, headers={"Location": "http://shop.example/"}))
    client = OutboundClient(resolver=TableResolver({"shop.example": [PUBLIC]}), backend=backend, ssl_context=TLS)
    with pytest.raises(TargetNotAllowed, match="not encrypted"):
        await client.request("GET", "https://shop.example/", follow_redirects=1, allow_http=True)


# Bounds


async def test_an_answer_that_says_it_is_too_large_is_not_read() -> None:
    async with serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") as server:
        with pytest.raises(PayloadTooLarge, match="1,000 bytes"):
            await get(server.url, max_bytes=1000)


async def test_the_size_of_what_is_not_sent_does_not_matter() -> None:
    async with serve(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n") as server:
        client = client_for()
        answer = await client.request("HEAD", server.url, max_bytes=1000, allow_http=True)
        await client.aclose()
    assert answer.headers["content-length"] == "1001"


async def write_for_ever(_request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        await writer.drain()


async def test_an_endless_body_is_cut_off() -> None:
    async with serve(write_for_ever) as server:
        with pytest.raises(PayloadTooLarge):
            await get(server.url, max_bytes=1_000_000)


async def test_an_exact_fit_is_taken() -> None:
    async with serve(plain(b"x" * 1000)) as server:
        assert len((await get(server.url, max_bytes=1000)).content) == 1000


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_answers_are_unpacked(coding: str, compress: Any) -> None:
    async with serve(plain(compress(b"hello" * 100), headers={"Content-Encoding": coding})) as server:
        assert (await get(server.url)).content == b"hello" * 100
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_small_answer_that_unpacks_into_a_large_one_is_cut_off(coding: str, compress: Any) -> None:
    bomb = compress(b"\0" * 50_000_000)
    assert len(bomb) < 100_000
    async with serve(plain(bomb, headers={"Content-Encoding": coding})) as server:
        client = client_for()
        async with client.stream("GET", server.url, max_bytes=3_000_000, allow_http=True) as answer:
            pieces = answer.aiter_bytes()
            taken = sum([len(await anext(pieces)) for _ in range(2)])
            with pytest.raises(PayloadTooLarge):
                await answer_to_the_end(pieces)
        await client.aclose()
    assert 0 < taken <= 3_000_000


@pytest.mark.parametrize("coding", ["gzip, gzip", "br", "zstd", "gzip, br", "compress", "x-unknown", "identity, gzip"])
async def test_compression_that_was_not_asked_for_is_refused(coding: str) -> None:
    async with serve(plain(b"x", headers={"Content-Encoding": coding})) as server:
        with pytest.raises(UpstreamFailed, match="compressed"):
            await get(server.url)


async def test_broken_compression_is_a_failure_of_theirs() -> None:
    async with serve(plain(b"not gzip", headers={"Content-Encoding": "gzip"})) as server:
        with pytest.raises(UpstreamFailed):
            await get(server.url)


async def answer_to_the_end(pieces: AsyncIterator[bytes]) -> None:
    async for _ in pieces:
        pass


async def drip(writer: asyncio.StreamWriter, start: bytes, drop: bytes) -> None:
    writer.write(start)
    while True:
        writer.write(drop)
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        (b"", b"HTTP/1.1 103 Early\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1", b"0"),
    ],
    ids=["status", "headers", "informational", "body", "chunks", "chunk size"],
)
async def test_an_answer_that_drips_is_given_up(start: bytes, drop: bytes) -> None:
    """Each byte comes within any limit between two reads; only the limit on the whole ends it."""

    async def answer(_request: Received, writer: asyncio.StreamWriter) -> None:
        await drip(writer, start, drop)

    async with serve(answer) as server:
        with pytest.raises((UpstreamTimedOut, UpstreamFailed)):
            await get(server.url, timeout=0.3)


async def test_silence_is_given_up() -> None:
    async def say_nothing(_request: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serve(say_nothing) as server:
        with pytest.raises(UpstreamTimedOut, match="in time"):
            await get(server.url, timeout=0.2)


async def test_slow_redirects_share_one_limit() -> None:
    async def again(_request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.write(plain(status=302, headers={"Location": "/again"}))

    async with serve(again) as server:
        with pytest.raises(UpstreamTimedOut):
            await get(server.url, timeout=0.35, follow_redirects=10)
    assert len(server.requests) < 10


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: yes\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["ssh", "binary", "long header", "many headers", "two lengths", "negative", "bad chunk", "upgrade"],
)
async def test_what_is_not_proper_http_is_a_failure_of_theirs(answer: bytes) -> None:
    async with serve(answer) as server:
        with pytest.raises(UpstreamFailed):
            await get(server.url, timeout=5)


async def test_a_truncated_answer_is_a_failure_of_theirs() -> None:
    async def truncate(_request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        writer.close()

    async with serve(truncate) as server:
        with pytest.raises(UpstreamFailed):
            await get(server.url)


async def test_a_closed_port_is_said_plainly() -> None:
    async with serve(b"") as server:
        port = server.port
    with pytest.raises(UpstreamFailed, match="could not be reached"):
        await get(f"http://127.0.0.1:{port}/")


async def test_a_slow_name_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_host: str) -> list[str]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(policy, "RESOLVE_SECONDS", 0.05)
    client = OutboundClient(resolver=never, ssl_context=TLS)
    with pytest.raises(UpstreamTimedOut, match="resolved in time"):
        await client.request("GET", "https://shop.example/")


async def test_an_unknown_name_is_said_plainly() -> None:
    with pytest.raises(UpstreamFailed, match="could not be resolved"):
        await get("http://unknown.test/")


async def test_the_systems_resolver_is_asked_by_default() -> None:
    async with serve(plain(b"ok")) as server:
        client = OutboundClient(allowed_networks=[*LOOPBACK, ip_network("::1/128")], ssl_context=TLS)
        answer = await client.request("GET", f"http://localhost:{server.port}/", allow_http=True)
        await client.aclose()
    assert answer.content == b"ok"


# Connections


async def test_a_kept_connection_is_used_again_without_another_look_up() -> None:
    resolver = TableResolver({"one.test": [["127.0.0.1"], ["10.0.0.1"]]})
    async with serve(plain(b"ok")) as server:
        client = client_for(resolver)
        for _ in range(3):
            await client.request("GET", f"http://one.test:{server.port}/", allow_http=True)
        await client.aclose()
    assert (server.connections, resolver.asked) == (1, ["one.test"])


async def test_the_next_address_is_tried_when_one_is_dead() -> None:
    resolver = TableResolver({"one.test": ["127.0.0.2", "127.0.0.1"]})
    async with serve(plain(b"ok")) as server:
        client = client_for(resolver)
        answer = await client.request("GET", f"http://one.test:{server.port}/", allow_http=True)
        await client.aclose()
    assert answer.content == b"ok"


async def test_leaving_a_stream_early_closes_its_connection() -> None:
    async with serve(write_for_ever) as server:
        client = client_for()
        for _ in range(2):
            async with client.stream("GET", server.url, allow_http=True) as answer:
                assert await anext(answer.aiter_bytes())
        assert server.connections == 2
        await client.aclose()


async def test_tls_is_for_the_name_though_the_connection_is_to_the_checked_address(tmp_path: Path) -> None:
    server_tls, client_tls = certificate_for("one.test", tmp_path)
    names: list[str | None] = []
    server_tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with serve(plain(b"ok"), tls=server_tls) as server:
        client = client_for(ssl_context=client_tls)
        answer = await client.request("GET", f"https://one.test:{server.port}/")
        with pytest.raises(UpstreamFailed, match="certificate"):
            await client.request("GET", f"https://two.test:{server.port}/")
        with pytest.raises(UpstreamFailed, match="certificate"):
            await client.request("GET", f"https://127.0.0.1:{server.port}/")
        with pytest.raises(UpstreamFailed, match="certificate"):
            await client_for().request("GET", f"https://one.test:{server.port}/")
        await client.aclose()
    assert answer.content == b"ok"
    assert names[:2] == ["one.test", "two.test"]
    assert [request.headers["host"] for request in server.requests] == [f"one.test:{server.port}"]


async def test_plain_text_where_tls_is_expected_is_a_failure_of_theirs() -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(plain(b"ok"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(UpstreamFailed, match="could not be reached"):
            await get(f"https://127.0.0.1:{port}/")


# Vendors' software development kits


def guarded_for(server: Loopback) -> httpx2.AsyncClient:
    return client_for().httpx_client(server.url, allow_http=True, max_bytes=100_000)


def openai_for(http_client: httpx2.AsyncClient, url: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="s3cret", base_url=f"{url}/v1", http_client=http_client, max_retries=0)


async def test_an_sdk_works_through_the_guard() -> None:
    body = b'{"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "us"}]}'
    answer = plain(body, headers={"Content-Type": "application/json"})
    async with serve(answer) as server, guarded_for(server) as guarded:
        models = await openai_for(guarded, server.url).models.list()
    assert [model.id for model in models.data] == ["m"]
    assert server.requests[0].headers["authorization"] == "bearer s3cret"
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_an_sdks_key_follows_no_redirect() -> None:
    async with serve(plain(b"{}")) as other:
        moved = plain(status=307, headers={"Location": f"{other.url}/"})
        async with serve(moved) as server, guarded_for(server) as guarded:
            with pytest.raises(openai.APIStatusError):
                await openai_for(guarded, server.url).models.list()
            with pytest.raises(TargetNotAllowed):
                await guarded.get("/", follow_redirects=True)
    assert other.requests == []


async def test_an_sdk_sees_the_guards_refusal_as_it_is_and_does_not_retry() -> None:
    resolver = TableResolver({"models.example": ["10.0.0.1"]})
    async with OutboundClient(resolver=resolver, ssl_context=TLS).httpx_client("https://models.example/v1") as guarded:
        sdk = openai.AsyncOpenAI(api_key="k", base_url="https://models.example/v1", http_client=guarded, max_retries=2)
        with pytest.raises(TargetNotAllowed):
            await sdk.models.list()
    assert resolver.asked == ["models.example"]


async def test_an_sdk_gets_its_own_kind_of_error_for_what_the_network_does() -> None:
    async with serve(b"nonsense\r\n\r\n") as server, guarded_for(server) as guarded:
        with pytest.raises(openai.APIConnectionError):
            await openai_for(guarded, server.url).models.list()
    async with guarded_for(server) as guarded:  # whose port is closed by now
        with pytest.raises(openai.APIConnectionError):
            await openai_for(guarded, server.url).models.list()


async def test_an_sdk_is_protected_from_answers_without_end() -> None:
    async with serve(write_for_ever) as server, guarded_for(server) as guarded:
        with pytest.raises(PayloadTooLarge):
            await guarded.get("/")


async def test_an_sdk_is_protected_from_compressed_answers() -> None:
    compressed = plain(gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
    async with serve(compressed) as server, guarded_for(server) as guarded:
        with pytest.raises(UpstreamFailed, match="compressed"):
            await guarded.get("/")
