"""Changing what was written by hand: a text, or question-answer pairs. The document stays the same one, and is read anew;
until that is done, what it said before keeps answering."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import EditConflict, InvalidInput, NotFound
from stonechat.files import FileStore
from stonechat.knowledge.browse import WRITTEN
from stonechat.knowledge.models import Document, Source
from stonechat.knowledge.schemas import Pair
from stonechat.knowledge.service import check_size, check_url, replaced_original, reprocess_document, stored_bytes

MAX_PAIRS = 1000
_PAIRS = TypeAdapter(list[Pair])


@dataclass(frozen=True, slots=True)
class Written:
    """A source that somebody wrote, as it stands: a text, or pairs. `seen` names this state of it."""

    source_id: str
    document_id: str
    kind: str
    name: str
    url: str | None
    text: str | None
    pairs: tuple[Pair, ...]
    seen: str


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What to change; None leaves as it is. An empty `url` takes the address away."""

    name: str | None = None
    text: str | None = None
    pairs: Sequence[Pair] | None = None
    url: str | None = None


def pairs_json(pairs: Sequence[Pair]) -> bytes:
    """Pairs as they are stored."""
    return _PAIRS.dump_json(list(pairs), exclude_defaults=True)


async def read_written(session: AsyncSession, actor: Actor, *, files: FileStore, source_id: str) -> Written:
    """A text or pairs, to be changed. `NotFound` for what is fetched or uploaded, as for what is not there."""
    actor.require("read")
    return (await _open(session, actor, files=files, source_id=source_id, lock=False))[2]


async def rewrite_source(
    session: AsyncSession,
    actor: Actor,
    *,
    files: FileStore,
    source_id: str,
    change: Rewriting,
    seen: str | None = None,
) -> Written:
    """Change a text or pairs. With `seen`, only if nobody else did since: `EditConflict`. Raises `NotFound`, `InvalidInput`,
    `PayloadTooLarge`. What is the same already is not read anew."""
    actor.require("write")
    source, document, written = await _open(session, actor, files=files, source_id=source_id, lock=True)
    if seen is not None and seen != written.seen:
        raise EditConflict("Somebody else has changed this in the meantime. Open it again, so that nothing gets lost.")
    data = _content(written, change)
    check_size(data)
    name = change.name or source.name
    url = document.url if change.url is None else check_url(change.url)
    digest = hashlib.sha256(data).digest()
    if (digest, name, url) == (document.sha256, source.name, document.url):
        return written
    source.name = document.title = name
    source.synced_at = clock.now()
    document.title_given, document.url = True, url
    document.bytes, document.sha256 = len(data), digest
    await files.put(actor.tenant_id, replaced_original(document.document_id, digest), data=data)
    await session.flush()
    # An attempt that reads the old bytes right now is superseded by this.
    await reprocess_document(session, actor, document_id=document.document_id)
    await record_audit(session, actor, "source.update", subject_id=source_id)
    return _written(source, document, data)


def _content(written: Written, change: Rewriting) -> bytes:
    if written.kind == "text":
        if change.pairs is not None:
            raise InvalidInput("This is a text: it has no question-answer pairs.", errors=_about("pairs"))
        return (written.text or "" if change.text is None else change.text).encode("utf-8", errors="replace")
    if change.text is not None:
        raise InvalidInput("These are question-answer pairs: change those.", errors=_about("text"))
    pairs = written.pairs if change.pairs is None else change.pairs
    if not 1 <= len(pairs) <= MAX_PAIRS:
        raise InvalidInput(
            f"There must be 1 to {MAX_PAIRS:,} questions. Delete the source instead.", errors=_about("pairs")
        )
    return pairs_json(pairs)


def _about(field: str) -> list[dict[str, str]]:
    return [{"field": field, "message": "does not belong here"}]


async def _open(
    session: AsyncSession, actor: Actor, *, files: FileStore, source_id: str, lock: bool
) -> tuple[Source, Document, Written]:
    source = document = None
    if "\x00" not in source_id:
        chosen = select(Source).where(
            Source.tenant_id == actor.tenant_id, Source.source_id == source_id, Source.kind.in_(WRITTEN)
        )
        source = await session.scalar(chosen.with_for_update() if lock else chosen)
    if source is not None:
        held = select(Document).where(
            Document.tenant_id == actor.tenant_id, Document.source_id == source_id, Document.deleted_at.is_(None)
        )
        document = await session.scalar(held.with_for_update() if lock else held)
    if source is None or document is None:
        raise NotFound("There is no such text and no such question.")
    data = await stored_bytes(files, document)
    return source, document, _written(source, document, data)


def _written(source: Source, document: Document, data: bytes) -> Written:
    is_text = source.kind == "text"
    return Written(
        source.source_id,
        document.document_id,
        source.kind,
        source.name,
        document.url,
        data.decode("utf-8", errors="replace") if is_text else None,
        () if is_text else tuple(_PAIRS.validate_python(json.loads(data))),
        document.sha256.hex(),
    )
