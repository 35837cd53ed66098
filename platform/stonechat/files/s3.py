"""Files in a bucket of any S3-compatible store, `<prefix>/<tenant id in hex>/<name>`."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import UUID
from xml.etree import ElementTree as ET

import httpx2

from stonechat import clock
from stonechat.errors import NotFound, Unavailable
from stonechat.files.sigv4 import EMPTY_SHA256, S3Access, query_string, signed_headers
from stonechat.files.store import CHUNK_BYTES, MAX_FILE_BYTES, MAX_NAMES, checked_name, size_of

__all__ = ["S3Access", "S3Store"]

ATTEMPTS = 3
"""Each request may be repeated: all of them come to the same when done twice."""
PAUSE_SECONDS = 0.2
DEADLINE_SECONDS = 60.0
"""For an answer to begin, and for waiting in all for the rest of it."""
READER_SECONDS = 600.0
"""For whoever reads a file, after which the connection is taken back: all tenants share them."""
MAX_LISTING_BYTES = 4 * 1024 * 1024
MAX_LISTINGS = 10_000
"""Pages of a thousand names that one tenant's files are deleted in."""
_TIMEOUT = httpx2.Timeout(20.0, connect=5.0)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_BUSY = frozenset({429, 500, 502, 503, 504})


class S3Store:
    """A `FileStore` in a bucket, which must exist. Bytes travel a chunk at a time; their SHA-256 is signed along."""

    def __init__(self, url: str, *, access: S3Access, client: httpx2.AsyncClient | None = None) -> None:
        """`url` is `s3://bucket/prefix`. Raises `Unavailable` if it, or the endpoint, cannot be meant."""
        parts = urlsplit(url)
        prefix = parts.path.strip("/")
        if not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
            raise Unavailable("STONECHAT_FILES_URL looks like s3://bucket/prefix.")
        if prefix:
            checked_name(prefix)
        self._access = access
        self._prefix = f"{prefix}/" if prefix else ""
        if access.endpoint:
            place = urlsplit(access.endpoint)
            if place.scheme not in ("http", "https") or not place.hostname:
                raise Unavailable("STONECHAT_S3_ENDPOINT starts with https:// or http://.")
            # Stores of one's own rarely have a name of their own for each bucket.
            self._base = f"{access.endpoint.rstrip('/')}/{parts.netloc}"
        else:
            self._base = f"https://{parts.netloc}.s3.{access.region}.amazonaws.com"
        self._client = client or httpx2.AsyncClient(timeout=_TIMEOUT, trust_env=False, follow_redirects=False)

    async def put(self, tenant_id: UUID, name: str, *, data: bytes | Path) -> None:
        """See `FileStore.put`."""
        key = self._key(tenant_id, name)
        size = size_of(data)
        sha256 = await asyncio.to_thread(_sha256, data)
        answer = await self._ask("PUT", key, sha256=sha256, body=data, size=size)
        await answer.aclose()

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        """See `FileStore.get`."""
        answer = await self._ask("GET", self._key(tenant_id, name))
        return await _read(answer, MAX_FILE_BYTES)

    async def stream(self, tenant_id: UUID, name: str) -> AsyncIterator[bytes]:
        """See `FileStore.stream`."""
        return _chunks(await self._ask("GET", self._key(tenant_id, name)))

    async def delete(self, tenant_id: UUID, name: str) -> None:
        """See `FileStore.delete`."""
        await self._delete(self._key(tenant_id, name))

    async def names(self, tenant_id: UUID, folder: str, *, after: str = "", limit: int = MAX_NAMES) -> list[str]:
        """See `FileStore.names`."""
        prefix = f"{self._key(tenant_id, folder)}/"
        query = {"list-type": "2", "prefix": prefix, "max-keys": str(min(limit, MAX_NAMES))}
        if after:
            query["start-after"] = prefix + after
        keys = _keys(await _read(await self._ask("GET", "", query=query), MAX_LISTING_BYTES))
        return [key.removeprefix(prefix) for key in keys if key.startswith(prefix)]

    async def delete_tenant(self, tenant_id: UUID) -> None:
        """See `FileStore.delete_tenant`."""
        prefix = f"{self._prefix}{tenant_id.hex}/"
        for _ in range(MAX_LISTINGS):
            answer = await self._ask("GET", "", query={"list-type": "2", "prefix": prefix, "max-keys": "1000"})
            keys = _keys(await _read(answer, MAX_LISTING_BYTES))
            if not keys:
                return
            for key in keys:
                if key.startswith(prefix):
                    await self._delete(key)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _key(self, tenant_id: UUID, name: str) -> str:
        return f"{self._prefix}{tenant_id.hex}/{checked_name(name)}"

    async def _delete(self, key: str) -> None:
        with suppress(NotFound):
            await (await self._ask("DELETE", key)).aclose()

    async def _ask(
        self,
        method: str,
        key: str,
        *,
        query: dict[str, str] | None = None,
        sha256: str = EMPTY_SHA256,
        body: bytes | Path | None = None,
        size: int = 0,
    ) -> httpx2.Response:
        """The answer, its body unread; tried again while the store is busy or away."""
        url = f"{self._base}/{quote(key, safe='/-_.~')}" + (f"?{query_string(query)}" if query else "")
        reason = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS * 2**attempt)
            headers = signed_headers(method, url, access=self._access, at=clock.now(), sha256=sha256)
            if body is not None:
                headers["content-length"] = str(size)
            content = _content(body) if body is not None else None
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    request = self._client.build_request(method, url, headers=headers, content=content)
                    answer = await self._client.send(request, stream=True)
            except (httpx2.HTTPError, OSError, TimeoutError) as error:
                reason = type(error).__name__
                continue
            if answer.is_success:
                return answer
            await answer.aclose()
            if answer.status_code == 404:
                raise NotFound("This file is not in the file store.")
            reason = f"it answered {answer.status_code}"
            if answer.status_code not in _BUSY:
                break
        raise Unavailable(f"The file store cannot be used right now ({reason}).")


