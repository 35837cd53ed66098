"""`stonechat reindex`: by a job where a running Stonechat owns the index, else in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from stonechat.db.session import Database
from stonechat.errors import NotFound, Unavailable
from stonechat.knowledge.deps import Knowledge, open_knowledge
from stonechat.knowledge.reindex import (
    ask_reindex,
    begin_anew,
    reindex_state,
    reindex_tenant,
    tenants_with_knowledge,
)
from stonechat.local import IndexLock
from stonechat.settings import Settings

LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 120.0
"""Without progress; then the job goes on without an onlooker."""
Say = Callable[[str], None]


async def reindex_all(settings: Settings, tenant_id: UUID | None, *, say: Say, anew: bool = False) -> None:
    """Write one tenant's index anew, or everyone's, telling how far it is. `anew`: nothing of it is there yet.

    Raises `NotFound`, or `Unavailable` if a job that was asked for makes no progress.
    """
    assert settings.database_url is not None  # noqa: S101  local_services() provides it
    database = Database(settings.database_url, pool_size=4)
    knowledge = open_knowledge(settings, database)
    try:
        everyone = await tenants_with_knowledge(knowledge)
        if tenant_id is not None and tenant_id not in everyone:
            raise NotFound("There is no such tenant, or it never had a document.")
        tenants = [tenant_id] if tenant_id is not None else everyone
        if not tenants:
            say("There are no documents yet.")
            return
        for each in tenants if anew else ():
            async with database.tenant(each) as session:
                await begin_anew(session, each)
        if settings.qdrant_url is not None:
            await _here(knowledge, tenants, say=say)
            return
        try:
            lock = IndexLock(settings.data_dir)
            lock.__enter__()
        except Unavailable:
            await _by_jobs(knowledge, tenants, say=say)
            return
        try:
            await _here(knowledge, tenants, say=say)
            await knowledge.index.close()
        finally:
            lock.__exit__(None, None, None)
    finally:
        await knowledge.close()
        await database.close()


async def _here(knowledge: Knowledge, tenants: list[UUID], *, say: Say) -> None:
    for tenant_id in tenants:
        done = await reindex_tenant(knowledge, tenant_id)
        say(f"{tenant_id}: {done:,} passages written")


async def _by_jobs(knowledge: Knowledge, tenants: list[UUID], *, say: Say) -> None:
    """Stonechat runs and owns the index: ask it, and look on."""
    for tenant_id in tenants:
        async with knowledge.database.tenant(tenant_id) as session:
            asked = await ask_reindex(session, tenant_id)
        await _look_on(knowledge, tenant_id, asked, say=say)


async def _look_on(knowledge: Knowledge, tenant_id: UUID, asked: datetime, *, say: Say) -> None:
    told, still = -1, 0.0
    while True:
        async with knowledge.database.tenant(tenant_id) as session:
            state = await reindex_state(session, tenant_id)
        if state is not None and state.reindexed_at is not None and state.reindexed_at >= asked:
            say(f"{tenant_id}: {state.reindex_done:,} passages written")
            return
        done = state.reindex_done if state is not None else 0
        if state is not None and done != told and done:
            say(f"{tenant_id}: {done:,} of {state.reindex_total:,} passages")
        told, still = done, 0.0 if done != told else still + LOOK_SECONDS
        if still >= PATIENCE_SECONDS:
            raise Unavailable(
                "The running Stonechat has not begun, or does not go on. Its log says why; the job stays."
            )
        await asyncio.sleep(LOOK_SECONDS)
