"""What goes wrong on the way is a failure of the other side, said plainly."""

import asyncio
from ipaddress import ip_network

import pytest

from stonechat.errors import UpstreamFailed, UpstreamTimedOut
from stonechat.outbound import policy
from stonechat.outbound.client import OutboundClient
from support.loopback import Received, plain, serve
from support.outbound import LOOPBACK, TLS, get


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
