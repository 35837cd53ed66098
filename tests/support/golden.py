"""Questions on documents, asked through the real chunks and the real index, without a database."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import stonechat
from stonechat.knowledge.chunk import index_text
from stonechat.knowledge.excerpt import Excerpt, best_excerpt
from stonechat.knowledge.extractors.worker import answer
from stonechat.knowledge.index import points_of
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.media import detect
from stonechat.knowledge.search import Passage

GOLDEN = Path(__file__).parent.parent / "knowledge" / "golden"
SHOP = Path(stonechat.__file__).parent / "demo" / "shop"
CORPORA: dict[str, list[Path]] = {
    "garden": [GOLDEN / "garden-shop.md"],
    "dishwasher": [GOLDEN / "dishwasher.md"],
    "packrat": [GOLDEN / "packrat.md"],
    "library": [GOLDEN / "library.txt"],
    "handbook": [GOLDEN / "handbook.html"],
    "museum": [GOLDEN / "museum.md"],
    "leaflet": [GOLDEN / "leaflet.txt"],
    "town": [GOLDEN / "town.html"],
    "siltbox": [GOLDEN / "siltbox.md"],
    "hostel": [GOLDEN / "hostel.html"],
    "ferry": [GOLDEN / "ferry.html"],
    "bikes": [GOLDEN / "bikes.md"],
    "clinic": [GOLDEN / "clinic.html"],
    "gym": [GOLDEN / "gym.txt"],
    "shop": sorted(path for path in SHOP.iterdir() if path.suffix in {".md", ".html", ".pdf"}),
}


@dataclass(frozen=True)
class Question:
    """A question to a corpus; `expected` is part of the right answer (or several, any of which will do, between
    bars), None if the corpus does not hold one."""

    corpus: str
    text: str
    expected: str | None


def questions(name: str) -> list[Question]:
    """The questions of one file: corpus, question and (if it has one) answer between tabs."""
    rows = [line.split("\t") for line in (GOLDEN / name).read_text().splitlines() if line]
    return [Question(row[0], row[1], row[2] if len(row) > 2 else None) for row in rows]


class Library:
    """Every corpus, each as a tenant of its own in one scratch index."""

    def __init__(self, folder: Path) -> None:
        self._index = EdgeIndex(folder)
        self._tenants = {name: uuid4() for name in CORPORA}
        self._passages: dict[str, Passage] = {}

    async def load(self, corpora: Iterable[str] = CORPORA) -> None:
        """Read and index the documents."""
        for name in corpora:
            tenant_id = self._tenants[name]
            for number, path in enumerate(CORPORA[name]):
                data = path.read_bytes()
                told = answer("read", detect(data, path.name), data)
                title = told["title"] or path.stem
                document = f"doc_{number}"
                texts = [index_text(type("Piece", (), fields), title=title) for fields in told["pieces"]]  # type: ignore[arg-type]
                points = points_of(tenant_id, document, texts, language=told["language"])
                for fields, point in zip(told["pieces"], points, strict=True):
                    key = point.chunk_id
                    self._passages[key] = Passage(
                        document, key, title, None, fields["text"], 0.0, tuple(fields["headings"]), fields["page"]
                    )
                await self._index.upsert(tenant_id, points)

    async def passages(self, corpus: str, question: str, *, limit: int = 8) -> list[Passage]:
        """What a search gives."""
        hits = await self._index.search(self._tenants[corpus], question, limit=limit)
        return [self._passages[hit.chunk_id] for hit in hits]

    async def ask(self, question: Question) -> Excerpt | None:
        """Search, then quote or abstain."""
        return best_excerpt(question.text, await self.passages(question.corpus, question.text))

    async def close(self) -> None:
        await self._index.close()


def holds(excerpt: Excerpt | None, question: Question) -> bool:
    """Whether the quotes hold the expected answer."""
    return (
        excerpt is not None
        and question.expected is not None
        and any(
            part.lower() in " ".join(quote.text.split()).lower()
            for quote in excerpt.quotes
            for part in question.expected.split("|")
        )
    )
