"""Generations and layouts: a new index is built beside the old, and at no moment does a search fail or see a stranger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.errors import Unavailable
from stonechat.knowledge import generations
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.embeddings import EmbeddingModel
from stonechat.knowledge.generations import (
    begin_generation,
    build_generation,
    promote,
    promote_if_grown,
    retire_generation,
)
from stonechat.knowledge.index import Place, points_of
from stonechat.knowledge.layouts import Laid, TenantIndex, places_of
from stonechat.knowledge.search import Found, search
from stonechat.knowledge.tuning import get_settings
from support.embedding import FakeEmbeddings, choose_model, fake_embeddings, room_with_models
from support.knowledge import run_jobs, upload


@pytest.fixture
async def room(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    async with room_with_models(database, tmp_path) as knowledge:
        yield knowledge


@pytest.fixture
async def shared_room(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    async with room_with_models(database, tmp_path, layout="shared") as knowledge:
        yield knowledge


@pytest.fixture
async def model() -> AsyncIterator[FakeEmbeddings]:
    async with fake_embeddings() as fake:
        yield fake


def index_of(room: Knowledge) -> TenantIndex:
    assert isinstance(room.index, TenantIndex)
    return room.index


def ids_of(found: Found) -> set[str]:
    return {passage.document_id for passage in found}


async def live(room: Knowledge, tenant_id: UUID) -> Place:
    async with room.database.tenant(tenant_id) as session:
        return (await places_of(session, tenant_id)).live.place


async def begin(room: Knowledge, tenant_id: UUID, model: EmbeddingModel | None) -> int:
    async with room.database.tenant(tenant_id) as session:
        number = await begin_generation(session, tenant_id, model=model)
    assert number is not None
    return number


async def test_another_model_is_another_generation_and_the_old_answers_meanwhile(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        await upload(room, tenant_id, f"Refund rule number {number}.", title=f"Rule {number}")
    old = await live(room, tenant_id)
    view = await choose_model(room, tenant_id, model.url)
    assert [(build.generation, build.state) for build in view.builds] == [(2, "building")]
    evaluate, seen = generations._evaluate, []

    async def meanwhile(index: TenantIndex, target: Laid, held: set[str]) -> None:
        """While the new one stands but is not live, people search, add and delete."""
        if not seen:
            seen.append(await search(room, tenant_id, "refund"))
            added = await upload(room, tenant_id, "Refund rule of the last minute.", title="Rule 3")
            assert added.document_id in ids_of(await search(room, tenant_id, "minute"))
            # As if written by a process that did not know of the new one: it is caught up with.
            await index.engine.delete_document(target.place, added.document_id)
        await evaluate(index, target, held)

    monkeypatch.setattr(generations, "_evaluate", meanwhile)
    await run_jobs(room, tenant_id)
    assert len(seen[0]) == 3
    new = await live(room, tenant_id)
    assert (new.generation, new.dimensions, new.model) == (2, model.dimensions, "acme/embed-1")
    assert await room.index.count(tenant_id) == await index_of(room).engine.count(old) == 4
    assert len(await search(room, tenant_id, "refund")) == 4

    # The old one stays for searches that had begun, and goes with its job, which is not due yet.
    async with room.database.tenant(tenant_id) as session:
        states = {build.generation: build for build in (await get_settings(session, system(tenant_id))).builds}
    assert {number: build.state for number, build in states.items()} == {1: "retired", 2: "live"}
    assert (states[2].done, states[2].total) == (4, 4)
    async with room.database.directory() as session:
        due = await session.scalar(
            text("select execute_after > now() + interval '50 minutes' from jobs.pgqueuer "
                 "where headers->>'tenant' = :tenant and entrypoint = 'knowledge.retire_generation'"),
            {"tenant": str(tenant_id)},
        )  # fmt: skip
    assert due is True
    await run_jobs(room, tenant_id)
    assert await index_of(room).engine.count(old) == 0
    assert len(await search(room, tenant_id, "refund")) == 4
    # The live one cannot be retired.
    await retire_generation(index_of(room), tenant_id, generation=2)
    assert len(await search(room, tenant_id, "refund")) == 4


async def test_settings_saved_twice_build_once(room: Knowledge, tenant_id: UUID, model: FakeEmbeddings) -> None:
    await upload(room, tenant_id, "Refunds.", title="Money")
    await choose_model(room, tenant_id, model.url)
    await choose_model(room, tenant_id, model.url, model="embed-2")
    await run_jobs(room, tenant_id)
    view = await choose_model(room, tenant_id, model.url, model="embed-2")
    states = [(build.generation, build.state) for build in view.builds if build.state != "retired"]
    assert states == [(3, "live"), (2, "failed")]
    assert (await live(room, tenant_id)).model == "acme/embed-2"


@pytest.mark.parametrize(("status", "said"), [(401, "refused the key"), (404, "Choose another")])
async def test_a_model_that_refuses_leaves_the_old_index_and_a_reason(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, status: int, said: str
) -> None:
    await upload(room, tenant_id, "Refunds.", title="Money")
    model.status = status
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    async with room.database.tenant(tenant_id) as session:
        [build] = (await get_settings(session, system(tenant_id))).builds
    assert build.state == "failed"
    assert build.error is not None
    assert said in build.error
    assert (await live(room, tenant_id)).generation == 1
    assert len(await search(room, tenant_id, "refunds")) == 1
    # Mended, and saved again: it is built.
    model.status = 200
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    assert (await live(room, tenant_id)).generation == 3


async def test_a_model_that_means_nothing_is_not_made_live(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        await upload(room, tenant_id, f"Passage about subject {number}{number}.", title=f"Subject {number}")
    monkeypatch.setattr(generations, "SAMPLE_DEPTH", 2)
    nearest = index_of(room).engine.nearest

    async def far(place: Place, vector: object, **options: object) -> object:
        return await nearest(place, [-number for number in vector], **options)  # type: ignore[attr-defined, arg-type]

    monkeypatch.setattr(index_of(room).engine, "nearest", far)
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    async with room.database.tenant(tenant_id) as session:
        [build] = (await get_settings(session, system(tenant_id))).builds
    assert build.state == "failed"
    assert "by their own meaning" in (build.error or "")
    assert (await live(room, tenant_id)).generation == 1


async def test_a_build_that_is_interrupted_goes_on(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        await upload(room, tenant_id, f"Refund rule number {number}.", title=f"Rule {number}")
    monkeypatch.setattr(generations, "BATCH", 2)
    upsert, calls = index_of(room).engine.upsert, 0

    async def breaking(*args: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("The engine is away.")
        return await upsert(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(index_of(room).engine, "upsert", breaking)
    await choose_model(room, tenant_id, model.url)
    with pytest.raises(Unavailable):
        await build_generation(index_of(room), tenant_id, generation=2)
    assert (await live(room, tenant_id)).generation == 1
    asked = len(model.asked)
    await build_generation(index_of(room), tenant_id, generation=2)
    assert (await live(room, tenant_id)).generation == 2
    assert len([text for text in model.asked[asked:] if "Rule 0" in text]) == 0, "what was embedded is kept"
    await build_generation(index_of(room), tenant_id, generation=2)  # once more changes nothing
    assert await room.index.count(tenant_id) == 4


async def test_back_to_words_alone(room: Knowledge, tenant_id: UUID, model: FakeEmbeddings) -> None:
    await upload(room, tenant_id, "Refunds.", title="Money")
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    await begin(room, tenant_id, None)
    await run_jobs(room, tenant_id)
    place = await live(room, tenant_id)
    assert (place.generation, place.model) == (3, None)
    asked = len(model.asked)
    assert len(await search(room, tenant_id, "refunds")) == 1
    assert len(model.asked) == asked


async def test_tenants_in_one_collection_never_meet(shared_room: Knowledge, make_tenant: object) -> None:
    one, two = await make_tenant(), await make_tenant()  # type: ignore[operator]
    mine = await upload(shared_room, one, "Walrus tusks. Penguin feathers.", title="Zoo")
    await upload(shared_room, one, "Penguin food.", title="Food")
    before = [(hit.chunk_id, hit.score) for hit in await search(shared_room, one, "walrus")]
    for number in range(30):
        await upload(shared_room, two, f"Walrus walrus number {number}.", title="Sea")
    assert (await live(shared_room, one)).layout == "shared"
    # Not a hit, and not a score, moves with what another tenant writes.
    assert [(hit.chunk_id, hit.score) for hit in await search(shared_room, one, "walrus")] == before
    assert await shared_room.index.count(one) == 2
    assert len(await shared_room.index.held(two, limit=100)) == 30
    # Another tenant's ids delete nothing.
    await shared_room.index.delete_document(two, mine.document_id)
    assert await shared_room.index.count(one) == 2
    await shared_room.index.drop_tenant(two)
    assert (await shared_room.index.count(one), await shared_room.index.count(two)) == (2, 0)
    await shared_room.index.drop_tenant(one)


async def test_a_tenant_that_grows_gets_its_own(
    shared_room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await choose_model(shared_room, tenant_id, model.url)
    await run_jobs(shared_room, tenant_id)
    for number in range(3):
        await upload(shared_room, tenant_id, f"Refund rule number {number}.", title=f"Rule {number}")
    shared = await live(shared_room, tenant_id)
    async with shared_room.database.tenant(tenant_id) as session:
        assert await promote_if_grown(session, tenant_id) is None
    monkeypatch.setattr(generations, "SHARED_PASSAGES", 2)
    async with shared_room.database.tenant(tenant_id) as session:
        number = await promote_if_grown(session, tenant_id)
        assert number is not None
        assert await promote(session, tenant_id) is None, "it is on its way"
    assert len(await search(shared_room, tenant_id, "refund")) == 3
    await run_jobs(shared_room, tenant_id)
    own = await live(shared_room, tenant_id)
    assert (own.layout, own.generation, own.model) == ("per_tenant", number, shared.model)
    assert len(await search(shared_room, tenant_id, "refund")) == 3
    await retire_generation(index_of(shared_room), tenant_id, generation=shared.generation)
    assert await index_of(shared_room).engine.count(shared) == 0
    assert len(await search(shared_room, tenant_id, "refund")) == 3


async def test_the_index_without_postgres_is_the_first_generation(room: Knowledge) -> None:
    tenant_id = ids.new_tenant_id()
    engine = index_of(room).engine
    await engine.upsert(tenant_id, points_of(tenant_id, "doc_a", ["boilers"], language="en"))
    assert await engine.count(Place(tenant_id, 1)) == 1
    assert await engine.count(Place(tenant_id, 2)) == 0
    await engine.drop_tenant(tenant_id)
