"""Retrieval is measured as documented, and a mistyped set is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stonechat.errors import InvalidInput
from stonechat.knowledge.evaluate import evaluate_retrieval, ndcg, recall


def write_set(folder: Path) -> Path:
    corpus = [
        {"_id": "1", "title": "Boilers", "text": "Boilers heat water."},
        {"_id": "2", "title": "", "text": "Walruses swim in cold water."},
        {"_id": "3", "title": "Empty", "text": " "},
    ]
    queries = [{"_id": "a", "text": "heating water with a boiler"}, {"_id": "b", "text": "unjudged"}]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)) + "\n")
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\na\t1\t4\na\t2\t0\n")
    return folder


async def test_a_small_set(tmp_path: Path) -> None:
    report = await evaluate_retrieval(write_set(tmp_path))
    assert (report.documents, report.chunks, report.queries) == (3, 2, 1)
    lines = dict(line.split(" ") for line in report.lines())
    assert (lines["ndcg@10"], lines["recall@10"], lines["recall@100"]) == ("1.0000", "1.0000", "1.0000")
    assert {"search_p50_ms", "search_p99_ms", "chunks_per_second"} <= set(lines)


def test_the_measures() -> None:
    judged = {"x": 4.0, "y": 1.0, "z": 0.0}
    assert ndcg(["x", "y"], judged) == 1.0
    assert ndcg(["z", "x"], judged) == pytest.approx((4 / 1.584962500721156) / (4 + 1 / 1.584962500721156))
    assert ndcg(["q"], judged) == 0.0
    assert recall(["z", "x"], judged, depth=10) == 0.5
    assert recall(["z", "x"], judged, depth=1) == 0.0


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("corpus.jsonl", None, "missing"),
        ("corpus.jsonl", '{"_id": "1", "text": "a"}\n{"_id": 2}', "line 2"),
        ("queries.jsonl", "not json", "line 1"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\na 1 4", "line 2"),
        ("qrels.tsv", "query-id\tcorpus-id\tscore\nq9\t1\t4", "no judged question"),
        ("corpus.jsonl", b"\xff\xfe\xfa", "UTF-8"),
    ],
)
async def test_a_mistyped_set_is_named(tmp_path: Path, file: str, content: str | bytes | None, said: str) -> None:
    path = write_set(tmp_path) / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidInput, match=said):
        await evaluate_retrieval(tmp_path)
