"""A new index beside the old: when the embedding model or the layout changes, and when a tenant outgrows a shared one.

Everything that Postgres holds is written to a new generation while the old one answers. The two are then compared, some
passages are looked up by their own words and their own meaning, and one transaction makes the new generation live. The
old stays for `GRACE`, for searches that had begun, and is dropped. If anything fails, the old one just stays live, and the
generation says why.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import EmbeddingFailed, Unavailable
from stonechat.jobs import enqueue
from stonechat.knowledge.chunk import Piece, index_text
from stonechat.knowledge.embeddings import EmbeddingModel, forget_embeddings
from stonechat.knowledge.index import BATCH, IndexPoint, Layout, Place
from stonechat.knowledge.index_models import Generation
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.layouts import Laid, TenantIndex, ensure_state, laid, places_of
from stonechat.knowledge.models import Chunk, Document, IndexState

BUILD, RETIRE = "knowledge.build_generation", "knowledge.retire_generation"
GRACE = timedelta(hours=1)
MAX_ROUNDS = 5
"""Times that what was added meanwhile is caught up with, before the job starts again later."""
SAMPLE, SAMPLE_DEPTH, SAMPLE_FOUND = 24, 20, 0.9
"""Passages looked up by their own text, among how many they must be, and how many of them."""
SHARED_PASSAGES = 20_000
"""A tenant with more does not belong in a shared collection."""
_log = logging.getLogger(__name__)


class GenerationUnfit(Exception):
    """A generation does not answer as it should. The message says what, for people."""


async def begin_generation(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    model: EmbeddingModel | None,
    layout: Layout | None = None,
    default_layout: Layout = "per_tenant",
) -> int | None:
    """Begin to build the tenant's index anew in the background; its number. A build under way is replaced.

    None if the live generation is just that already. `layout` None keeps the tenant's.
    """
    await ensure_state(session, tenant_id, layout=default_layout)
    state = await session.scalar(select(IndexState).where(IndexState.tenant_id == tenant_id).with_for_update())
    assert state is not None  # noqa: S101  ensured above
    places = await places_of(session, tenant_id)
    await _end(session, tenant_id, state="failed", error="Replaced by a later one.")
    layout = layout or places.live.place.layout
    if places.live.model == model and places.live.place.layout == layout:
        return None
    last = await session.scalar(select(func.max(Generation.generation)).where(Generation.tenant_id == tenant_id))
    number = max(last or 0, state.generation) + 1
    session.add(
        Generation(
            tenant_id=tenant_id,
            generation=number,
            state="building",
            layout=layout,
            embedding_provider=model.provider if model else None,
            embedding_model=model.name if model else None,
            asked_dimensions=model.dimensions if model else None,
        )
    )
    await session.flush()
    await enqueue(session, tenant_id, BUILD, {"generation": number}, dedupe_key=str(number))
    return number


async def promote(session: AsyncSession, tenant_id: UUID) -> int | None:
    """Begin to move a tenant from a shared collection to its own. None if it has its own."""
    places = await places_of(session, tenant_id)
    if places.live.place.layout != "shared" or (places.building and places.building.place.layout == "per_tenant"):
        return None
    return await begin_generation(session, tenant_id, model=places.live.model, layout="per_tenant")


async def promote_if_grown(session: AsyncSession, tenant_id: UUID) -> int | None:
    """`promote`, if the tenant has more passages than belong in a shared collection."""
    count = select(func.coalesce(func.sum(Document.chunks), 0)).where(
        Document.tenant_id == tenant_id, Document.deleted_at.is_(None)
    )
    return await promote(session, tenant_id) if (await session.scalar(count) or 0) > SHARED_PASSAGES else None


async def build_generation(index: TenantIndex, tenant_id: UUID, *, generation: int) -> None:
    """Build a generation and make it live. Running it twice, or after a crash, goes on with what is there.

    A model that refuses, or answers that are not as they should be, end the build with a reason; what passes by itself
    (`Unavailable` from the index) is raised, to be tried again.
    """
    database = index.database
    target = await _target(index, tenant_id, generation)
    if target is None:
        return
    try:
        target = await _measured(index, target)
        for _ in range(MAX_ROUNDS):
            held = await _write_missing(index, target)
            await _evaluate(index, target, held)
            async with database.tenant(tenant_id) as session:
                if await _switch(index, session, target):
                    return
        raise Unavailable("Documents change faster than the new index is built. It is tried again later.")
    except (EmbeddingFailed, GenerationUnfit) as error:
        await fail_generation(index, tenant_id, generation=generation, reason=str(error))


async def fail_generation(index: TenantIndex, tenant_id: UUID, *, generation: int, reason: str) -> None:
    """Give a build up: the old generation stays live, the reason is kept, and what was written is removed."""
    async with index.database.tenant(tenant_id) as session:
        ended = await _end(session, tenant_id, state="failed", error=reason[:1000], generation=generation)
        live = (await places_of(session, tenant_id)).live.place
    for place in ended:
        if not _same_collection(place, live):
            await index.engine.drop(place)


async def retire_generation(index: TenantIndex, tenant_id: UUID, *, generation: int) -> None:
    """Remove a generation that no search uses any more, and vectors that nobody asked for in a long time."""
    async with index.database.tenant(tenant_id) as session:
        places = await places_of(session, tenant_id)
        row = await session.get(Generation, (tenant_id, generation))
    if row is None or row.state not in ("retired", "failed"):
        return
    place = laid(row).place
    if not any(_same_collection(place, used.place) for used in places.written):
        await index.engine.drop(place)
    await forget_embeddings(index.database, tenant_id)
    async with index.database.tenant(tenant_id) as session:
        row = await session.get(Generation, (tenant_id, generation))
        if row is not None and row.state == "retired":
            await session.delete(row)


async def generations_of(session: AsyncSession, tenant_id: UUID) -> list[Generation]:
    """The tenant's generations, newest first, as far as there are rows of them."""
    chosen = select(Generation).where(Generation.tenant_id == tenant_id).order_by(Generation.generation.desc())
    return list(await session.scalars(chosen.limit(20)))


