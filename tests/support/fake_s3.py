"""An S3-compatible store on loopback, in memory: objects, listings by prefix, deletion; and outages on demand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from stonechat.files import S3Access
from support.loopback import Loopback, Received, plain, serve

BUCKET = "shop-files"


@dataclass
class FakeS3:
    server: Loopback
    objects: dict[str, bytes] = field(default_factory=dict)
    failures: list[int] = field(default_factory=list)
    """Statuses that the next requests are answered with instead."""

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}/stonechat"

    @property
    def access(self) -> S3Access:
        return S3Access("AKIDEXAMPLE", "a secret key", region="eu-central-1", endpoint=self.server.url)

    def answer(self, request: Received) -> bytes:
        if self.failures:
            return plain(b"<Error/>", status=self.failures.pop(0))
        signed = request.headers["authorization"]  # lower-cased by the loopback
        if not signed.startswith("aws4-hmac-sha256 credential=akidexample/") or "/eu-central-1/s3/" not in signed:
            return plain(status=403)
        if request.headers["x-amz-content-sha256"] != hashlib.sha256(request.body).hexdigest():
            return plain(status=400)
        parts = urlsplit(request.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket != BUCKET:
            return plain(status=404)
        match request.method:
            case "PUT":
                self.objects[key] = request.body
                return plain()
            case "GET" if not key:
                asked = parse_qs(parts.query)
                prefix, after = asked["prefix"][0], asked.get("start-after", [""])[0]
                names = sorted(name for name in self.objects if name.startswith(prefix) and name > after)[
                    :2
                ]  # short pages
                inner = "".join(f"<Contents><Key>{escape(name)}</Key></Contents>" for name in names)
                return plain(f'<ListBucketResult xmlns="http://s3.example/">{inner}</ListBucketResult>'.encode())
            case "GET":
                return plain(self.objects[key]) if key in self.objects else plain(status=404)
            case "DELETE":
                self.objects.pop(key, None)
                return plain(status=204)
            case _:
                return plain(status=405)


@asynccontextmanager
async def fake_s3() -> AsyncIterator[FakeS3]:
    """An empty bucket."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(store.answer(request))
        await writer.drain()

    async with serve(answer) as server:
        store = FakeS3(server)
        yield store
