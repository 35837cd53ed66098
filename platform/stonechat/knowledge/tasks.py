"""The room's jobs, by kind, for the worker to register."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from stonechat.jobs import GiveUpHook, Handler
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.ingest import fail_document, ingest_document, purge_document
from stonechat.knowledge.service import INGEST, PURGE


def job_handlers(knowledge: Knowledge) -> dict[str, Handler]:
    """Handlers of `knowledge.ingest` and `knowledge.purge`; both payloads are `{"document_id"}`."""

    async def ingest(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await ingest_document(knowledge, tenant_id, document_id=payload["document_id"])

    async def purge(tenant_id: UUID, payload: dict[str, Any]) -> None:
        await purge_document(knowledge, tenant_id, document_id=payload["document_id"])

    return {INGEST: ingest, PURGE: purge}


def give_up_hooks(knowledge: Knowledge) -> dict[str, GiveUpHook]:
    """What to do when `knowledge.ingest` is given up: the document says so."""

    async def ingest(tenant_id: UUID, payload: dict[str, Any], _reason: str) -> None:
        await fail_document(
            knowledge,
            tenant_id,
            document_id=payload["document_id"],
            code="document_unreadable",
            reason="Something on our side kept this document from being read. Try to process it again.",
        )

    return {INGEST: ingest}
