"""A provider of embeddings on loopback: the same text always has the same vector, and texts that share words are near."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from uuid import UUID

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.files import FolderStore
from stonechat.knowledge.deps import Knowledge, Remote
from stonechat.knowledge.embeddings import Embedder
from stonechat.knowledge.index import Layout
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.layouts import TenantIndex
from stonechat.knowledge.tuning import SearchSettings, SearchSettingsView, put_settings
from stonechat.outbound.client import OutboundClient
from stonechat.providers.service import list_providers
from support.assistant import KEYRING, add_provider, model_providers
from support.loopback import Loopback, Received, plain, serve

DIMENSIONS = 32
SYNONYMS = {"returns": "refunds", "automobile": "car", "kettle": "boiler"}
"""What the double understands beyond the letters."""


def vector_of(text: str, *, dimensions: int = DIMENSIONS) -> list[float]:
    """A unit vector: each word, or what it means, is a direction of its own."""
    numbers = [1e-6] * dimensions
    for word in text.lower().split():
        plain_word = word.strip(".,?!:;")
        digest = hashlib.sha256(SYNONYMS.get(plain_word, plain_word).encode()).digest()
        for byte in range(4):
            numbers[digest[byte] % dimensions] += 1.0 if digest[byte + 8] % 2 else -1.0
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


@dataclass
class FakeEmbeddings:
    """`status` other than 200 refuses; `dimensions` is the length of the vectors; `asked` are the texts so far."""

    server: Loopback
    status: int = 200
    dimensions: int = DIMENSIONS
    slow: bool = False
    usage: bool = True

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    @property
    def asked(self) -> list[str]:
        return [text for request in self.server.requests for text in json.loads(request.body)["input"]]


@asynccontextmanager
async def fake_embeddings() -> AsyncIterator[FakeEmbeddings]:
    """A host with one embedding model."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        if fake.slow:
            await asyncio.sleep(30)
        body = json.loads(request.body)
        texts = body["input"]
        if fake.status != 200:
            told: dict[str, object] = {"error": {"message": "no", "code": "refused"}}
        else:
            length = body.get("dimensions") or fake.dimensions
            told = {
                "object": "list",
                "model": body["model"],
                "data": [
                    {"object": "embedding", "index": n, "embedding": vector_of(text, dimensions=length)}
                    for n, text in enumerate(texts)
                ],
            }
            if fake.usage:
                told["usage"] = {"prompt_tokens": 7 * len(texts), "total_tokens": 7 * len(texts)}
        headers = {"Content-Type": "application/json"}
        writer.write(plain(json.dumps(told).encode(), status=fake.status, headers=headers))
        await writer.drain()

    async with serve(answer) as server:
        fake = FakeEmbeddings(server)
        yield fake


@asynccontextmanager
async def room_with_models(
    database: Database, folder: Path, *, layout: Layout = "per_tenant"
) -> AsyncIterator[Knowledge]:
    """A knowledge room that can ask models on loopback."""
    async with model_providers(database) as providers:
        embedder = Embedder(database, providers)
        index = TenantIndex(EdgeIndex(folder / "index"), database, embedder=embedder, layout=layout)
        remote = Remote(
            embedder,
            providers,
            OutboundClient(allowed_networks=[ip_network("127.0.0.0/8")], allowed_ports=range(1, 65536)),
            KEYRING,
            allow_http=True,
        )
        room = Knowledge(database, index, FolderStore(folder / "files"), remote=remote)
        try:
            yield room
        finally:
            await room.close()


async def choose_model(
    knowledge: Knowledge, tenant_id: UUID, url: str, *, model: str = "embed-1", provider: str = "acme", **more: object
) -> SearchSettingsView:
    """Add the provider, if it is not there, and search by its model from now on (once the jobs ran)."""
    settings = SearchSettings.model_validate({"embedding_provider": provider, "embedding_model": model} | more)
    if not await _has_provider(knowledge.database, tenant_id, provider):
        await add_provider(knowledge.database, tenant_id, name=provider, base_url=url)
    async with knowledge.database.tenant(tenant_id) as session:
        layout = knowledge.index.layout if isinstance(knowledge.index, TenantIndex) else "per_tenant"
        return await put_settings(session, system(tenant_id), settings=settings, layout=layout)


async def _has_provider(database: Database, tenant_id: UUID, name: str) -> bool:
    async with database.tenant(tenant_id) as session:
        return any(each.name == name for each in await list_providers(session, system(tenant_id)))
