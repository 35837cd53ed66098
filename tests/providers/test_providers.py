"""Model providers: whose key goes where, and what is never told to whom."""

from datetime import datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import httpx2
import pytest
from agents import Agent, ModelSettings, RunConfig, Runner
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.interface import Model, ModelTracing
from sqlalchemy import select

from stonechat.accounts.actor import Actor, system
from stonechat.db.session import Database
from stonechat.errors import (
    AlreadyExists,
    InvalidInput,
    ModelUnknown,
    NotFound,
    ScopeMissing,
    SecretUnreadable,
    TargetNotAllowed,
)
from stonechat.outbound.client import OutboundClient
from stonechat.providers import service
from stonechat.providers.models import ModelProvider
from stonechat.providers.provider import ModelProviders
from support import fake_openai as host
from support.assistant import KEYRING, add_provider, model_providers

OPERATORS_SECRETS = {
    "OPENAI_API_KEY": "sk-operators",
    "OPENAI_ADMIN_KEY": "sk-operators-admin",
    "OPENAI_ORG_ID": "org-operators",
    "OPENAI_PROJECT_ID": "proj-operators",
    "OPENAI_CUSTOM_HEADERS": "X-Operators: operators-header\nAuthorization: Bearer operators-token",
    "OPENAI_WEBHOOK_SECRET": "operators-webhook",
    "OPENAI_BASE_URL": "http://127.0.0.1:1/operators",
    "HTTP_PROXY": "http://127.0.0.1:1/",
    "ALL_PROXY": "http://127.0.0.1:1/",
}


async def say(providers: ModelProviders, tenant_id: UUID, name: str) -> str:
    """What the model answers to “Hello”."""
    async with providers.model(tenant_id, name) as resolved:
        run = await Runner.run(
            Agent(name="a", model=resolved.model, model_settings=ModelSettings()),
            "Hello",
            run_config=RunConfig(tracing_disabled=True),
        )
    return str(run.final_output)


async def events_of(model: Model) -> list[Any]:
    stream = model.stream_response(
        None,
        "Hello",
        ModelSettings(),
        [],
        None,
        [],
        ModelTracing.DISABLED,
        previous_response_id=None,
        conversation_id=None,
        prompt=None,
    )
    return [event async for event in stream]


@pytest.fixture
def operators_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in OPERATORS_SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("operators_environment")
@pytest.mark.parametrize("kind", ["openai", "openai_compatible"])
async def test_a_tenants_host_learns_nothing_of_the_operators(
    database: Database, tenant_id: UUID, kind: service.ProviderKind
) -> None:
    reply = host.responses_text("hi") if kind == "openai" else host.chat_text("hi")
    async with (
        host.fake_openai(reply) as fake,
        model_providers(database, openai_base_url=fake.url, platform_key="sk-platform") as providers,
    ):
        address = None if kind == "openai" else fake.url
        await add_provider(database, tenant_id, name="openai", kind=kind, base_url=address)
        async with providers.model(tenant_id, "openai/large") as resolved:
            assert [event.type for event in await events_of(resolved.model)][-1] == "response.completed"
        async with providers.client(tenant_id, "openai") as client:
            # The SDK makes copies of clients, which read the environment once more.
            copied = client.with_options(max_retries=0)
            assert (copied.organization, copied.project, copied.admin_api_key) == (None, None, None)
    [request] = fake.requests
    assert request.headers["authorization"] == "bearer sk-tenants-own"
    wire = repr((request.path, request.headers, request.body)).lower()
    assert "operators" not in wire
    assert "sk-platform" not in wire
    assert not {"openai-organization", "openai-project", "x-operators"} & set(request.headers)


@pytest.mark.usefixtures("operators_environment")
async def test_the_platforms_key_serves_openai_only_and_only_if_the_operator_set_it(
    database: Database, tenant_id: UUID, make_tenant: Any
) -> None:
    async with host.fake_openai(host.responses_text("hi")) as fake:
        async with model_providers(database, openai_base_url=fake.url) as providers:
            with pytest.raises(ModelUnknown):
                await say(providers, tenant_id, "openai/gpt")
        async with model_providers(database, openai_base_url=fake.url, platform_key="sk-platform") as providers:
            with pytest.raises(ModelUnknown):
                await say(providers, tenant_id, "acme/gpt")
            async with providers.model(tenant_id, "openai/gpt") as resolved:
                await events_of(resolved.model)
            other = await make_tenant()
            async with providers.model(other, "openai/gpt") as resolved:
                await events_of(resolved.model)
            assert len(providers) == 2, (
                "one tenant's connections are nobody else's, even where the key is the platform's"
            )
            with pytest.raises(ModelUnknown):
                async with providers.client(tenant_id, "openai"):
                    pass
    assert [request.headers["authorization"] for request in fake.requests] == ["bearer sk-platform"] * 2


