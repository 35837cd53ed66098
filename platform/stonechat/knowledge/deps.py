"""What the room's verbs work with, opened once a process and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.files import FileStore, open_files
from stonechat.knowledge.embeddings import Embedder
from stonechat.knowledge.index import KnowledgeIndex, open_index
from stonechat.knowledge.layouts import TenantIndex
from stonechat.knowledge.web.access import Pace, WebAccess
from stonechat.outbound.client import OutboundClient
from stonechat.providers.provider import ModelProviders
from stonechat.settings import Settings


@dataclass(frozen=True, slots=True)
class Remote:
    """Models of others, asked with the tenants' own keys: for vectors, and for a second look at what was found."""

    embedder: Embedder
    providers: ModelProviders
    outbound: OutboundClient
    keyring: Keyring
    allow_http: bool = False
    """Whether a reranker may be at `http://`, as on a network of the operator's own."""

    async def aclose(self) -> None:
        """Close the clients."""
        await self.providers.aclose()
        await self.outbound.aclose()


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The room's dependencies: the truth, the index derived from it, and the originals."""

    database: Database
    index: KnowledgeIndex
    files: FileStore
    web: WebAccess = field(default_factory=WebAccess)
    remote: Remote | None = None
    """None where no model is asked: searches go by words alone."""

    async def close(self) -> None:
        """Close the index and the files. The database belongs to whoever opened it."""
        await self.index.close()
        await self.files.aclose()
        await self.web.aclose()
        if self.remote is not None:
            await self.remote.aclose()


def open_knowledge(settings: Settings, database: Database) -> Knowledge:
    """The room as `settings` describe it. Opens no connection and creates no folder yet."""
    web = WebAccess(
        partial(OutboundClient, allowed_networks=settings.outbound_networks), pace=Pace(delay=settings.crawl_delay)
    )
    remote = open_remote(settings, database)
    embedder = remote.embedder if remote is not None else None
    index = TenantIndex(open_index(settings), database, embedder=embedder, layout=settings.index_layout)
    return Knowledge(database, index, open_files(settings), web, remote)


def open_remote(settings: Settings, database: Database) -> Remote | None:
    """The way to the tenants' models, if their keys can be opened. Connects to nothing yet."""
    if not settings.secret_keys:
        return None
    keyring = Keyring([key.get_secret_value() for key in settings.secret_keys])
    outbound = OutboundClient(allowed_networks=settings.outbound_networks)
    allow_http = bool(settings.outbound_networks)
    providers = ModelProviders(
        database,
        keyring=keyring,
        settings=settings,
        http_client=partial(outbound.httpx_client, allow_http=allow_http),
    )
    return Remote(Embedder(database, providers), providers, outbound, keyring, allow_http)
