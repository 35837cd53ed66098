"""A web site on the loopback that looks, to the guarded client, as if it stood on the public internet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpcore2
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.knowledge import sources
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.models import Document, Source
from stonechat.knowledge.schemas import WebSourceIn
from stonechat.knowledge.tasks import job_handlers
from stonechat.knowledge.web import service
from stonechat.knowledge.web.access import Pace, WebAccess
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.runs import SYNC
from stonechat.outbound.client import OutboundClient
from support.outbound import PUBLIC, TLS, TableResolver

BRISK = Pace(delay=0, longest_delay=0.02, page=2, part=5, part_pages=25, retry=(0.0, 0.0))


@dataclass(frozen=True)
class Asked:
    """A request that reached the site."""

    host: str
    path: str
    headers: dict[str, str]


@dataclass
class Reply:
    """What the site answers. A `body` may be a function that writes as it likes."""

    body: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})


def html(words: str, *links: str, title: str = "", head: str = "", **headers: str) -> Reply:
    """A page with a paragraph and links."""
    anchors = "".join(f'<a href="{link}">{number}</a> ' for number, link in enumerate(links))
    page = f"<html><head><title>{title or words}</title>{head}</head><body><nav>{anchors}</nav><p>{words}</p></body></html>"
    return Reply(page.encode(), headers={"Content-Type": "text/html; charset=utf-8"} | headers)


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(b"", status, {"Location": location})


def sitemap(*urls: str, index: bool = False) -> Reply:
    one = "sitemap" if index else "url"
    entries = "".join(f"<{one}><loc>{url.replace('&', '&amp;')}</loc></{one}>" for url in urls)
    root = "sitemapindex" if index else "urlset"
    body = f'<?xml version="1.0"?><{root} xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{entries}</{root}>'
    return Reply(body.encode(), headers={"Content-Type": "application/xml"})


@dataclass
class Site:
    """`pages`: by path, or by host and path. Whatever is not there is a 404."""

    pages: dict[str, Reply | Callable[[Asked], Reply]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    port: int = 0
    at_once: int = 0
    most_at_once: int = 0

    @property
    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def reply(self, asked: Asked) -> Reply:
        found = self.pages.get(f"{asked.host}{asked.path}", self.pages.get(asked.path))
        if found is None:
            return Reply(b"<p>Nothing here.</p>", 404)
        return found if isinstance(found, Reply) else found(asked)


class Mapped(httpcore2.AnyIOBackend):
    """Connects to the site for public addresses, and to nothing else; remembers where it was asked to go."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.connected: list[tuple[str, int]] = []

    async def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        self.connected.append((host, port))
        if host != PUBLIC:
            raise httpcore2.ConnectError(f"nothing at {host}")
        return await super().connect_tcp("127.0.0.1", self._port, *args, **kwargs)


@asynccontextmanager
async def serving(site: Site) -> AsyncIterator[Site]:
    """The site, answering until the context ends."""
    writers: set[asyncio.StreamWriter] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                asked = Asked(headers["host"], head[0].split(" ")[1], headers)
                site.asked.append(asked)
                site.at_once += 1
                site.most_at_once = max(site.most_at_once, site.at_once)
                try:
                    await _answer(site.reply(asked), writer)
                finally:
                    site.at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        for writer in list(writers):
            writer.transport.abort()


