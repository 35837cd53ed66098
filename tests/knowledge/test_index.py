"""The index's contract, the same for both engines: one tenant never reaches another's passages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

import stonechat
from stonechat import ids
from stonechat.errors import Unavailable
from stonechat.knowledge.index import (
    Held,
    Hit,
    IndexPoint,
    KnowledgeIndex,
    Layout,
    Narrowing,
    Place,
    open_index,
    points_of,
)
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.index_server import ServerIndex
from stonechat.knowledge.index_vectors import query_vector, term_of
from stonechat.settings import Settings

SERVER = os.environ.get("STONECHAT_TEST_QDRANT_URL")
ENGINES = ["edge", "server"] if SERVER else ["edge"]


@pytest.fixture(params=ENGINES)
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KnowledgeIndex]:
    """Each engine; the server's only where a test server is named."""
    opened: KnowledgeIndex = ServerIndex(SERVER or "") if request.param == "server" else EdgeIndex(tmp_path / "index")
    yield opened
    await opened.close()


@pytest.fixture
async def tenants(index: KnowledgeIndex) -> AsyncIterator[list[UUID]]:
    """Two tenants, cleaned up afterwards."""
    made = [ids.new_tenant_id(), ids.new_tenant_id()]
    yield made
    for tenant_id in made:
        await index.drop_tenant(tenant_id)


TENANT = ids.new_tenant_id()


def point(document: str, text: str, *, language: str = "en") -> IndexPoint:
    [made] = points_of(TENANT, document, [text], language=language)
    return made


def documents(hits: list[Hit]) -> list[str]:
    return [hit.document_id for hit in hits]


