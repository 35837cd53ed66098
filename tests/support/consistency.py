"""Whether index and Postgres agree, told without the code that mends it."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text

from stonechat.knowledge.deps import Knowledge


async def agreement(knowledge: Knowledge, tenant_id: UUID) -> list[str]:
    """What they do not agree about, in words; empty if they do, to the last passage."""
    points: dict[str, str] = {}
    after = None
    while page := await knowledge.index.held(tenant_id, after=after, limit=1000):
        points |= {each.chunk_id: each.document_id for each in page}
        after = page[-1].chunk_id
    async with knowledge.database.tenant(tenant_id) as session:
        rows = await session.execute(
            text(
                "select c.chunk_id, c.document_id, c.version = d.version and d.deleted_at is null as living "
                "from chunks c join documents d using (tenant_id, document_id) where c.tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        )
        chunks = {chunk_id: (document_id, living) for chunk_id, document_id, living in rows}
    wrong = [f"{key} of {of}: a point without a passage" for key, of in points.items() if key not in chunks]
    wrong += [f"{key} of {of}: a passage without a point" for key, (of, _) in chunks.items() if key not in points]
    wrong += [f"{key}: a passage of no living version" for key, (_, living) in chunks.items() if not living]
    return wrong + [
        f"{key}: of {of} in the index, of {chunks[key][0]} in Postgres"
        for key, of in points.items()
        if key in chunks and chunks[key][0] != of
    ]
