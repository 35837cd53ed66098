"""A platform in this process whose assistants take files; visitors who attach them; and files that mean harm."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import ids
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.chat.attachments import Attachments
from stonechat.chat.uploading import Uploads
from stonechat.identity.caller import Caller
from stonechat.settings import Settings
from support.chat import decode
from support.postgres import TestDatabase

ORIGIN = "https://shop.example"
MEGABYTE = 1024 * 1024
PLATFORM = "http://platform.example"


@dataclass
class Visitor:
    """Someone with a session."""

    client: httpx.AsyncClient
    caller: Caller
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Origin": ORIGIN}

    async def ask(self, kind: str, **params: Any) -> httpx.Response:
        return await self.client.post("/chatkit", json={"type": kind, "params": params}, headers=self.headers)

    async def announce(self, name: str, size: int, mime_type: str = "text/plain") -> dict[str, Any]:
        answer = await self.ask("attachments.create", name=name, size=size, mime_type=mime_type)
        assert answer.status_code == 200, answer.text
        made: dict[str, Any] = answer.json()
        return made

    async def put(self, attachment: dict[str, Any], content: Any, **headers: str) -> httpx.Response:
        there = attachment["upload_descriptor"]
        assert there["method"] == "PUT"
        return await self.client.put(there["url"], content=content, headers=there["headers"] | headers)

    async def attach(self, name: str, data: bytes, mime_type: str = "text/plain") -> dict[str, Any]:
        """Announce and upload."""
        attachment = await self.announce(name, len(data), mime_type)
        answer = await self.put(attachment, data)
        assert answer.status_code == 200, answer.text
        return attachment

    async def say(self, words: str, *attachments: str, thread: str | None = None) -> list[dict[str, Any]]:
        """The events of a turn."""
        answer = await self.send(words, *attachments, thread=thread)
        assert answer.status_code == 200, answer.text
        return decode(answer.content)

    async def send(self, words: str, *attachments: str, thread: str | None = None) -> httpx.Response:
        content = [{"type": "input_text", "text": words}]
        message = {"content": content, "attachments": list(attachments), "inference_options": {}}
        if thread is None:
            return await self.ask("threads.create", input=message)
        return await self.ask("threads.add_user_message", thread_id=thread, input=message)


@dataclass
class UploadSite:
    app: FastAPI
    services: Services
    client: httpx.AsyncClient
    files: Path
    """Where the bytes are."""
    _tenants: list[UUID] = field(default_factory=list)

    @property
    def attachments(self) -> Attachments:
        return self.uploads.attachments

    @property
    def uploads(self) -> Uploads:
        return self.services.chat.uploads

    async def tenant(self) -> UUID:
        tenant_id = ids.new_tenant_id()
        async with self.services.database.tenant(tenant_id) as session:
            await session.execute(
                text("insert into tenants (tenant_id, name) values (:id, 'A shop')"), {"id": tenant_id}
            )
        return tenant_id

    async def agent(self, tenant_id: UUID, **config: Any) -> str:
        """A published agent that takes files, unless the configuration says otherwise."""
        whole = {"name": "Helper", "model": "extractive", "attachments": {"enabled": True}} | config
        values = {"tenant": tenant_id, "agent": ids.new_id("agt"), "config": json.dumps(whole)}
        async with self.services.database.tenant(tenant_id) as session:
            await session.execute(
                text(
                    "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                    "values (:tenant, :agent, 'Helper', cast(:config as jsonb), 1)"
                ),
                values,
            )
            await session.execute(
                text(
                    "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                    "values (:tenant, :agent, 1, cast(:config as jsonb), 'test')"
                ),
                values,
            )
        return str(values["agent"])

    def visitor(self, tenant_id: UUID, agent_id: str, user_id: str | None = None) -> Visitor:
        caller = Caller(tenant_id, user_id or ids.new_id("usr"), agent_id, origin=ORIGIN)
        token, _ = self.services.session_tokens.mint(caller)
        return Visitor(self.client, caller, token)

    async def newcomer(self, **config: Any) -> Visitor:
        """A visitor of a new tenant's new agent."""
        tenant_id = await self.tenant()
        return self.visitor(tenant_id, await self.agent(tenant_id, **config))

    def stored(self, visitor: Visitor) -> list[Path]:
        """The files that are kept for the visitor's tenant."""
        return [path for path in (self.files / visitor.caller.tenant_id.hex).rglob("*") if path.is_file()]


@asynccontextmanager
async def upload_site(database: TestDatabase, folder: Path) -> AsyncIterator[UploadSite]:
    """The application without a worker; its keys are those of `support.assistant.KEYRING`."""
    settings = Settings().model_copy(
        update={
            "data_dir": folder,
            "secret_keys": (SecretStr("a platform key for tests, long enough"),),
            "database_url": database.web_url,
            "database_pool_size": 8,
            "configured_public_url": PLATFORM,
            "configured_ip_requests_per_minute": 100_000,
            "outbound_allowed": ("127.0.0.0/8",),
        }
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url=PLATFORM, timeout=60) as client:
            yield UploadSite(app, app.state.services, client, folder / "files")
        await app.state.drain()


# Pictures


def picture(size: tuple[int, int] = (40, 20), *, kind: str = "PNG", colour: str = "red", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def photograph_with_place() -> bytes:
    """A JPEG that lies on its side, with the place where it was taken, a comment and a profile."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    exif[0x010F] = "SecretCamera"
    exif.get_ifd(0x8825)[1] = "N"
    return picture((60, 30), kind="JPEG", exif=exif, comment=b"SecretComment", icc_profile=b"SecretProfile" * 20)


# Harm


def pixel_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that says it has billions of pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(4096))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def honest_pixel_bomb() -> bytes:
    """A PNG that truly has sixty million pixels, and is small."""
    return picture((10_000, 6_000), colour="black", compress_level=1)


def metadata_bomb() -> bytes:
    """A small picture with a compressed text that unpacks to very much."""
    text_chunk = b"Comment\x00\x00" + _deflated(b"\x00", 128)
    chunk = (
        struct.pack(">I", len(text_chunk)) + b"zTXt" + text_chunk + struct.pack(">I", zlib.crc32(b"zTXt" + text_chunk))
    )
    whole = picture()
    return whole[:33] + chunk + whole[33:]


def zip_bomb(megabytes: int = 400) -> bytes:
    """A Word document whose text unpacks to very much."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            part.write(b"<w:document>")
            for _ in range(megabytes // 4):
                part.write(b"<w:t>" + b" " * (4 * 1024 * 1024))
    return buffer.getvalue()


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, data in files.items():
            made.writestr(name, data)
    return buffer.getvalue()


def pdf_bomb(megabytes: int = 512) -> bytes:
    """A PDF whose one page unpacks, twice, to very much."""
    content = zlib.compress(_deflated(b"BT (x) Tj ET ".ljust(64), megabytes), 9)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 4 0 R>>",
        b"<</Length %d/Filter[/FlateDecode/FlateDecode]>>stream\n%b\nendstream" % (len(content), content),
    ]
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, value in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, value)
    start = len(out)
    out += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return bytes(out + b"trailer\n<</Size 5/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % start)


def _deflated(unit: bytes, megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    block = unit * (1024 * 1024 // len(unit))
    return b"".join(packer.compress(block) for _ in range(megabytes)) + packer.flush()
