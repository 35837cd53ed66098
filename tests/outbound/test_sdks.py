"""Vendors’ software development kits work through the guard, and are protected by it."""

import gzip

import httpx2
import openai
import pytest

from stonechat.errors import PayloadTooLarge, TargetNotAllowed, UpstreamFailed
from stonechat.outbound.client import OutboundClient
from support.loopback import Loopback, plain, serve
from support.outbound import TLS, TableResolver, client_for, write_for_ever


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