async def test_one_tenants_provider_is_unknown_to_another(
    database: Database, tenant_id: UUID, make_tenant: Any
) -> None:
    view = await add_provider(database, tenant_id, base_url="https://models.example/v1")
    other = await make_tenant()
    async with model_providers(database) as providers:
        with pytest.raises(ModelUnknown):
            await say(providers, other, "acme/large")
    async with database.tenant(other) as session:
        with pytest.raises(NotFound):
            await service.get_provider(session, system(other), provider_id=view.id)
        with pytest.raises(NotFound):
            await service.delete_provider(session, system(other), provider_id=view.id)
        with pytest.raises(NotFound):
            await service.update_provider_key(session, system(other), keyring=KEYRING, provider_id=view.id, api_key="x")
        assert await service.list_providers(session, system(other)) == []


async def test_a_replaced_key_is_used_at_once_and_the_old_client_closed(database: Database, tenant_id: UUID) -> None:
    made: list[httpx2.AsyncClient] = []

    def http_client(_url: str) -> httpx2.AsyncClient:
        made.append(httpx2.AsyncClient(trust_env=False))
        return made[-1]

    async with (
        host.fake_openai(host.chat_text("hi")) as fake,
        model_providers(database, http_client=http_client) as providers,
    ):
        view = await add_provider(database, tenant_id, base_url=fake.url)
        for _ in range(2):
            async with providers.model(tenant_id, "acme/large") as resolved:
                await events_of(resolved.model)
        assert len(made) == 1
        async with providers.model(tenant_id, "acme/large") as in_use:
            async with database.tenant(tenant_id) as session:
                changed = await service.update_provider_key(
                    session, system(tenant_id), keyring=KEYRING, provider_id=view.id, api_key="sk-new"
                )
            assert changed.updated_at > view.updated_at
            async with providers.model(tenant_id, "acme/large") as resolved:
                await events_of(resolved.model)
            assert len(made) == 2
            assert not made[0].is_closed, "an answer being written finishes with the client it began with"
            await events_of(in_use.model)
        assert made[0].is_closed
        assert len(providers) == 1
    assert made[1].is_closed
    keys = [request.headers["authorization"].removeprefix("bearer ") for request in fake.requests]
    assert keys == ["sk-tenants-own", "sk-tenants-own", "sk-new", "sk-tenants-own"]


async def test_a_deleted_provider_is_not_used_again(database: Database, tenant_id: UUID) -> None:
    async with host.fake_openai(host.chat_text("hi")) as fake, model_providers(database) as providers:
        view = await add_provider(database, tenant_id, base_url=fake.url)
        async with providers.model(tenant_id, "acme/large"):
            pass
        async with database.tenant(tenant_id) as session:
            await service.delete_provider(session, system(tenant_id), provider_id=view.id)
        with pytest.raises(ModelUnknown):
            await say(providers, tenant_id, "acme/large")
    assert fake.requests == []


async def test_clients_are_bounded_and_closed_when_they_go(database: Database, make_tenant: Any) -> None:
    made: list[httpx2.AsyncClient] = []

    def http_client(_url: str) -> httpx2.AsyncClient:
        made.append(httpx2.AsyncClient(trust_env=False))
        return made[-1]

    async with model_providers(database, http_client=http_client, max_clients=2) as providers:
        for _ in range(4):
            tenant = await make_tenant()
            await add_provider(database, tenant, base_url="https://models.example/v1")
            async with providers.model(tenant, "acme/large"):
                pass
        assert len(providers) == 2
        assert [client.is_closed for client in made] == [True, True, False, False]


async def test_items_of_chat_completions_have_ids_of_their_own(database: Database, tenant_id: UUID) -> None:
    replies = [host.chat_call("search", "{}", say="Let me see."), host.chat_text("a", "b")]
    seen: set[str] = set()
    async with host.fake_openai(*replies) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        for _ in replies:
            async with providers.model(tenant_id, "acme/large") as resolved:
                events = await events_of(resolved.model)
            assert FAKE_RESPONSES_ID not in repr(events)
            final = {item.id: item.type for item in events[-1].response.output}
            added = {event.item.id: event.item.type for event in events if event.type == "response.output_item.added"}
            done = {event.item.id: event.item.type for event in events if event.type == "response.output_item.done"}
            assert added == done == final
            assert {event.item_id for event in events if hasattr(event, "item_id")} <= set(final)
            texts = {event.item_id for event in events if event.type == "response.output_text.delta"}
            assert [final[item_id] for item_id in texts] == ["message"]
            assert not seen & set(final)
            seen |= set(final)


async def test_a_private_address_is_refused_by_the_guarded_client(database: Database, tenant_id: UUID) -> None:
    guarded = OutboundClient()
    async with host.fake_openai(host.chat_text("hi")) as fake:
        await add_provider(database, tenant_id, base_url=fake.url)

        def http_client(url: str) -> httpx2.AsyncClient:
            return guarded.httpx_client(url, allow_http=True)

        async with model_providers(database, http_client=http_client) as providers:
            with pytest.raises(Exception) as caught:  # noqa: PT011  the SDK may wrap it
                await say(providers, tenant_id, "acme/large")
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, TargetNotAllowed):
        error = error.__cause__ or error.__context__
    assert isinstance(error, TargetNotAllowed)
    assert fake.requests == []
    await guarded.aclose()


