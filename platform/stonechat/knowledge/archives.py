"""Archives: a ZIP becomes the documents in it, each read, cited and failing by itself.

The archive stays as a document without passages of its own, which says what was taken out of it; deleting it deletes
what came out of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.errors import StonechatError, UnsupportedMediaType
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.extractors.office import open_zip, read_part
from stonechat.knowledge.media import MediaType, detect
from stonechat.knowledge.models import Document
from stonechat.knowledge.progress import Report
from stonechat.knowledge.service import MAX_DOCUMENT_BYTES, add_document, bury, check_size

MAX_FILES = 1000
"""Of one archive."""
_NAMED = 10
"""Files that could not be taken, named in the report."""
_LEFT_OUT = ("__MACOSX/", ".")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of an archive."""

    taken: int
    refused: tuple[str, ...]
    """A sentence for each file that was not."""

    def report(self) -> str | None:
        """What to tell people; None if all went well."""
        if not self.refused:
            return None
        more = len(self.refused) - _NAMED
        named = " ".join(self.refused[:_NAMED]) + (f" And {more} more." if more > 0 else "")
        return f"{self.taken} files were taken out, {len(self.refused)} could not be: {named}"


async def unpack(knowledge: Knowledge, archive: Document, *, data: bytes, report: Report) -> Unpacked:
    """Make a document of each file; those that are there already, unchanged, stay; those that are gone, go.

    Raises a `DocumentUnreadable` if the archive cannot be opened. May run twice, and ends in the same state; ends early
    with what `report` raises.
    """
    opened = await asyncio.to_thread(open_zip, data)
    tenant_id, parent_id = archive.tenant_id, archive.document_id
    held = await _children(knowledge, tenant_id, parent_id)
    refused: list[str] = []
    kept: set[str] = set()
    with opened:
        names = list(_files(opened))
        for number, name in enumerate(names):
            await report("files", number, min(len(names), MAX_FILES))
            if number >= MAX_FILES:
                refused.append(f"An archive may hold at most {MAX_FILES} files.")
                break
            try:
                found = await asyncio.to_thread(read_part, opened, name, limit=MAX_DOCUMENT_BYTES)
                body = found or b""
                check_size(body)
                media_type = detect(body, name)
                if media_type is MediaType.ARCHIVE:
                    raise UnsupportedMediaType(f"“{name}” is an archive itself.")
            except StonechatError as error:
                refused.append(_sentence(name, error))
                continue
            kept.add(name)
            if held.get(name) == hashlib.sha256(body).digest():
                continue
            async with knowledge.database.tenant(tenant_id) as session:
                if not await _alive(session, tenant_id, parent_id):
                    return Unpacked(0, ())
                await _bury_children(session, tenant_id, parent_id, names={name})
                await add_document(
                    session,
                    tenant_id,
                    files=knowledge.files,
                    data=body,
                    media_type=media_type,
                    filename=name,
                    source_id=archive.source_id,
                    parent_id=parent_id,
                )
    if gone := set(held) - kept:
        async with knowledge.database.tenant(tenant_id) as session:
            await _bury_children(session, tenant_id, parent_id, names=gone)
    return Unpacked(len(kept), tuple(refused))


def _files(opened: zipfile.ZipFile) -> Iterator[str]:
    for part in opened.infolist():
        path = part.filename.replace("\\", "/")
        hidden = any(step.startswith(_LEFT_OUT) for step in PurePosixPath(path).parts)
        if not part.is_dir() and not hidden and not path.startswith(_LEFT_OUT):
            yield part.filename


def _sentence(name: str, error: StonechatError) -> str:
    detail = (error.detail or error.title).rstrip(".")
    shown = name if len(name) <= 80 else "…" + name[-79:]
    return f"{detail}." if shown in detail else f"“{shown}”: {detail}."


async def _children(knowledge: Knowledge, tenant_id: UUID, parent_id: str) -> dict[str, bytes]:
    """File name → SHA-256 of what was taken out before."""
    async with knowledge.database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Document.filename, Document.sha256).where(
                Document.tenant_id == tenant_id, Document.parent_id == parent_id, Document.deleted_at.is_(None)
            )
        )
        return {str(filename): bytes(digest) for filename, digest in rows}


async def _alive(session: AsyncSession, tenant_id: UUID, document_id: str) -> bool:
    chosen = select(Document.document_id).where(
        Document.tenant_id == tenant_id, Document.document_id == document_id, Document.deleted_at.is_(None)
    )
    return await session.scalar(chosen.with_for_update()) is not None


async def _bury_children(session: AsyncSession, tenant_id: UUID, parent_id: str, *, names: set[str]) -> None:
    chosen = select(Document).where(
        Document.tenant_id == tenant_id,
        Document.parent_id == parent_id,
        Document.filename.in_(names),
        Document.deleted_at.is_(None),
    )
    for child in await session.scalars(chosen.with_for_update()):
        await bury(session, child)
