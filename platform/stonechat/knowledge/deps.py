"""What the room's verbs work with, opened once a process and passed down."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from stonechat.db.session import Database
from stonechat.files import FileStore, open_files
from stonechat.knowledge.index import KnowledgeIndex, open_index
from stonechat.knowledge.web.access import Pace, WebAccess
from stonechat.outbound.client import OutboundClient
from stonechat.settings import Settings


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The room's dependencies: the truth, the index derived from it, and the originals."""

    database: Database
    index: KnowledgeIndex
    files: FileStore
    web: WebAccess = field(default_factory=WebAccess)

    async def close(self) -> None:
        """Close the index and the files. The database belongs to whoever opened it."""
        await self.index.close()
        await self.files.aclose()
        await self.web.aclose()


def open_knowledge(settings: Settings, database: Database) -> Knowledge:
    """The room as `settings` describe it. Opens no connection and creates no folder yet."""
    web = WebAccess(
        partial(OutboundClient, allowed_networks=settings.outbound_networks), pace=Pace(delay=settings.crawl_delay)
    )
    return Knowledge(database, open_index(settings), open_files(settings), web)
