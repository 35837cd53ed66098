"""What the room's verbs work with, opened once a process and passed down."""

from __future__ import annotations

from dataclasses import dataclass

from stonechat.db.session import Database
from stonechat.knowledge.files import FileStore, open_file_store
from stonechat.knowledge.index import KnowledgeIndex, open_index
from stonechat.settings import Settings


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The room's dependencies: the truth, the index derived from it, and the originals."""

    database: Database
    index: KnowledgeIndex
    files: FileStore

    async def close(self) -> None:
        """Close the index. The database belongs to whoever opened it."""
        await self.index.close()


def open_knowledge(settings: Settings, database: Database) -> Knowledge:
    """The room as `settings` describe it. Opens no connection and creates no folder yet."""
    return Knowledge(database, open_index(settings), open_file_store(settings.files_url))