async def test_the_guarded_client_serves_an_address_that_is_allowed(database: Database, tenant_id: UUID) -> None:
    async with host.fake_openai(host.chat_text("hi", " there")) as fake:
        guarded = OutboundClient(allowed_networks=[ip_network("127.0.0.0/8")], allowed_ports={fake.server.port})
        await add_provider(database, tenant_id, base_url=fake.url)

        def http_client(url: str) -> httpx2.AsyncClient:
            return guarded.httpx_client(url, allow_http=True)

        async with (
            model_providers(database, http_client=http_client) as providers,
            providers.model(tenant_id, "acme/large") as resolved,
        ):
            events = await events_of(resolved.model)
        await guarded.aclose()
    assert events[-1].response.output[0].content[0].text == "hi there"


# What tenants do with them


async def test_keys_are_sealed_and_never_shown(database: Database, tenant_id: UUID) -> None:
    view = await add_provider(database, tenant_id, base_url="https://models.example/v1/", api_key="sk-very-secret")
    assert view.has_key
    assert view.base_url == "https://models.example/v1"
    assert isinstance(view.created_at, datetime)
    assert "secret" not in view.model_dump_json()
    async with database.tenant(tenant_id) as session:
        row = await session.scalar(select(ModelProvider).where(ModelProvider.tenant_id == tenant_id))
        assert row is not None
        assert b"secret" not in (row.sealed_api_key or b"")
        assert [provider.name for provider in await service.list_providers(session, system(tenant_id))] == ["acme"]


async def test_a_key_moved_to_another_row_does_not_open(database: Database, tenant_id: UUID) -> None:
    first = await add_provider(database, tenant_id, name="first", base_url="https://a.example")
    await add_provider(database, tenant_id, name="second", base_url="https://b.example")
    async with database.tenant(tenant_id) as session:
        rows = {row.name: row for row in await session.scalars(select(ModelProvider))}
        rows["second"].sealed_api_key = rows["first"].sealed_api_key
    async with model_providers(database) as providers:
        async with providers.model(tenant_id, "first/m"):
            pass
        with pytest.raises(SecretUnreadable):
            async with providers.model(tenant_id, "second/m"):
                pass
    assert first.name == "first"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": "Acme"}),
        ("name", {"name": ""}),
        ("name", {"name": "a/b"}),
        ("name", {"name": "a\n"}),
        ("name", {"name": "x" * 41}),
        ("name", {"name": "extractive"}),
        ("api_key", {"api_key": ""}),
        ("api_key", {"api_key": "two words"}),
        ("api_key", {"api_key": "sk\r\nX-Other: 1"}),
        ("api_key", {"api_key": "sk-ключ"}),
        ("api_key", {"api_key": "x" * 1001}),
        ("base_url", {"base_url": None}),
        ("base_url", {"base_url": "models.example"}),
        ("base_url", {"base_url": "ftp://models.example"}),
        ("base_url", {"base_url": "https://"}),
        ("base_url", {"base_url": "https://user:pw@models.example"}),
        ("base_url", {"base_url": "https://models.example/?key=1"}),
        ("base_url", {"base_url": "https://models.example:99999/"}),
        ("base_url", {"base_url": "https://models.example/#x"}),
        ("base_url", {"base_url": "https://models.example/" + "x" * 2000}),
        ("base_url", {"kind": "openai", "base_url": "https://evil.example"}),
    ],
)
async def test_what_is_refused_names_its_field(
    database: Database, tenant_id: UUID, field: str, values: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await add_provider(database, tenant_id, **({"base_url": "https://models.example"} | values))
    assert [error["field"] for error in caught.value.members["errors"]] == [field]


async def test_names_are_unique_within_a_tenant(database: Database, tenant_id: UUID, make_tenant: Any) -> None:
    await add_provider(database, tenant_id, base_url="https://models.example")
    with pytest.raises(AlreadyExists):
        await add_provider(database, tenant_id, base_url="https://models.example")
    await add_provider(database, await make_tenant(), base_url="https://models.example")


async def test_readers_do_not_write(database: Database, tenant_id: UUID) -> None:
    view = await add_provider(database, tenant_id, base_url="https://models.example")
    reader = Actor(tenant_id, "api_key", "key_1", frozenset({"read"}))
    async with database.tenant(tenant_id) as session:
        assert await service.get_provider(session, reader, provider_id=view.id) == view
        with pytest.raises(ScopeMissing):
            await service.update_provider_key(session, reader, keyring=KEYRING, provider_id=view.id, api_key="sk-new")
        with pytest.raises(ScopeMissing):
            await service.delete_provider(session, reader, provider_id=view.id)
