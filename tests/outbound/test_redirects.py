"""Redirects are followed where they may lead, and carry no secrets elsewhere."""

import asyncio

import pytest

from stonechat.errors import TargetNotAllowed, UpstreamFailed
from stonechat.outbound.client import OutboundClient
from support.loopback import Received, plain, serve
from support.outbound import PUBLIC, SECRETS, TLS, CannedBackend, TableResolver, client_for, get


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
