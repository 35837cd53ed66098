"""Testing a provider's connection says in words what is wrong, and tells nobody the key."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_network
from uuid import UUID

import pytest

from stonechat.accounts.actor import Actor, system
from stonechat.db.session import Database
from stonechat.errors import NotFound, ScopeMissing
from stonechat.outbound.client import OutboundClient
from stonechat.providers import check, service
from stonechat.providers.check import ProviderTest, check_provider
from support.assistant import KEYRING
from support.loopback import Received, plain, serve

MODELS = json.dumps({"object": "list", "data": [{"id": "small"}, {"id": "large"}]}).encode()


async def ask(
    database: Database, tenant_id: UUID, base_url: str | None, *, openai_base_url: str = "http://127.0.0.1:1/v1"
) -> ProviderTest:
    async with database.tenant(tenant_id) as session:
        provider = await service.create_provider(
            session,
            system(tenant_id),
            keyring=KEYRING,
            name="acme",
            kind="openai_compatible" if base_url else "openai",
            api_key="sk-ours",
            base_url=base_url,
        )
    outbound = OutboundClient(allowed_networks=[ip_network("127.0.0.0/8")])
    try:
        return await check_provider(
            database,
            system(tenant_id),
            keyring=KEYRING,
            provider_id=provider.id,
            outbound=outbound,
            allow_http=True,
            openai_base_url=openai_base_url,
        )
    finally:
        await outbound.aclose()


@pytest.mark.parametrize("ours", [False, True])
async def test_a_provider_that_answers_names_its_models(database: Database, tenant_id: UUID, ours: bool) -> None:
    async with serve(plain(MODELS)) as server:
        base = f"{server.url}/v1"
        tested = await ask(database, tenant_id, None if ours else base, openai_base_url=base)
    assert tested.works
    assert tested.models == ("large", "small")
    (request,) = server.requests
    assert (request.method, request.path) == ("GET", "/v1/models")
    assert request.headers["authorization"] == "bearer sk-ours"


@pytest.mark.parametrize(
    ("status", "body", "works", "said"),
    [
        (401, b"{}", False, "refused the key"),
        (403, b"{}", False, "refused the key"),
        (404, b"not here", False, "/v1"),
        (302, b"", False, "/v1"),
        (200, b"<html>welcome</html>", False, "not as a model provider"),
        (200, b'{"data": [1]}', False, "not as a model provider"),
        (200, b"[" * 100_000, False, "not as a model provider"),
        (429, b"{}", True, "used too much"),
        (503, b"", False, "problem of its own"),
        (200, b" " * (check.MAX_ANSWER_BYTES + 1), False, "far more"),
    ],
)
async def test_each_trouble_has_its_sentence(
    database: Database, tenant_id: UUID, status: int, body: bytes, works: bool, said: str
) -> None:
    async with serve(plain(body, status=status)) as server:
        tested = await ask(database, tenant_id, server.url)
    assert (tested.works, said in tested.message) == (works, True), tested.message
    assert "sk-ours" not in tested.message


async def test_silence_ends_after_a_while(database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "TEST_SECONDS", 0.2)

    async def silent(_request: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with serve(silent) as server:
        tested = await ask(database, tenant_id, server.url)
    assert not tested.works
    assert "no answer within" in tested.message


async def test_an_address_where_nobody_listens(database: Database, tenant_id: UUID) -> None:
    tested = await ask(database, tenant_id, "http://127.0.0.1:9/v1")
    assert not tested.works
    assert "does not work" in tested.message


async def test_openai_itself_has_no_address_to_correct(database: Database, tenant_id: UUID) -> None:
    tested = await ask(database, tenant_id, None, openai_base_url="http://127.0.0.1:9/v1")
    assert "OpenAI cannot be reached" in tested.message


async def test_only_editors_test_and_only_their_own(database: Database, tenant_id: UUID) -> None:
    outbound = OutboundClient()
    for actor, error in (
        (Actor(tenant_id, "person", "per_1", frozenset({"read"})), ScopeMissing),
        (system(tenant_id), NotFound),
    ):
        with pytest.raises(error):
            await check_provider(database, actor, keyring=KEYRING, provider_id="prv_none", outbound=outbound)
    await outbound.aclose()
