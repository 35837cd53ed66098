"""Files in a bucket: signed as Amazon documents it, kept apart by tenant, and honest about outages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from stonechat import ids
from stonechat.errors import InvalidInput, NotFound, Unavailable
from stonechat.files import MAX_FILE_BYTES, S3Access, S3Store, open_file_store, s3
from stonechat.files.sigv4 import EMPTY_SHA256, query_string, signed_headers
from support.fake_s3 import FakeS3, fake_s3

# From “Authenticating Requests: Using the Authorization Header” of the S3 API reference.
DOCUMENTED = S3Access("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
DOCUMENTED_AT = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.fixture
async def store() -> AsyncIterator[tuple[S3Store, FakeS3]]:
    async with fake_s3() as fake:
        opened = open_file_store(fake.url, access=fake.access)
        assert isinstance(opened, S3Store)
        yield opened, fake
        await opened.aclose()


@pytest.mark.parametrize(
    ("path", "headers", "signature"),
    [
        (
            "test.txt",
            {"Range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (f"?{query_string({'prefix': 'J', 'max-keys': '2'})}", {}, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ],
)  # fmt: skip
def test_signatures_are_those_of_the_documentation(path: str, headers: dict[str, str], signature: str) -> None:
    url = f"https://examplebucket.s3.amazonaws.com/{path}"
    signed = signed_headers("GET", url, access=DOCUMENTED, at=DOCUMENTED_AT, sha256=EMPTY_SHA256, headers=headers)
    assert signed["authorization"].endswith(f"Signature={signature}")


async def test_put_get_replace_delete(store: tuple[S3Store, FakeS3], tmp_path: Path) -> None:
    files, fake = store
    tenant_id = ids.new_tenant_id()
    large = tmp_path / "large"
    large.write_bytes(b"0123456789abcdef" * 65536)
    await files.put(tenant_id, "attachments/atc_1", data=b"one")
    await files.put(tenant_id, "attachments/atc_1", data=large)
    assert list(fake.objects) == [f"stonechat/{tenant_id.hex}/attachments/atc_1"]
    assert await files.get(tenant_id, "attachments/atc_1") == large.read_bytes()
    assert b"".join([chunk async for chunk in await files.stream(tenant_id, "attachments/atc_1")]) == large.read_bytes()
    await files.delete(tenant_id, "attachments/atc_1")
    await files.delete(tenant_id, "attachments/atc_1")
    for read in (files.get, files.stream):
        with pytest.raises(NotFound):
            await read(tenant_id, "attachments/atc_1")


async def test_a_tenants_files_go_page_by_page_and_no_one_elses(store: tuple[S3Store, FakeS3]) -> None:
    files, fake = store
    one, two = ids.new_tenant_id(), ids.new_tenant_id()
    for number in range(5):
        await files.put(one, f"a/{number}", data=b"1")
    await files.put(two, "a/0", data=b"2")
    await files.delete_tenant(one)
    assert fake.objects == {f"stonechat/{two.hex}/a/0": b"2"}


async def test_a_busy_store_is_asked_again_and_a_refusal_is_not(
    store: tuple[S3Store, FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, fake = store
    monkeypatch.setattr(s3, "PAUSE_SECONDS", 0)
    tenant_id = ids.new_tenant_id()
    fake.failures = [503, 500]
    await files.put(tenant_id, "a", data=b"kept")
    assert await files.get(tenant_id, "a") == b"kept"
    before = len(fake.server.requests)
    for failures, asked in (([403], 1), ([503] * 3, 3)):
        fake.failures = list(failures)
        with pytest.raises(Unavailable, match="cannot be used right now"):
            await files.get(tenant_id, "a")
        assert len(fake.server.requests) == before + asked
        before += asked


def in_memory(*pieces: bytes, then: asyncio.Event | None = None) -> S3Store:
    """A store whose answers take no time, but for an event that they wait for at their end."""

    async def content() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        if then is not None:
            await then.wait()

    transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=content()))
    return S3Store("s3://shop-files", access=DOCUMENTED, client=httpx2.AsyncClient(transport=transport))


async def test_a_slow_reader_gets_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "DEADLINE_SECONDS", 0.2)
    pieces = [bytes([number]) * s3.CHUNK_BYTES for number in range(3)]
    read = []
    async for chunk in await in_memory(*pieces).stream(ids.new_tenant_id(), "a"):
        await asyncio.sleep(0.1)  # for longer than the limit, in all
        read.append(chunk)
    assert read == pieces


async def _all(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


async def test_a_reader_that_does_not_go_on_gives_the_connection_back(
    store: tuple[S3Store, FakeS3], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, fake = store
    close_later, give_up = s3._close_later, asyncio.Event()

    async def close_when_told(answer: httpx2.Response) -> None:
        await give_up.wait()
        await close_later(answer)

    monkeypatch.setattr(s3, "_close_later", close_when_told)
    monkeypatch.setattr(s3, "READER_SECONDS", 0.0)
    tenant_id = ids.new_tenant_id()
    fake.objects[f"stonechat/{tenant_id.hex}/a"] = bytes(32 * 1024 * 1024)  # more than waits between the two
    pool = files._client._transport._pool  # type: ignore[attr-defined]
    chunks = await files.stream(tenant_id, "a")
    await anext(chunks)
    give_up.set()
    while pool.connections:
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="in the middle"):
        await _all(chunks)


async def test_a_store_that_stops_in_the_middle_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "DEADLINE_SECONDS", 0.02)
    chunks = await in_memory(b"x" * s3.CHUNK_BYTES, then=asyncio.Event()).stream(ids.new_tenant_id(), "a")
    assert len(await anext(chunks)) == s3.CHUNK_BYTES
    with pytest.raises(Unavailable, match="in the middle"):
        await anext(chunks)


async def test_bad_names_sizes_and_settings_are_refused(store: tuple[S3Store, FakeS3]) -> None:
    files, fake = store
    with pytest.raises(InvalidInput):
        await files.put(ids.new_tenant_id(), "../x", data=b"")
    with pytest.raises(InvalidInput):
        await files.put(ids.new_tenant_id(), "x", data=bytes(MAX_FILE_BYTES + 1))
    assert not fake.server.requests
    for url, access in (
        ("s3://shop-files", None),
        ("s3://shop-files", S3Access("", "")),
        ("s3://UPPER", fake.access),
        ("s3://shop-files", S3Access("id", "secret", endpoint="storage.example")),
    ):
        with pytest.raises(Unavailable):
            open_file_store(url, access=access)
