"""Search by words and by meaning: what is fused, what is kept, what is filtered, and what a failing model costs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from stonechat.accounts.actor import system
from stonechat.accounts.secrets import put_secret
from stonechat.db.session import Database
from stonechat.errors import EmbeddingFailed, InvalidInput
from stonechat.knowledge import embeddings
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.embeddings import EmbeddingModel
from stonechat.knowledge.fusion import RRF_K, fuse
from stonechat.knowledge.index import Hit, Narrowing
from stonechat.knowledge.index_models import Embedding
from stonechat.knowledge.search import search
from stonechat.knowledge.tags import set_tags
from stonechat.knowledge.tuning import SearchSettings, put_settings
from support.assistant import KEYRING
from support.embedding import DIMENSIONS, FakeEmbeddings, choose_model, fake_embeddings, room_with_models
from support.knowledge import run_jobs, upload
from support.loopback import plain, serve


@pytest.fixture
async def room(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    async with room_with_models(database, tmp_path) as knowledge:
        yield knowledge


@pytest.fixture
async def model() -> AsyncIterator[FakeEmbeddings]:
    async with fake_embeddings() as fake:
        yield fake


def hits(*names: str) -> list[Hit]:
    return [Hit("doc", name, 10.0 - n) for n, name in enumerate(names)]


def test_ranks_add_up_and_ties_fall_the_same_way() -> None:
    fused = fuse([hits("a", "b"), hits("b", "c")])
    assert [hit.chunk_id for hit, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(1 / (RRF_K + 1) + 1 / (RRF_K + 2))
    tied = [
        [hit.chunk_id for hit, _ in fuse(rankings)] for rankings in ([hits("z"), hits("y")], [hits("y"), hits("z")])
    ]
    assert tied == [["y", "z"], ["y", "z"]]
    assert fuse([[], []]) == []


def test_scores_are_brought_to_one_scale_before_they_add_up() -> None:
    words = [Hit("doc", "a", 90.0), Hit("doc", "b", 10.0), Hit("doc", "c", 9.0)]
    meant = [Hit("doc", "b", 0.9), Hit("doc", "c", 0.2), Hit("doc", "a", 0.1)]
    fused = fuse([words, meant], by="dbsf")
    assert [hit.chunk_id for hit, _ in fused] == ["b", "a", "c"]
    assert all(0 <= score <= 2 for _, score in fused)
    assert [score for _, score in fuse([hits("a"), []], by="dbsf")] == [0.5]


async def test_meaning_finds_what_no_word_does(room: Knowledge, tenant_id: UUID, model: FakeEmbeddings) -> None:
    right = await upload(room, tenant_id, "Refunds within fourteen days.", title="Money")
    await upload(room, tenant_id, "Our walrus swims daily.", title="Zoo")
    before = await search(room, tenant_id, "returns")
    assert "returns" not in right.title
    assert all(passage.meaning_rank is None for passage in before)
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    found = await search(room, tenant_id, "returns")
    assert found[0].document_id == right.document_id
    assert found[0].meaning_rank == 1
    assert found.notes == ()


async def test_unchanged_texts_are_never_embedded_again_and_all_use_is_counted(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings
) -> None:
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    document = await upload(room, tenant_id, "Refunds within fourteen days.", title="Money")
    asked = len(model.asked)
    await upload(room, tenant_id, "Refunds within fourteen days.", title="Money")
    assert len(model.asked) == asked, "the same text in another document"
    assert document.error is None
    await search(room, tenant_id, "refunds")
    assert model.asked[asked:] == ["refunds"]
    async with room.database.tenant(tenant_id) as session:
        kept = await session.scalar(select(func.count()).select_from(Embedding).where(Embedding.tenant_id == tenant_id))
        rows = await session.execute(
            text("select purpose, provider, model, sum(input_tokens) as tokens, bool_or(estimated) as estimated "
                 "from usage_ledger where tenant_id = :tenant group by 1, 2, 3"),
            {"tenant": tenant_id},
        )  # fmt: skip
        [used] = rows.all()
    assert kept == asked, "questions are not kept"
    assert tuple(used) == ("embedding", "acme", "embed-1", 7 * len(model.asked), False)


@pytest.mark.parametrize(("status", "said"), [(401, "refused the key"), (404, "no embedding model"), (400, "refused")])
async def test_a_model_that_refuses_leaves_search_by_words_and_says_so(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, status: int, said: str
) -> None:
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    first = await upload(room, tenant_id, "Refunds within fourteen days.", title="Money")
    model.status = status
    found = await search(room, tenant_id, "refunds")
    assert [passage.document_id for passage in found] == [first.document_id]
    assert len(found.notes) == 1
    assert said in found.notes[0]
    second = await upload(room, tenant_id, "Refunds of vouchers.", title="Vouchers")
    assert second.status == "ready"
    assert second.error is not None
    assert said in second.error
    assert {passage.document_id for passage in await search(room, tenant_id, "refunds")} == {
        first.document_id,
        second.document_id,
    }


async def test_a_slow_model_does_not_hold_up_a_search(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    await upload(room, tenant_id, "Refunds within fourteen days.", title="Money")
    model.slow = True
    monkeypatch.setattr(embeddings, "QUERY_SECONDS", 0.05)
    async with asyncio.timeout(20):
        found = await search(room, tenant_id, "refunds")
    assert len(found) == 1
    assert "in time" in found.notes[0]


async def test_trouble_that_passes_is_tried_again(room: Knowledge, tenant_id: UUID, model: FakeEmbeddings) -> None:
    assert room.remote is not None
    await choose_model(room, tenant_id, model.url)
    model.status = 500

    async def heal() -> None:
        while len(model.server.requests) < 1:
            await asyncio.sleep(0.01)
        model.status = 200

    healing = asyncio.create_task(heal())
    [vector] = await room.remote.embedder.embed(tenant_id, EmbeddingModel("acme", "embed-1"), ["boilers"])
    await healing
    assert len(vector) == DIMENSIONS
    assert len(model.server.requests) >= 2


@pytest.mark.parametrize(
    "told",
    [
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0] * 4}]},
        {"data": [{"index": 0, "embedding": [0.0] * 32}]},
        {"data": [{"index": 0, "embedding": ["x"] * 32}]},
        {"data": [{"index": 0}]},
        {"data": None},
        [],
    ],
)
async def test_nonsense_is_no_vector(room: Knowledge, tenant_id: UUID, told: object) -> None:
    assert room.remote is not None
    async with serve(plain(json.dumps(told).encode(), headers={"Content-Type": "application/json"})) as server:
        await choose_model(room, tenant_id, f"{server.url}/v1")
        with pytest.raises(EmbeddingFailed, match=r"no embedding|reached"):
            await room.remote.embedder.embed(tenant_id, EmbeddingModel("acme", "embed-1"), ["boilers"])


async def test_searches_are_narrowed_by_source_tags_and_language(
    room: Knowledge, tenant_id: UUID, model: FakeEmbeddings
) -> None:
    await choose_model(room, tenant_id, model.url)
    await run_jobs(room, tenant_id)
    english = await upload(room, tenant_id, "The refund of every voucher takes five days in our shops.", title="One")
    german = await upload(
        room, tenant_id, "Die Erstattung (refund) dauert bei uns immer fünf Tage, und nicht weniger.", title="Zwei"
    )
    assert german.language == "de"
    async with room.database.tenant(tenant_id) as session:
        tagged = await set_tags(session, system(tenant_id), document_id=english.document_id, tags=[" Money ", "money"])
        assert tagged.tags == ["money"]
    # The index still has to be told, and until then nothing that is not tagged is shown.
    assert german.document_id not in ids_of(await search(room, tenant_id, "refund", only=Narrowing(tags=("money",))))
    await run_jobs(room, tenant_id)
    assert ids_of(await search(room, tenant_id, "refund", only=Narrowing(tags=("money", "x")))) == {english.document_id}
    assert ids_of(await search(room, tenant_id, "refund", only=Narrowing(language="de"))) == {german.document_id}
    assert ids_of(await search(room, tenant_id, "refund", only=Narrowing(source_id="src_none"))) == set()
    with pytest.raises(InvalidInput):
        async with room.database.tenant(tenant_id) as session:
            await set_tags(session, system(tenant_id), document_id=english.document_id, tags=["x" * 51])


async def test_a_reranker_has_the_last_word_and_its_key_goes_nowhere_else(room: Knowledge, tenant_id: UUID) -> None:
    await upload(room, tenant_id, "Refunds refunds refunds.", title="Much")
    best = await upload(room, tenant_id, "Refunds take five days for every order that is sent back.", title="Answer")
    async with room.database.tenant(tenant_id) as session:
        await put_secret(session, system(tenant_id), keyring=KEYRING, name="rerank", value="rk-12345678")

    async def answer(request: object, writer: asyncio.StreamWriter) -> None:
        body = json.loads(server.requests[-1].body)
        results = [
            {"index": n, "relevance_score": 0.9 if "five days" in d else 0.1} for n, d in enumerate(body["documents"])
        ]
        writer.write(plain(json.dumps({"results": results}).encode()))
        await writer.drain()

    async with serve(answer) as server:
        await configure(room, tenant_id, reranker_url=f"{server.url}/v1/rerank", reranker_secret="rerank")
        found = await search(room, tenant_id, "refunds")
        assert (found[0].document_id, found[0].score) == (best.document_id, 0.9)
        assert found.notes == ()
        assert server.requests[0].headers["authorization"] == "bearer rk-12345678"
        # Below the floor by its judgement, nothing was found.
        await configure(
            room, tenant_id, reranker_url=f"{server.url}/v1/rerank", reranker_secret="rerank", score_floor=0.95
        )
        low = await search(room, tenant_id, "refunds")
        assert (list(low), low.below_floor, low.confidence) == ([], True, 0.9)
        await configure(room, tenant_id, reranker_url=f"{server.url}/v1/rerank", reranker_secret="gone")
        assert "no readable secret" in (await search(room, tenant_id, "refunds")).notes[0]
    await configure(room, tenant_id, reranker_url=f"{server.url}/v1/rerank")
    away = await search(room, tenant_id, "refunds")
    assert len(away) == 2
    assert away.notes[0].startswith("Not reranked")


@pytest.mark.parametrize(
    "told",
    [b"[]", b"{}", b'{"results": [{"index": 7, "relevance_score": 1}]}', b"<html>", b'{"results": [{"index": true}]}'],
)
async def test_a_reranker_that_talks_nonsense_changes_nothing(room: Knowledge, tenant_id: UUID, told: bytes) -> None:
    await upload(room, tenant_id, "Refunds take five days.", title="Answer")
    async with serve(plain(told)) as server:
        await configure(room, tenant_id, reranker_url=f"{server.url}/rerank")
        found = await search(room, tenant_id, "refunds")
    assert len(found) == 1
    assert "no ranking" in found.notes[0]


async def test_a_floor_keeps_far_fetched_passages_away(room: Knowledge, tenant_id: UUID) -> None:
    await upload(room, tenant_id, "Refunds take five days.", title="Money")
    await configure(room, tenant_id, score_floor=0.6)
    assert len(await search(room, tenant_id, "how long do refunds take")) == 1
    far = await search(room, tenant_id, "refunds for walrus submarine captains abroad")
    assert (list(far), far.below_floor) == ([], True)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"embedding_provider": "acme"}, "embedding_model"),
        ({"embedding_model": "m"}, "embedding_provider"),
        ({"embedding_provider": "nobody", "embedding_model": "m"}, "embedding_provider"),
        ({"embedding_dimensions": 64}, "embedding_dimensions"),
        ({"reranker_secret": "x"}, "reranker_secret"),
        ({"reranker_url": "ftp://x"}, "reranker_url"),
        ({"reranker_url": "https://u:p@x"}, "reranker_url"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_by_field(
    room: Knowledge, tenant_id: UUID, settings: dict[str, object], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await configure(room, tenant_id, **settings)
    assert refused.value.members["errors"][0]["field"] == field


def ids_of(passages: object) -> set[str]:
    return {passage.document_id for passage in passages}  # type: ignore[attr-defined]


async def configure(room: Knowledge, tenant_id: UUID, **settings: object) -> None:
    async with room.database.tenant(tenant_id) as session:
        await put_settings(session, system(tenant_id), settings=SearchSettings.model_validate(settings))