async def test_a_tenant_finds_its_own_and_nothing_of_another(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    one, two = tenants
    await index.upsert(one, [point("doc_a", "refunds take five days"), point("doc_b", "parcels to Norway")])
    await index.upsert(two, [point("doc_a", "refunds are never given")])

    assert documents(await index.search(one, "how do refunds work", limit=10)) == ["doc_a"]
    [theirs] = await index.search(two, "refund", limit=10)
    assert theirs.chunk_id == point("doc_a", "refunds are never given").chunk_id
    assert await index.search(two, "parcels Norway", limit=10) == []

    # The same document id in the other tenant is another document, for deletion too.
    await index.delete_document(two, "doc_b")
    await index.delete_document(two, "doc_a")
    assert documents(await index.search(one, "refund", limit=10)) == ["doc_a"]
    await index.drop_tenant(two)
    assert await index.count(one) == 2
    assert await index.count(two) == 0


async def test_scores_of_one_tenant_say_nothing_of_anothers_words(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    """Rarity is counted within the tenant: what another writes moves no score here."""
    one, two = tenants
    await index.upsert(one, [point("doc_a", "walrus tusks"), point("doc_b", "penguin feathers")])
    before = await index.search(one, "walrus", limit=5)
    await index.upsert(two, [point(f"doc_{n}", "walrus walrus") for n in range(50)])
    assert await index.search(one, "walrus", limit=5) == before


async def test_what_does_not_exist_is_empty(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    nobody = tenants[0]
    assert await index.search(nobody, "anything", limit=5) == []
    assert await index.count(nobody) == 0
    await index.delete_document(nobody, "doc_a")
    await index.drop_tenant(nobody)
    await index.ready()


async def test_writing_twice_is_writing_once(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    points = [point("doc_a", f"paragraph {n} about boilers") for n in range(600)]
    await index.upsert(tenants[0], points)
    await index.upsert(tenants[0], points[:300])
    assert await index.count(tenants[0]) == 600
    assert await index.count(tenants[0], document_id="doc_a") == 600
    assert await index.count(tenants[0], document_id="doc_b") == 0


async def test_single_passages_go_and_the_rest_stays(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    tenant_id = tenants[0]
    old, new, other = point("doc_a", "old boilers"), point("doc_a", "new boilers"), point("doc_b", "boilers elsewhere")
    await index.delete_points(tenant_id, [old.chunk_id])  # there is nothing at all yet
    await index.upsert(tenant_id, [old, new, other])
    await index.delete_points(tenant_id, [old.chunk_id, old.chunk_id])
    hits = await index.search(tenant_id, "boilers", limit=10)
    assert {hit.chunk_id for hit in hits} == {new.chunk_id, other.chunk_id}


async def test_what_is_held_is_listed_in_order_and_in_pages(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    tenant_id, other = tenants
    assert await index.held(tenant_id) == []
    points = [point("doc_a", f"paragraph {n} about boilers") for n in range(30)] + [point("doc_b", "elsewhere")]
    await index.upsert(tenant_id, points)
    await index.upsert(other, [point("doc_a", "of somebody else")])
    everything = sorted((Held(each.chunk_id, each.document_id) for each in points), key=lambda held: held.chunk_id)
    assert await index.held(tenant_id) == everything
    first = await index.held(tenant_id, limit=20)
    assert first == everything[:20]
    assert await index.held(tenant_id, after=first[-1].chunk_id) == everything[20:]
    assert await index.held(tenant_id, document_id="doc_b") == [Held(points[-1].chunk_id, "doc_b")]


def test_a_passage_keeps_its_id_wherever_it_stands(tenant_id: UUID) -> None:
    before = points_of(tenant_id, "doc_a", ["one", "two", "two"], language="en")
    after = points_of(tenant_id, "doc_a", ["zero", "one", "two", "two"], language="en")
    assert after[1:] == before
    assert len({each.chunk_id for each in after}) == 4
    others = points_of(tenant_id, "doc_b", ["one"], language="en") + points_of(
        tenant_id, "doc_a", ["one"], language="de"
    )
    assert not {each.chunk_id for each in others} & {each.chunk_id for each in after}


async def test_a_dropped_tenant_can_begin_again(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    await index.upsert(tenants[0], [point("doc_a", "boilers")])
    await index.drop_tenant(tenants[0])
    await index.upsert(tenants[0], [point("doc_b", "boilers")])
    assert documents(await index.search(tenants[0], "boiler", limit=10)) == ["doc_b"]


async def test_equal_scores_come_in_one_order(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    await index.upsert(tenants[0], [point(f"doc_{n}", "identical text") for n in range(20)])
    hits = await index.search(tenants[0], "identical", limit=20)
    assert [hit.chunk_id for hit in hits] == sorted(hit.chunk_id for hit in hits)


async def test_stems_stop_words_accents_and_languages(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    tenant_id = tenants[0]
    await index.upsert(
        tenant_id,
        [
            point("doc_en", "Returning the café chairs"),
            point("doc_de", "Die Rückgaben sind innerhalb von vierzehn Tagen möglich", language="de"),
            point("doc_zh", "我们的退货政策是十四天内可以退货", language="zh"),
            point("doc_ja", "返品は十四日以内にお願いします", language="ja"),
        ],
    )
    held = ["en", "de", "zh", "ja"]
    assert documents(await index.search(tenant_id, "returned cafe", limit=5, languages=held)) == ["doc_en"]
    assert documents(await index.search(tenant_id, "Rückgabe", limit=5, languages=held)) == ["doc_de"]
    assert "doc_zh" in documents(await index.search(tenant_id, "退货政策", limit=5, languages=held))
    assert documents(await index.search(tenant_id, "返品", limit=5, languages=held))[0] == "doc_ja"
    assert await index.search(tenant_id, "the of and", limit=5) == []
    assert await index.search(tenant_id, "?!", limit=5) == []


async def test_long_and_strange_queries_are_answered(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    await index.upsert(tenants[0], [point("doc_a", "boilers")])
    assert documents(await index.search(tenants[0], "boiler " * 50_000, limit=5)) == ["doc_a"]
    assert await index.search(tenants[0], "\x00\ud83d \u202e" + "𓀀" * 100, limit=5) == []


def test_a_word_and_its_forms_are_one_term() -> None:
    assert term_of("refunds") == term_of("refund") == term_of("Refunded")
    assert term_of("the") is None
    assert query_vector("refund refunds REFUND", ["en"]) == ([term_of("refund")], [1.0])


async def test_edge_survives_being_killed(tmp_path: Path) -> None:
    """Everything that a call returned for is there after SIGKILL."""
    tenant_id = ids.new_tenant_id()
    script = f"""
import asyncio, sys
from pathlib import Path
from uuid import UUID
from stonechat.knowledge.index import points_of
from stonechat.knowledge.index_edge import EdgeIndex

async def main():
    index = EdgeIndex(Path({str(tmp_path)!r}))
    tenant = UUID({str(tenant_id)!r})
    for n in range(3):
        texts = [f"boilers {{n}} {{i}}" for i in range(300)]
        await index.upsert(tenant, points_of(tenant, f"doc_{{n}}", texts, language="en"))
    await index.delete_document(tenant, "doc_1")
    print("done", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""
    root = str(Path(stonechat.__file__).parent.parent)
    child = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": root}
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"done\n"
        second = EdgeIndex(tmp_path)
        with pytest.raises(Unavailable, match="another process"):
            await second.count(tenant_id)
        await second.close()
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close() if child.stdout else None
    index = EdgeIndex(tmp_path)
    assert await index.count(tenant_id) == 600
    assert await index.count(tenant_id, document_id="doc_1") == 0
    assert {hit.document_id for hit in await index.search(tenant_id, "boilers", limit=600)} == {"doc_0", "doc_2"}
    await index.close()


async def test_edge_keeps_few_shards_open_and_finds_in_all(tmp_path: Path) -> None:
    index = EdgeIndex(tmp_path, max_open=3)
    tenants = [ids.new_tenant_id() for _ in range(8)]
    for tenant_id in tenants:
        await index.upsert(tenant_id, [point("doc_a", f"boilers of {tenant_id.hex}")])
    for tenant_id in tenants * 2:
        assert len(await index.search(tenant_id, "boilers", limit=5)) == 1
        assert len(index._shards) <= 3
    await index.close()
    with pytest.raises(Unavailable):
        await index.count(tenants[0])


async def test_edge_begins_anew_over_what_a_crash_left_of_a_creation(tmp_path: Path) -> None:
    tenant_id = ids.new_tenant_id()
    half = tmp_path / tenant_id.hex / "g1" / "segments" / "torn"
    half.mkdir(parents=True)
    index = EdgeIndex(tmp_path)
    await index.upsert(tenant_id, [point("doc_a", "boilers")])
    assert await index.count(tenant_id) == 1
    await index.close()


async def test_a_server_that_is_away_is_unavailable() -> None:
    index = ServerIndex("http://127.0.0.1:9")
    for call in (
        index.ready(),
        index.search(ids.new_tenant_id(), "boilers", limit=1),
        index.upsert(ids.new_tenant_id(), [point("doc_a", "boilers")]),
        index.count(ids.new_tenant_id()),
    ):
        with pytest.raises(Unavailable):
            await call
    await index.close()


async def test_the_settings_choose_the_engine(tmp_path: Path) -> None:
    embedded = open_index(Settings(STONECHAT_DATA_DIR=tmp_path))  # type: ignore[call-arg]
    assert isinstance(embedded, EdgeIndex)
    await embedded.close()
    server = open_index(Settings(QDRANT_URL="https://127.0.0.1:9", QDRANT_API_KEY="k"))  # type: ignore[call-arg]
    assert isinstance(server, ServerIndex)
    await server.close()


async def can_share(index: KnowledgeIndex) -> bool:
    """Whether the engine keeps word statistics of tenants apart in one collection: Edge, and servers from 1.19 on."""
    return not isinstance(index, ServerIndex) or await index.shares()


@pytest.mark.parametrize("layout", ["per_tenant", "shared"])
async def test_meaning_filters_and_labels(index: KnowledgeIndex, tenants: list[UUID], layout: Layout) -> None:
    one, two = (Place(tenant, 3, layout, model=f"acme/{TENANT.hex}", dimensions=4) for tenant in tenants)
    if layout == "shared" and not await can_share(index):
        with pytest.raises(Unavailable, match=r"1\.19"):
            await index.upsert(one, [point("doc_a", "boilers")])
        return
    near, far = (1.0, 0.1, 0.0, 0.0), (0.0, 0.0, 1.0, 0.2)
    await index.upsert(
        one,
        [
            replace(point("doc_a", "boilers"), vector=near, source_id="src_1", tags=("hot", "new")),
            replace(point("doc_b", "walrus boilers", language="de"), vector=far, source_id="src_2"),
            point("doc_c", "boilers by their words only"),
        ],
    )
    await index.upsert(two, [replace(point("doc_x", "boilers boilers"), vector=near, tags=("hot",))])
    assert documents(await index.nearest(one, near, limit=5)) == ["doc_a", "doc_b"]
    assert documents(await index.nearest(two, far, limit=5)) == ["doc_x"]
    assert await index.nearest(tenants[0], near, limit=5) == []
    for only, expected in (
        (Narrowing(source_id="src_1"), {"doc_a"}),
        (Narrowing(tags=("cold", "hot")), {"doc_a"}),
        (Narrowing(language="de"), {"doc_b"}),
        (Narrowing(language="de", tags=("hot",)), set()),
    ):
        assert set(documents(await index.search(one, "boilers", limit=5, only=only))) == expected
        assert set(documents(await index.nearest(one, near, limit=5, only=only))) == expected
    await index.label_document(one, "doc_b", source_id=None, tags=["cold"])
    await index.label_document(two, "doc_a", source_id=None, tags=["stolen"])
    assert documents(await index.search(one, "boilers", limit=5, only=Narrowing(tags=("cold",)))) == ["doc_b"]
    assert await index.search(one, "boilers", limit=5, only=Narrowing(source_id="src_2")) == []
    assert documents(await index.search(one, "boilers", limit=5, only=Narrowing(source_id="src_1"))) == ["doc_a"]
    before = await index.search(one, "walrus", limit=5)
    await index.upsert(two, [point(f"doc_{n}", "walrus walrus") for n in range(40)])
    assert await index.search(one, "walrus", limit=5) == before
    await index.drop(two)
    assert (await index.count(one), await index.count(two)) == (3, 0)


async def test_generations_stand_beside_each_other(index: KnowledgeIndex, tenants: list[UUID]) -> None:
    tenant_id = tenants[0]
    second = Place(tenant_id, 2)
    await index.upsert(tenant_id, [point("doc_a", "boilers")])
    await index.upsert(second, [point("doc_a", "boilers"), point("doc_b", "boilers")])
    assert (await index.count(tenant_id), await index.count(second)) == (1, 2)
    await index.drop(tenant_id)
    assert (await index.count(tenant_id), await index.count(second)) == (0, 2)
    await index.drop_tenant(tenant_id)
    assert await index.count(second) == 0