def _sha256(data: bytes | Path) -> str:
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    with data.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _content(data: bytes | Path) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    with data.open("rb") as file:  # opening is brief; reading is done elsewhere
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def _chunks(answer: httpx2.Response) -> AsyncIterator[bytes]:
    taken_back = asyncio.create_task(_close_later(answer))
    now, left = asyncio.get_running_loop().time, DEADLINE_SECONDS
    chunks = answer.aiter_bytes(CHUNK_BYTES)
    try:
        while True:
            # Never around a `yield`: the time of a slow reader is not the store's, and the limit would end the reader.
            asked = now()
            async with asyncio.timeout(left):
                chunk = await anext(chunks, None)
            left -= now() - asked
            if chunk is None:
                return
            yield chunk
    except (httpx2.HTTPError, OSError, TimeoutError) as error:
        raise Unavailable("The file store stopped in the middle of a file.") from error
    finally:
        taken_back.cancel()
        await answer.aclose()


async def _close_later(answer: httpx2.Response) -> None:
    await asyncio.sleep(READER_SECONDS)
    await answer.aclose()


async def _read(answer: httpx2.Response, limit: int) -> bytes:
    read = bytearray()
    async for chunk in _chunks(answer):
        read += chunk
        if len(read) > limit:
            await answer.aclose()
            raise Unavailable("The file store sent more than it was given.")
    return bytes(read)


def _keys(listing: bytes) -> list[str]:
    """The names in a page of a listing. Entities, with which XML can grow, are none of S3's."""
    if b"<!" in listing:
        raise Unavailable("The file store sent a listing that cannot be read.")
    try:
        root = ET.fromstring(listing)  # noqa: S314  without declarations there is nothing to expand
    except ET.ParseError as error:
        raise Unavailable("The file store sent a listing that cannot be read.") from error
    return [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == "Key"]
