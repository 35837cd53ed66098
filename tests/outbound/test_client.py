"""What the guarded client does where it may go: against real servers on the loopback, which the tests allow."""

import asyncio
import json
from pathlib import Path

import pytest

from stonechat.errors import InvalidInput, UpstreamFailed
from support.loopback import certificate_for, plain, serve
from support.outbound import TableResolver, client_for, get, write_for_ever


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
