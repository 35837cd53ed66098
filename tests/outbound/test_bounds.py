"""Answers are bounded: in size, packed and unpacked, and in time."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stonechat.errors import PayloadTooLarge, UpstreamFailed, UpstreamTimedOut
from support.loopback import Received, plain, serve
from support.outbound import client_for, get, write_for_ever


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
