"""Everything that is kept of one visitor, as one JSON document, a page at a time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import select

from stonechat import clock
from stonechat.chat import models
from stonechat.chat.attachments import Attachments
from stonechat.chat.codec import HIDDEN_KINDS
from stonechat.chat.reasons import reasons_of
from stonechat.db.session import Database
from stonechat.identity.models import User
from stonechat.privacy.visitor import Visitor

MAX_THREADS = 2_000
MAX_BYTES = 64 * 1024 * 1024
"""Of the document, give or take one page; what is over is left out, and `truncated` says so."""
PAGE_THREADS, PAGE_ITEMS = 50, 200


async def export_visitor(database: Database, visitor: Visitor, *, attachments: Attachments) -> AsyncIterator[bytes]:
    """The document in pieces: who the visitor is to us, and their conversations, the newest first.

    `{"exported_at", "user", "conversations": [{"id", "title", ..., "items", "feedback"}], "truncated"}`. Items have the
    protocol's shapes, links to files are good for an hour or two. No connection is held between two pieces.
    """
    head = {"exported_at": clock.now().isoformat(), "user": await _user(database, visitor)}
    yield (json.dumps(head, ensure_ascii=False)[:-1] + ', "conversations": [').encode()
    written, threads, after, more = 0, 0, None, True
    while more and threads < MAX_THREADS and written < MAX_BYTES:
        page = await _threads(database, visitor, before=after)
        more = len(page) > PAGE_THREADS
        for thread in page[:PAGE_THREADS]:
            after = thread.seq
            threads += 1
            async for piece in _conversation(database, visitor, thread, attachments=attachments, first=threads == 1):
                written += len(piece)
                yield piece
                if written >= MAX_BYTES:
                    break
            yield b"]}"
            if written >= MAX_BYTES:
                more = True
                break
    yield b'], "truncated": true}' if more else b'], "truncated": false}'


async def _user(database: Database, visitor: Visitor) -> dict[str, Any]:
    async with database.tenant(visitor.tenant_id, user_id=visitor.user_id) as session:
        row = await session.scalar(
            select(User).where(User.tenant_id == visitor.tenant_id, User.user_id == visitor.user_id)
        )
    if row is None:
        return {"id": visitor.user_id}
    return {
        "id": row.user_id,
        "verified": row.verified,
        "external_id": row.external_id,
        "name": row.name,
        "email": row.email,
        "attributes": row.attributes,
        "created_at": row.created_at.isoformat(),
        "last_seen_at": row.last_seen_at.isoformat(),
    }


async def _threads(database: Database, visitor: Visitor, *, before: int | None) -> Sequence[models.Thread]:
    row = models.Thread
    chosen = select(row).where(row.tenant_id == visitor.tenant_id, row.user_id == visitor.user_id)
    if before is not None:
        chosen = chosen.where(row.seq < before)
    async with database.tenant(visitor.tenant_id, user_id=visitor.user_id) as session:
        return (await session.scalars(chosen.order_by(row.seq.desc()).limit(PAGE_THREADS + 1))).all()


async def _conversation(
    database: Database, visitor: Visitor, thread: models.Thread, *, attachments: Attachments, first: bool
) -> AsyncIterator[bytes]:
    """The conversation up to, and without, the end of its list of items."""
    head = {
        "id": thread.thread_id,
        "title": thread.title,
        "status": json.loads(thread.status),
        "created_at": thread.created_at.isoformat(),
        "updated_at": thread.updated_at.isoformat(),
        "feedback": await _feedback(database, visitor, thread.thread_id),
    }
    yield (("" if first else ", ") + json.dumps(head, ensure_ascii=False)[:-1] + ', "items": [').encode()
    row, after = models.ThreadItem, 0
    while True:
        chosen = select(row.seq, row.data).where(
            row.tenant_id == visitor.tenant_id,
            row.user_id == visitor.user_id,
            row.thread_id == thread.thread_id,
            row.kind.not_in(HIDDEN_KINDS),
            row.seq > after,
        )
        async with database.tenant(visitor.tenant_id, user_id=visitor.user_id) as session:
            rows = (await session.execute(chosen.order_by(row.seq).limit(PAGE_ITEMS))).all()
        items = [json.loads(data) for _, data in rows]
        attachments.link_items(visitor.tenant_id, visitor.user_id, items)
        if rows:
            yield (", " if after else "").encode() + ", ".join(json.dumps(item) for item in items).encode()
            after = rows[-1].seq
        if len(rows) < PAGE_ITEMS:
            return


async def _feedback(database: Database, visitor: Visitor, thread_id: str) -> list[dict[str, str]]:
    row = models.Feedback
    chosen = select(row.item_id, row.kind).where(
        row.tenant_id == visitor.tenant_id, row.user_id == visitor.user_id, row.thread_id == thread_id
    )
    async with database.tenant(visitor.tenant_id, user_id=visitor.user_id) as session:
        rows = (await session.execute(chosen.order_by(row.created_at).limit(1_000))).all()
        judged = {str(item_id): str(kind) for item_id, kind in rows}
        reasons = await reasons_of(session, visitor.tenant_id, thread_id=thread_id, judged=judged)
    return [
        {"item_id": item_id, "kind": kind} | ({"reason": reasons[item_id]} if item_id in reasons else {})
        for item_id, kind in rows
    ]