async def _target(index: TenantIndex, tenant_id: UUID, generation: int) -> Laid | None:
    async with index.database.tenant(tenant_id) as session:
        row = await session.get(Generation, (tenant_id, generation))
        return laid(row) if row is not None and row.state == "building" else None


async def _measured(index: TenantIndex, target: Laid) -> Laid:
    """The target with the length of its vectors, which only the model can tell. Raises `EmbeddingFailed`."""
    if target.model is None or target.place.dimensions is not None:
        return target
    if index.embedder is None:
        raise EmbeddingFailed("No embedding model can be reached from here.")
    tenant_id = target.place.tenant_id
    [vector] = await index.embedder.embed(tenant_id, target.model, ["How long are your vectors?"])
    async with index.database.tenant(tenant_id) as session:
        row = await session.get(Generation, (tenant_id, target.place.generation), with_for_update=True)
        if row is None:
            raise GenerationUnfit("Replaced by a later one.")
        row.dimensions = len(vector)
        return laid(row)


async def _write_missing(index: TenantIndex, target: Laid) -> set[str]:
    """Write every passage that Postgres vouches for and the target lacks; the chunk ids that it holds then."""
    held = await _held(index, target.place)
    async for page, total in _passages(index, target.place.tenant_id):
        missing = [point for point in page if point.chunk_id not in held]
        if missing:
            if target.model is not None:
                missing = await index.with_vectors(target, missing)
            await index.engine.upsert(target.place, missing)
            held.update(point.chunk_id for point in missing)
        async with index.database.tenant(target.place.tenant_id) as session:
            done = await session.execute(
                update(Generation)
                .where(_is(target.place), Generation.state == "building")
                .values(done=len(held), total=total, updated_at=clock.now())
                .returning(Generation.generation)
            )
            if done.first() is None:
                raise GenerationUnfit("Replaced by a later one.")
    return held


async def _passages(index: TenantIndex, tenant_id: UUID) -> AsyncIterator[tuple[list[IndexPoint], int]]:
    """All living passages as they are to be indexed, in pages, each with how many there are in all."""
    after: tuple[str, str] | None = None
    while True:
        async with index.database.tenant(tenant_id) as session:
            total = await session.scalar(select(func.count()).select_from(vouched(tenant_id).subquery())) or 0
            page = vouched(tenant_id).order_by(Chunk.document_id, Chunk.chunk_id).limit(BATCH)
            if after is not None:
                page = page.where(tuple_(Chunk.document_id, Chunk.chunk_id) > after)
            rows = list(await session.execute(page))
        if not rows:
            return
        yield [point_of(chunk, document) for chunk, document in rows], total
        after = (rows[-1][0].document_id, rows[-1][0].chunk_id)


def vouched(tenant_id: UUID) -> Select[Chunk, Document]:
    current = and_(
        Document.tenant_id == Chunk.tenant_id,
        Document.document_id == Chunk.document_id,
        Document.version == Chunk.version,
    )
    return (
        select(Chunk, Document)
        .join(Document, current)
        .where(Chunk.tenant_id == tenant_id, Document.tenant_id == tenant_id, Document.deleted_at.is_(None))
    )


