"""The room's jobs, by kind, for the worker to register."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from stonechat.jobs import GiveUpHook, Handler
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.generations import (
    BUILD,
    RETIRE,
    build_generation,
    fail_generation,
    promote_if_grown,
    retire_generation,
)
from stonechat.knowledge.ingest import ingest_document, purge_document, remove_orphans
from stonechat.knowledge.layouts import TenantIndex
from stonechat.knowledge.progress import give_up
from stonechat.knowledge.reindex import REINDEX, reindex_tenant
from stonechat.knowledge.service import INGEST, PURGE
from stonechat.knowledge.tags import LABEL, label_document
from stonechat.knowledge.web.retire import PURGE_MANY
from stonechat.knowledge.web.runs import SYNC
from stonechat.knowledge.web.sync import fail_sync, sync_part

PAUSED = frozenset({BUILD, INGEST, REINDEX, SYNC})
"""What asks models and other people's sites: it waits while the tenant is suspended. What deletes does not."""


def job_handlers(knowledge: Knowledge) -> dict[str, Handler]:
    """Handlers of `knowledge.ingest` and `knowledge.purge`; both payloads are `{"document_id"}`."""

    async def ingest(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await ingest_document(knowledge, tenant_id, document_id=payload["document_id"])
        if isinstance(knowledge.index, TenantIndex) and knowledge.index.layout == "shared":
            async with knowledge.database.tenant(tenant_id) as session:
                await promote_if_grown(session, tenant_id)

    async def purge(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await purge_document(knowledge, tenant_id, document_id=payload["document_id"])

    async def purge_many(tenant_id: UUID, payload: dict[str, Any]) -> None:
        for document_id in payload["document_ids"]:
            await purge_document(knowledge, tenant_id, document_id=document_id)

    async def sync(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await sync_part(knowledge, tenant_id, **payload)

    async def build(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await build_generation(_places(knowledge), tenant_id, generation=payload["generation"])

    async def retire(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await retire_generation(_places(knowledge), tenant_id, generation=payload["generation"])

    async def label(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await label_document(knowledge, tenant_id, document_id=payload["document_id"])

    async def reindex(tenant_id: UUID, _payload: dict[str, Any]) -> None:
        await reindex_tenant(knowledge, tenant_id)

    return {
        BUILD: build,
        RETIRE: retire,
        LABEL: label,
        INGEST: ingest,
        PURGE: purge,
        PURGE_MANY: purge_many,
        SYNC: sync,
        REINDEX: reindex,
    }


def give_up_hooks(knowledge: Knowledge) -> dict[str, GiveUpHook]:
    """What to do when `knowledge.ingest` is given up: the document says so."""

    async def ingest(tenant_id: UUID, payload: dict[str, Any], _reason: str) -> None:
        await give_up(knowledge.database, tenant_id, document_id=payload["document_id"])
        await remove_orphans(knowledge, tenant_id, document_id=payload["document_id"])

    async def sync(tenant_id: UUID, payload: dict[str, Any], _reason: str) -> None:
        await fail_sync(knowledge, tenant_id, source_id=payload["source_id"], sync_id=payload["sync_id"])

    async def build(tenant_id: UUID, payload: dict[str, Any], _reason: str) -> None:
        reason = "The search index could not be built anew. Save the search settings again to try once more."
        await fail_generation(_places(knowledge), tenant_id, generation=payload["generation"], reason=reason)

    return {BUILD: build, INGEST: ingest, SYNC: sync}


def _places(knowledge: Knowledge) -> TenantIndex:
    index = knowledge.index
    return index if isinstance(index, TenantIndex) else TenantIndex(index, knowledge.database)
