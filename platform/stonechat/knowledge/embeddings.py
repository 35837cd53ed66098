"""Vectors of texts by the tenant's own embedding model. What was embedded once is never paid for again.

A vector is kept by the SHA-256 of its text. Calls are bounded: so many texts, so many characters, so much time, so many
attempts. The platform's key never pays: only a provider of the tenant's own is asked.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import openai
from openai import Omit
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import (
    EmbeddingFailed,
    ModelUnknown,
    PayloadTooLarge,
    ProviderResting,
    SecretUnreadable,
    TargetNotAllowed,
)
from stonechat.knowledge.index_models import Embedding
from stonechat.providers.counting import counted
from stonechat.providers.provider import ModelProviders
from stonechat.providers.retries import judge
from stonechat.usage.ledger import record_use

MAX_TEXT = 8000
"""Characters of a text that are embedded. Passages have about 1,600; only a single unbreakable word is longer."""
BATCH_TEXTS, BATCH_CHARACTERS = 64, 100_000
SECONDS, QUERY_SECONDS = 60.0, 2.0
MIN_DIMENSIONS, MAX_DIMENSIONS = 8, 4096
KEPT_DAYS = 90
_REMEMBERED = timedelta(days=1)
"""How old `used_at` may be before it is written anew: not at every look."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A model of one of the tenant's providers. `dimensions` are asked for; None: whatever the model makes."""

    provider: str
    name: str
    dimensions: int | None = None

    @property
    def key(self) -> str:
        """What vectors of this model are kept under: vectors of two keys never compare."""
        return f"{self.provider}/{self.name}" + (f"@{self.dimensions}" if self.dimensions else "")


@dataclass(slots=True)
class _Answer:
    vectors: list[list[float]]
    tokens: int
    estimated: bool


