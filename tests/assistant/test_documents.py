"""From an uploaded document to a quoted answer, with nothing in between replaced."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from chatkit.types import URLSource

from stonechat.assistant.agent import Assistant
from stonechat.assistant.documents import TenantDocuments
from stonechat.assistant.extractive import ABSTENTION
from stonechat.db.session import Database
from stonechat.knowledge.deps import Knowledge
from stonechat.settings import Settings
from support import knowledge as room
from support.assistant import ask, model_providers

REFUNDS = """# Refunds

You can return any item within 30 days of delivery for a full refund.
Gift cards cannot be returned.

# Shipping

Parcels inside the country take three working days. Express costs 12 euros.
"""


@pytest.fixture
async def knowledge(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    async with room.scratch_knowledge(database, tmp_path) as opened:
        yield opened


@pytest.fixture
async def assistant(database: Database, knowledge: Knowledge) -> AsyncIterator[Assistant]:
    async with model_providers(database) as providers:
        yield Assistant(knowledge=TenantDocuments(knowledge), providers=providers, settings=Settings())


async def test_an_uploaded_document_is_quoted_with_its_address(
    assistant: Assistant, knowledge: Knowledge, tenant_id: UUID
) -> None:
    await room.upload(
        knowledge, tenant_id, REFUNDS, filename="terms.md", title="Terms", url="https://shop.example/terms"
    )
    answer = await ask(assistant, "How many days do I have to return an item?", model="extractive", tenant_id=tenant_id)
    assert answer.error is None
    assert "within 30 days" in answer.text
    sources = [annotation.source for annotation in answer.messages[0].content[0].annotations]
    assert [source.url for source in sources if isinstance(source, URLSource)] == ["https://shop.example/terms"]

    [memory] = answer.memories
    recalled = await TenantDocuments(knowledge).recall(tenant_id, memory.content["chunk_ids"])
    assert [passage.chunk_id for passage in recalled] == memory.content["chunk_ids"]


async def test_what_no_document_says_is_not_answered(
    assistant: Assistant, knowledge: Knowledge, tenant_id: UUID
) -> None:
    await room.upload(knowledge, tenant_id, REFUNDS, filename="terms.md")
    answer = await ask(assistant, "Who won the chess championship in 1972?", model="extractive", tenant_id=tenant_id)
    assert answer.text == ABSTENTION


async def test_another_tenants_documents_answer_no_one_here(
    assistant: Assistant, knowledge: Knowledge, tenant_id: UUID, make_tenant: Callable[[], Awaitable[UUID]]
) -> None:
    theirs = await make_tenant()
    await room.upload(knowledge, theirs, REFUNDS, filename="terms.md")
    question = "How many days do I have to return an item?"
    told = await ask(assistant, question, model="extractive", tenant_id=theirs)
    assert "within 30 days" in told.text
    answer = await ask(assistant, question, model="extractive", tenant_id=tenant_id)
    assert answer.text == ABSTENTION
    assert await TenantDocuments(knowledge).recall(tenant_id, told.memories[0].content["chunk_ids"]) == []
