"""How fast Qdrant Edge is, by words and by words and meaning together, with vectors already made.

    python tests/benchmarks/search_speed.py [CHUNKS ...] [--dimensions 256]

Made-up passages of about 1,600 characters whose words are as unevenly used as in real text, random unit vectors, one
question at a time, asked while nothing is written. Prints a line a size: chunks written a second (BM25 included), and p50
and p99 in milliseconds. Not part of `make test`: what else a machine is doing decides about it.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from stonechat.knowledge.index import IndexPoint, Place, points_of
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.search import rank

QUESTIONS = 300
WRITTEN_AT_ONCE = 2000
_TENANT = UUID(int=1)


def words(chance: random.Random, count: int) -> str:
    """Words of a language of 50,000, few of them common."""
    return " ".join(f"w{min(50_000, int(chance.paretovariate(0.7)))}x" for _ in range(count))


def vector(chance: random.Random, dimensions: int) -> tuple[float, ...]:
    """A direction at random."""
    numbers = [chance.gauss(0, 1) for _ in range(dimensions)]
    length = math.sqrt(sum(number * number for number in numbers))
    return tuple(number / length for number in numbers)


async def measure(chunks: int, dimensions: int) -> None:
    """Write so many passages, ask, and print."""
    chance = random.Random(7)
    place = Place(_TENANT, 1, model="made/up" if dimensions else None, dimensions=dimensions or None)
    with tempfile.TemporaryDirectory(prefix="stonechat-speed-") as folder:
        index = EdgeIndex(Path(folder))
        spent = 0.0
        for start in range(0, chunks, WRITTEN_AT_ONCE):
            points: list[IndexPoint] = []
            for number in range(start, min(chunks, start + WRITTEN_AT_ONCE), 10):
                points += points_of(_TENANT, f"doc_{number}", [words(chance, 240) for _ in range(10)], language="en")
            if dimensions:
                points = [replace(point, vector=vector(chance, dimensions)) for point in points]
            began = time.perf_counter()
            await index.upsert(place, points)
            spent += time.perf_counter() - began
        sparse, hybrid = [], []
        for _ in range(QUESTIONS):
            question = words(chance, 9)
            began = time.perf_counter()
            await rank(index, place, question, limit=26, languages=["en"])
            sparse.append(time.perf_counter() - began)
            if dimensions:
                asked = vector(chance, dimensions)
                began = time.perf_counter()
                await rank(index, place, question, limit=26, languages=["en"], vector=asked)
                hybrid.append(time.perf_counter() - began)
        await index.close()
    print(
        f"chunks {chunks} dimensions {dimensions} written {chunks / spent:.0f}/s words {told(sparse)} both {told(hybrid)}",
        flush=True,
    )


def told(times: list[float]) -> str:
    """p50 and p99."""
    if not times:
        return "-"
    times.sort()
    return f"p50 {times[len(times) // 2] * 1000:.2f} ms p99 {times[int(len(times) * 0.99)] * 1000:.2f} ms"


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("chunks", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--dimensions", type=int, default=256)
    options = parser.parse_args()
    for chunks in options.chunks:
        await measure(chunks, options.dimensions)


if __name__ == "__main__":
    asyncio.run(main())