class Embedder:
    """Asks providers for vectors, and remembers them in Postgres."""

    def __init__(self, database: Database, providers: ModelProviders) -> None:
        self._database = database
        self._providers = providers

    async def embed(self, tenant_id: UUID, model: EmbeddingModel, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """A vector for each text, of equal lengths. Raises `EmbeddingFailed`; what was made until then is kept.

        Holds no transaction while a provider thinks.
        """
        hashes = [_hash(text) for text in texts]
        wanted = dict(zip(hashes, texts, strict=True))
        known = await self._recall(tenant_id, model, list(wanted))
        missing = [(key, text[:MAX_TEXT]) for key, text in wanted.items() if key not in known]
        for batch in _batches(missing):
            answer = await self._patiently(tenant_id, model, [text for _, text in batch])
            made = {key: _pack(vector) for (key, _), vector in zip(batch, answer.vectors, strict=True)}
            await self._remember(tenant_id, model, made, answer)
            known |= made
        vectors = [_unpack(known[key]) for key in hashes]
        if len({len(vector) for vector in vectors}) > 1:
            raise EmbeddingFailed(f"The model “{model.name}” makes vectors of different lengths. Choose another model.")
        return vectors

    async def embed_query(self, tenant_id: UUID, model: EmbeddingModel, text: str) -> tuple[float, ...]:
        """A question's vector, asked for once and within `QUERY_SECONDS`. Raises `EmbeddingFailed`."""
        answer = await self._ask(tenant_id, model, [text[:MAX_TEXT]], seconds=QUERY_SECONDS)
        async with self._database.tenant(tenant_id) as session:
            await _record(session, tenant_id, model, answer)
        return tuple(answer.vectors[0])

    async def _recall(self, tenant_id: UUID, model: EmbeddingModel, hashes: list[bytes]) -> dict[bytes, bytes]:
        now = clock.now()
        async with self._database.tenant(tenant_id) as session:
            mine = (Embedding.tenant_id == tenant_id, Embedding.model == model.key, Embedding.content_hash.in_(hashes))
            rows = await session.execute(select(Embedding.content_hash, Embedding.vector).where(*mine))
            known = {row.content_hash: row.vector for row in rows}
            await session.execute(
                update(Embedding).where(*mine, Embedding.used_at < now - _REMEMBERED).values(used_at=now)
            )
        return known

    async def _remember(
        self, tenant_id: UUID, model: EmbeddingModel, made: dict[bytes, bytes], answer: _Answer
    ) -> None:
        rows = [
            {"tenant_id": tenant_id, "model": model.key, "content_hash": key, "vector": vector}
            for key, vector in sorted(made.items())
        ]
        async with self._database.tenant(tenant_id) as session:
            await session.execute(insert(Embedding).values(rows).on_conflict_do_nothing())
            await _record(session, tenant_id, model, answer)

    async def _patiently(self, tenant_id: UUID, model: EmbeddingModel, texts: list[str]) -> _Answer:
        attempt = 1
        while True:
            try:
                return await self._ask(tenant_id, model, texts, seconds=SECONDS)
            except EmbeddingFailed as error:
                cause = error.__cause__
                again = cause is not None and judge(cause).retry
                pause = self._providers.retries.pause(attempt, cause) if again and cause is not None else None
                if pause is None:
                    raise
                await asyncio.sleep(pause)
                attempt += 1

    async def _ask(self, tenant_id: UUID, model: EmbeddingModel, texts: list[str], *, seconds: float) -> _Answer:
        place = (tenant_id, f"{model.provider}:embedding")
        try:
            async with asyncio.timeout(seconds), self._providers.client(tenant_id, model.provider) as client:
                with counted("embedding"), self._providers.breakers.calling(place) as call:
                    try:
                        answer = await client.embeddings.create(
                            model=model.name,
                            input=texts,
                            dimensions=model.dimensions or Omit(),
                            encoding_format="float",
                        )
                    except Exception as error:
                        call.failed() if judge(error).counts else call.succeeded()
                        raise
                    call.succeeded()
            return _checked(answer, texts)
        except (openai.OpenAIError, TimeoutError, PayloadTooLarge, ModelUnknown, SecretUnreadable) as error:
            raise EmbeddingFailed(_sentence(error, model)) from error
        except (TargetNotAllowed, ProviderResting) as error:
            raise EmbeddingFailed(_sentence(error, model)) from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise EmbeddingFailed(
                f"“{model.provider}” answered with something that is no embedding. Check that “{model.name}” is a model "
                "for embeddings, not one that writes."
            ) from error


async def forget_embeddings(database: Database, tenant_id: UUID, *, limit: int = 10_000) -> None:
    """Delete vectors that were not used for `KEPT_DAYS`, at most so many."""
    async with database.tenant(tenant_id) as session:
        stale = (
            select(Embedding.model, Embedding.content_hash)
            .where(Embedding.tenant_id == tenant_id, Embedding.used_at < clock.now() - timedelta(days=KEPT_DAYS))
            .limit(limit)
            .subquery()
        )
        await session.execute(
            delete(Embedding).where(
                Embedding.tenant_id == tenant_id,
                Embedding.model == stale.c.model,
                Embedding.content_hash == stale.c.content_hash,
            )
        )


def _checked(answer: object, texts: Sequence[str]) -> _Answer:
    """The provider's vectors in the order of the texts. Raises `ValueError` for anything else than that."""
    data = sorted(answer.data, key=lambda each: each.index)  # type: ignore[attr-defined]
    vectors = [[float(number) for number in each.embedding] for each in data]
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != len(texts) or len(lengths) != 1 or not MIN_DIMENSIONS <= lengths.pop() <= MAX_DIMENSIONS:
        raise ValueError("not as many vectors of one length as texts")
    if not all(math.isfinite(number) for vector in vectors for number in vector):
        raise ValueError("not finite")
    if not all(any(vector) for vector in vectors):
        raise ValueError("nothing but zeros")
    told = getattr(getattr(answer, "usage", None), "prompt_tokens", None)
    estimated = not isinstance(told, int) or told <= 0
    return _Answer(vectors, sum(map(len, texts)) // 4 if estimated else told, estimated)  # type: ignore[arg-type]


async def _record(session: object, tenant_id: UUID, model: EmbeddingModel, answer: _Answer) -> None:
    await record_use(
        session,  # type: ignore[arg-type]
        tenant_id,
        purpose="embedding",
        provider=model.provider,
        model=model.name,
        input_tokens=answer.tokens,
        estimated=answer.estimated,
    )


def _sentence(error: Exception, model: EmbeddingModel) -> str:  # noqa: PLR0911  a return a sentence
    """What went wrong and what to do, for the people whose provider it is."""
    name = model.provider
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            return f"“{name}” refused the key. Replace it under Model providers, then try again."
        case openai.NotFoundError():
            return f"“{name}” has no embedding model called “{model.name}”. Choose another in the search settings."
        case openai.RateLimitError():
            return f"“{name}” says that it is used too much, or that there is no credit left. Check your plan there."
        case openai.BadRequestError() | openai.UnprocessableEntityError():
            return f"“{name}” refused the texts for “{model.name}”. Check the model and the number of dimensions."
        case ModelUnknown():
            return f"There is no model provider called “{name}” with a key. Add it, or choose another."
        case SecretUnreadable():
            return f"The key of “{name}” cannot be read any more. Enter it again under Model providers."
        case TargetNotAllowed():
            return f"The address of “{name}” may not be reached from here. Check it under Model providers."
        case ProviderResting():
            return f"“{name}” failed several times and is left alone for a minute."
        case openai.APITimeoutError() | TimeoutError():
            return f"“{name}” did not answer in time."
        case _:
            return f"“{name}” cannot be reached, or has a problem of its own. It is tried again later."


def _batches(items: Sequence[tuple[bytes, str]]) -> Iterator[list[tuple[bytes, str]]]:
    batch: list[tuple[bytes, str]] = []
    size = 0
    for item in items:
        if batch and (len(batch) >= BATCH_TEXTS or size + len(item[1]) > BATCH_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item[1])
    if batch:
        yield batch


def _hash(text: str) -> bytes:
    return hashlib.sha256(text[:MAX_TEXT].encode("utf-8", "surrogatepass")).digest()


def _pack(vector: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(vector)}f", *vector)


def _unpack(packed: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(packed) // 4}f", packed)