def point_of(chunk: Chunk, document: Document) -> IndexPoint:
    piece = Piece(
        chunk.text, chunk.start_offset, chunk.end_offset, headings=tuple(chunk.headings), columns=chunk.columns
    )
    return IndexPoint(
        chunk.document_id,
        chunk.chunk_id,
        index_text(piece, title=document.title),
        document.language or DEFAULT_LANGUAGE,
        document.source_id,
        tuple(document.tags),
    )


async def _held(index: TenantIndex, place: Place) -> set[str]:
    held: set[str] = set()
    after = None
    while page := await index.engine.held(place, after=after):
        held.update(each.chunk_id for each in page)
        after = page[-1].chunk_id
    return held


async def _evaluate(index: TenantIndex, target: Laid, held: set[str]) -> None:
    """Look some of the passages held up by their own words, and by their own meaning. Raises `GenerationUnfit`."""
    tenant_id = target.place.tenant_id
    async with index.database.tenant(tenant_id) as session:
        rows = list(await session.execute(vouched(tenant_id).order_by(func.md5(Chunk.chunk_id)).limit(SAMPLE)))
        languages = (await places_of(session, tenant_id)).languages
    points = [point_of(chunk, document) for chunk, document in rows if chunk.chunk_id in held]
    texts = {point.chunk_id: point.text for point in points}
    if target.model is not None:
        points = await index.with_vectors(target, points)
    for way in ("words", "meaning") if target.model is not None else ("words",):
        found = 0
        for point in points:
            if way == "words":
                hits = await index.engine.search(
                    target.place, point.text, limit=SAMPLE_DEPTH, languages=languages or (point.language,)
                )
                nothing_to_find = not hits
            else:
                hits = await index.engine.nearest(target.place, point.vector or (), limit=SAMPLE_DEPTH)
                nothing_to_find = False
            # Where many passages say the same, one that says the same will do.
            said = {texts[hit.chunk_id] for hit in hits if hit.chunk_id in texts}
            alike = len(hits) == SAMPLE_DEPTH and hits[0].score - hits[-1].score < 1e-6
            found += nothing_to_find or alike or point.text in said
        if points and found < SAMPLE_FOUND * len(points):
            raise GenerationUnfit(
                f"Of {len(points)} passages, only {found} were found by their own {way} in the new index, so the old one "
                "stays. Choose another embedding model."
            )


async def _switch(index: TenantIndex, session: AsyncSession, target: Laid) -> bool:
    """Make the target live, unless a passage is missing from it. Documents that get ready meanwhile wait for this."""
    tenant_id, number = target.place.tenant_id, target.place.generation
    state = await session.scalar(select(IndexState).where(IndexState.tenant_id == tenant_id).with_for_update())
    row = await session.get(Generation, (tenant_id, number), with_for_update=True, populate_existing=True)
    if state is None or row is None or row.state != "building":
        return True
    held = await _held(index, target.place)
    wanted = vouched(tenant_id).with_only_columns(Chunk.chunk_id)
    if any(chunk_id not in held for chunk_id in await session.scalars(wanted)):
        return False
    now, before = clock.now(), state.generation
    old = await session.get(Generation, (tenant_id, before), with_for_update=True, populate_existing=True)
    if old is None:
        old = Generation(tenant_id=tenant_id, generation=before, layout=state.layout, state="retired")
        session.add(old)
    old.state, old.updated_at = "retired", now
    row.state, row.error, row.updated_at = "live", None, now
    state.generation, state.layout, state.updated_at = number, row.layout, now
    await session.flush()
    await enqueue(session, tenant_id, RETIRE, {"generation": before}, dedupe_key=str(before), delay=GRACE)
    _log.info("Generation %d of a tenant's index is live.", number)
    return True


async def _end(
    session: AsyncSession, tenant_id: UUID, *, state: str, error: str, generation: int | None = None
) -> list[Place]:
    """End builds under way; their places. What they wrote is removed by a job, or by the caller."""
    chosen = select(Generation).where(Generation.tenant_id == tenant_id, Generation.state == "building")
    if generation is not None:
        chosen = chosen.where(Generation.generation == generation)
    ended = list(await session.scalars(chosen.with_for_update()))
    for row in ended:
        row.state, row.error, row.updated_at = state, error, clock.now()
        if generation is None:
            number = row.generation
            await enqueue(session, tenant_id, RETIRE, {"generation": number}, dedupe_key=str(number))
    await session.flush()
    return [laid(row).place for row in ended]


def _is(place: Place) -> ColumnElement[bool]:
    return and_(Generation.tenant_id == place.tenant_id, Generation.generation == place.generation)


def _same_collection(one: Place, other: Place) -> bool:
    """Whether to drop one is to drop the other: shared collections do not know generations."""
    if one.layout == "shared" and other.layout == "shared":
        return one.shared_name == other.shared_name
    return one == other
