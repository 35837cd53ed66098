"""Items of a conversation that nobody said: written where a running Stonechat keeps them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from stonechat.db.embedded import EmbeddedPostgres
from stonechat.local import DATABASE_NAME
from support.running import Running

WHEN = "2026-11-22T12:00:00Z"


def item(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """An item of the protocol, without its thread."""
    return {"id": name, "type": kind, "created_at": WHEN} | fields


def user_message(name: str, text: str, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": text}]
    return item("user_message", name, **{"content": content, "attachments": [], "inference_options": {}} | fields)


def assistant_message(name: str, text: str, sources: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    annotations = [{"type": "annotation", "source": source, "index": len(text)} for source in sources]
    return item("assistant_message", name, content=[{"type": "output_text", "text": text, "annotations": annotations}])


@asynccontextmanager
async def _database(running: Running) -> AsyncIterator[asyncpg.Connection]:
    postgres = EmbeddedPostgres(running.data_dir / "postgres")
    address = await asyncio.to_thread(postgres.acquire)
    try:
        connection = await asyncpg.connect(address.url(DATABASE_NAME))
        try:
            yield connection
        finally:
            await connection.close()
    finally:
        await asyncio.to_thread(postgres.release)


async def add_history(running: Running, tenant_id: str, items: Sequence[Mapping[str, Any]]) -> str:
    """Put the items at the end of the tenant's newest thread; returns its id."""
    async with _database(running) as connection:
        thread = await connection.fetchrow(
            "select thread_id, user_id from threads where tenant_id = $1 order by seq desc limit 1", tenant_id
        )
        assert thread is not None, "somebody must have begun the thread"
        thread_id = str(thread["thread_id"])
        await connection.executemany(
            "insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at)"
            " values ($1, $2, $3, $4, $5, $6, now())",
            [
                (
                    tenant_id,
                    thread_id,
                    each["id"],
                    thread["user_id"],
                    each["type"],
                    json.dumps({**each, "thread_id": thread_id}),
                )
                for each in items
            ],
        )
        return thread_id


async def add_threads(running: Running, tenant_id: str, titles: Sequence[str], *, prefix: str) -> None:
    """Empty threads with these titles, of the visitor who has the tenant's newest one."""
    async with _database(running) as connection:
        await connection.executemany(
            "insert into threads (tenant_id, thread_id, user_id, agent_id, title, created_at)"
            " select tenant_id, $2, user_id, agent_id, $3, now() from threads where tenant_id = $1 order by seq desc limit 1",
            [(tenant_id, f"thr_{prefix}_{at}", title.replace("\0", "")) for at, title in enumerate(titles)],
        )