async def _answer(reply: Reply, writer: asyncio.StreamWriter) -> None:
    lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in reply.headers.items())]
    if isinstance(reply.body, bytes):
        if reply.status != 304:
            lines.append(f"Content-Length: {len(reply.body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if reply.status == 304 else reply.body))
        await writer.drain()
        return
    writer.write("\r\n".join([*lines, "", ""]).encode())
    await reply.body(writer)


@dataclass
class Crawl:
    """A tenant with a web source, the site it comes from, and the eyes of the network."""

    knowledge: Knowledge
    tenant_id: UUID
    site: Site
    backend: Mapped
    resolver: TableResolver

    async def add(self, url: str, kind: str = "site", **settings: Any) -> str:
        """A source, not yet fetched; its id."""
        body = WebSourceIn.model_validate({"type": kind, "url": url} | settings)
        async with self.knowledge.database.tenant(self.tenant_id) as session:
            made = await service.create_web_source(session, system(self.tenant_id), web=self.knowledge.web, source=body)
        return made.source_id

    async def crawl(self, url: str, kind: str = "site", **settings: Any) -> Source:
        """Add it, and fetch it to the end."""
        return await self.work(await self.add(url, kind, **settings))

    async def again(self, source_id: str) -> Source:
        async with self.knowledge.database.tenant(self.tenant_id) as session:
            await service.sync_source(session, system(self.tenant_id), source_id=source_id)
        return await self.work(source_id)

    async def work(self, source_id: str, *, parts: int = 1000) -> Source:
        """Run jobs of syncs, however long they were to wait, until there are none."""
        for _ in range(parts):
            if not await run_part(self.knowledge.database, self.knowledge, self.tenant_id):
                break
        return await self.source(source_id)

    async def source(self, source_id: str) -> Source:
        async with self.knowledge.database.tenant(self.tenant_id) as session:
            return await sources.get_source(session, system(self.tenant_id), source_id=source_id)

    async def pages(self, source_id: str) -> dict[str, SourcePage]:
        """By address."""
        async with self.knowledge.database.tenant(self.tenant_id) as session:
            source = await sources.get_source(session, system(self.tenant_id), source_id=source_id)
            found: dict[str, SourcePage] = {}
            cursor = None
            while True:
                some, cursor = await service.list_pages(
                    session, system(self.tenant_id), source=source, limit=100, cursor=cursor
                )
                found |= {page.url: page for page in some}
                if cursor is None:
                    return found

    async def states(self, source_id: str) -> dict[str, str]:
        """State, or the code that explains it, by path (with the host, where it is another)."""
        return {
            url.removeprefix("https://shop.example").removeprefix("http://shop.example"): page.code or page.state
            for url, page in (await self.pages(source_id)).items()
        }

    async def documents(self) -> dict[str, Document]:
        """Living documents by address."""
        async with self.knowledge.database.tenant(self.tenant_id) as session:
            from sqlalchemy import select

            rows = await session.scalars(
                select(Document).where(Document.tenant_id == self.tenant_id, Document.deleted_at.is_(None))
            )
            return {str(document.url): document for document in rows}


async def run_part(database: Database, knowledge: Knowledge, tenant_id: UUID) -> bool:
    """Take one waiting sync job of the tenant's from the queue, and run it; False if there is none."""
    async with database.directory() as session:
        row = (
            await session.execute(
                text(
                    "delete from jobs.pgqueuer where id = (select min(id) from jobs.pgqueuer "
                    "where headers->>'tenant' = :tenant and entrypoint = :kind) returning payload"
                ),
                {"tenant": str(tenant_id), "kind": SYNC},
            )
        ).first()
    if row is None:
        return False
    await job_handlers(knowledge)[SYNC](tenant_id, json.loads(row.payload))
    return True


def web_access(
    site: Site, table: Mapping[str, Sequence[str] | list[Sequence[str]]] | None = None, *, pace: Pace = BRISK
) -> tuple[WebAccess, Mapped, TableResolver]:
    """A way to the site under its public names, and to nowhere else."""
    names: dict[str, Any] = {"shop.example": [PUBLIC], "www.shop.example": [PUBLIC], "other.example": [PUBLIC]}
    resolver = TableResolver(names | dict(table or {}))
    backend = Mapped(site.port)
    return (
        WebAccess(lambda: OutboundClient(resolver=resolver, backend=backend, ssl_context=TLS), pace=pace),
        backend,
        resolver,
    )
