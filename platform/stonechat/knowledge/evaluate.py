"""How well, and how fast, search finds what it should, on a judged set: the numbers of `stonechat eval retrieval DIR`.

`DIR` holds `corpus.jsonl` (`_id`, `title`, `text`), `queries.jsonl` (`_id`, `text`) and `qrels.tsv` (query-id, corpus-id,
score; a header line). Documents go through the same chunks, vectors and engine as a tenant's, in a scratch folder;
a document ranks where its best passage does. Needs no database.
"""

from __future__ import annotations

import csv
import json
import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from stonechat.errors import InvalidInput
from stonechat.knowledge.chunk import cut, index_text
from stonechat.knowledge.extractors.plain import extract_text
from stonechat.knowledge.index import IndexPoint, KnowledgeIndex, points_of
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.language import detect_language

MAX_DOCUMENTS = 1_000_000
_TENANT = UUID(int=0)
_DEPTH = 100
_PASSAGES = 200
"""Passages asked for, so that a hundred documents remain when several passages are of one."""
_WRITE = 2000


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Documents (title, text), questions, and which documents answer them how well (0 is not at all)."""

    documents: dict[str, tuple[str, str]]
    queries: dict[str, str]
    judgements: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class RetrievalReport:
    """Means over the judged questions; gain is the judgement itself. Times are of the search alone."""

    documents: int
    chunks: int
    queries: int
    ndcg_at_10: float
    recall_at_10: float
    recall_at_100: float
    search_p50_ms: float
    search_p99_ms: float
    chunks_per_second: float

    def lines(self) -> list[str]:
        """The report as printed: a name and a number a line."""
        return [
            f"documents {self.documents}",
            f"chunks {self.chunks}",
            f"queries {self.queries}",
            f"ndcg@10 {self.ndcg_at_10:.4f}",
            f"recall@10 {self.recall_at_10:.4f}",
            f"recall@100 {self.recall_at_100:.4f}",
            f"search_p50_ms {self.search_p50_ms:.2f}",
            f"search_p99_ms {self.search_p99_ms:.2f}",
            f"chunks_per_second {self.chunks_per_second:.0f}",
        ]


async def evaluate_retrieval(folder: Path) -> RetrievalReport:
    """Load the set in `folder` into a scratch index, ask every judged question, and score the answers."""
    judged = load_judged_set(folder)
    with tempfile.TemporaryDirectory(prefix="stonechat-eval-") as scratch:
        index = EdgeIndex(Path(scratch))
        try:
            chunks, languages, seconds = await _load(index, judged)
            return await _ask(index, judged, chunks=chunks, languages=sorted(languages), seconds=seconds)
        finally:
            await index.close()


def load_judged_set(folder: Path) -> JudgedSet:
    """Read the three files; raises `InvalidInput` naming the file, and the line, that is not as it should be."""
    documents = {
        str(row["_id"]): (str(row.get("title") or ""), str(row["text"])) for row in _rows(folder / "corpus.jsonl")
    }
    queries = {str(row["_id"]): str(row["text"]) for row in _rows(folder / "queries.jsonl")}
    judgements: dict[str, dict[str, float]] = defaultdict(dict)
    path = folder / "qrels.tsv"
    for number, row in enumerate(csv.reader(_open(path).splitlines(), delimiter="\t"), start=1):
        try:
            query, document, score = row
            judgements[query][document] = float(score)
        except ValueError:
            if number > 1:
                raise InvalidInput(f"{path}, line {number}: expected query, document and score between tabs.") from None
    if not documents or not any(query in queries for query in judgements):
        raise InvalidInput(f"{folder} holds no documents, or no judged question.")
    return JudgedSet(documents, queries, dict(judgements))


def ndcg(ranked: Sequence[str], judgements: Mapping[str, float], *, depth: int = 10) -> float:
    """Normalised discounted cumulative gain, the gain being the judgement."""
    ideal = sorted((score for score in judgements.values() if score > 0), reverse=True)[:depth]
    best = sum(score / math.log2(place + 2) for place, score in enumerate(ideal))
    found = sum(judgements.get(key, 0.0) / math.log2(place + 2) for place, key in enumerate(ranked[:depth]))
    return found / best if best else 0.0


def recall(ranked: Sequence[str], judgements: Mapping[str, float], *, depth: int) -> float:
    """The share of the documents judged above 0 that are among the first `depth`."""
    relevant = {key for key, score in judgements.items() if score > 0}
    return len(relevant.intersection(ranked[:depth])) / len(relevant) if relevant else 0.0


async def _load(index: KnowledgeIndex, judged: JudgedSet) -> tuple[int, set[str], float]:
    began = time.perf_counter()
    points: list[IndexPoint] = []
    languages: set[str] = set()
    chunks = 0
    for document_id, (title, text) in judged.documents.items():
        if not any(character.isalnum() for character in text):
            continue
        document = extract_text(text.encode())
        language = detect_language(document.text)
        languages.add(language)
        texts = [index_text(piece, title=title) for piece in cut(document)]
        points += points_of(_TENANT, document_id, texts, language=language)
        if len(points) >= _WRITE:
            await index.upsert(_TENANT, points)
            chunks, points = chunks + len(points), []
    await index.upsert(_TENANT, points)
    return chunks + len(points), languages, time.perf_counter() - began


async def _ask(
    index: KnowledgeIndex, judged: JudgedSet, *, chunks: int, languages: list[str], seconds: float
) -> RetrievalReport:
    asked = [query for query in judged.queries if any(score > 0 for score in judged.judgements.get(query, {}).values())]
    times: list[float] = []
    rankings: list[tuple[list[str], Mapping[str, float]]] = []
    for query in asked:
        began = time.perf_counter()
        hits = await index.search(_TENANT, judged.queries[query], limit=_PASSAGES, languages=languages)
        times.append((time.perf_counter() - began) * 1000)
        ranked = list(dict.fromkeys(hit.document_id for hit in hits))[:_DEPTH]
        rankings.append((ranked, judged.judgements[query]))
    times.sort()

    def mean(values: Iterator[float]) -> float:
        return sum(values) / max(1, len(rankings))

    return RetrievalReport(
        documents=len(judged.documents),
        chunks=chunks,
        queries=len(asked),
        ndcg_at_10=mean(ndcg(ranked, scores) for ranked, scores in rankings),
        recall_at_10=mean(recall(ranked, scores, depth=10) for ranked, scores in rankings),
        recall_at_100=mean(recall(ranked, scores, depth=100) for ranked, scores in rankings),
        search_p50_ms=times[len(times) // 2] if times else 0.0,
        search_p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))] if times else 0.0,
        chunks_per_second=chunks / seconds if seconds else 0.0,
    )


def _open(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        raise InvalidInput(f"{path} is missing or cannot be read.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text.") from None


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_open(path).split("\n"), start=1):
        if number > MAX_DOCUMENTS:
            raise InvalidInput(f"{path} has more than {MAX_DOCUMENTS} lines.")
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or "_id" not in row or not isinstance(row.get("text"), str):
                raise ValueError
        except ValueError:
            raise InvalidInput(f"{path}, line {number}: expected an object with “_id” and “text”.") from None
        yield row
