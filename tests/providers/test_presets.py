"""Presets: a host that is known is asked in its own words, at its own address, and only there with its key."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import pytest
from agents import ModelSettings, function_tool
from agents.models.interface import ModelTracing
from openai.types.shared import Reasoning
from sqlalchemy import update

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.errors import InvalidInput
from stonechat.outbound.client import OutboundClient
from stonechat.providers import service
from stonechat.providers.check import ProviderTest, check_provider
from stonechat.providers.models import ModelProvider
from stonechat.providers.presets import PRESETS, preset_of
from stonechat.providers.provider import ModelProviders
from support import fake_openai as host
from support.assistant import KEYRING, model_providers
from support.loopback import plain, serve


async def add(database: Database, tenant_id: UUID, preset: str, **values: Any) -> service.ProviderView:
    async with database.tenant(tenant_id) as session:
        return await service.create_provider(
            session,
            system(tenant_id),
            keyring=KEYRING,
            **({"name": preset, "kind": "openai_compatible", "api_key": "sk-ours", "preset": preset} | values),
        )


async def move(database: Database, tenant_id: UUID, url: str) -> None:
    """Let the tenant's providers be at a test's own address."""
    async with database.tenant(tenant_id) as session:
        await session.execute(update(ModelProvider).where(ModelProvider.tenant_id == tenant_id).values(base_url=url))


@function_tool
def look() -> str:
    """Look."""
    return ""


async def sent(providers: ModelProviders, tenant_id: UUID, name: str, settings: ModelSettings) -> None:
    async with providers.model(tenant_id, name) as resolved:
        request = (None, "Hello", settings, [look], None, [], ModelTracing.DISABLED)
        stream = resolved.model.stream_response(*request, previous_response_id=None, conversation_id=None, prompt=None)
        assert [event async for event in stream]


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("anthropic", {"temperature": 1.0, "stream_options": {"include_usage": True}, "parallel_tool_calls": True}),
        ("gemini", {"temperature": 1.8, "stream_options": {"include_usage": True}, "reasoning_effort": "low"}),
        ("mistral", {"temperature": 1.5, "parallel_tool_calls": True}),
        ("cohere", {"temperature": 1.0, "stream_options": {"include_usage": True}, "reasoning_effort": "none"}),
        ("ollama", {"temperature": 1.8, "stream_options": {"include_usage": True}, "reasoning_effort": "low"}),
        (
            "vllm",
            {
                "temperature": 1.8,
                "stream_options": {"include_usage": True},
                "reasoning_effort": "low",
                "parallel_tool_calls": True,
            },
        ),
    ],
)
async def test_each_host_is_told_what_it_understands(
    database: Database, tenant_id: UUID, preset: str, expected: dict[str, Any]
) -> None:
    settings = ModelSettings(
        temperature=1.8, parallel_tool_calls=True, include_usage=True, reasoning=Reasoning(effort="low")
    )
    async with host.fake_openai(host.chat_text("hi")) as fake, model_providers(database) as providers:
        address = {} if PRESETS[preset].base_url else {"base_url": "http://model.example/v1"}  # type: ignore[index]
        await add(database, tenant_id, preset, **address)
        await move(database, tenant_id, fake.url)
        await sent(providers, tenant_id, f"{preset}/m", settings)
        body = fake.body(0)
    asked = ("temperature", "stream_options", "reasoning_effort", "parallel_tool_calls")
    assert {name: body[name] for name in asked if name in body} == expected


@pytest.mark.parametrize(
    ("message", "dropped"),
    [
        ("Extra inputs are not permitted: body.stream_options.include_usage", "stream_options"),
        ("`temperature` is deprecated for this model.", "temperature"),
        ("reasoning_effort is not supported", "reasoning_effort"),
    ],
)
async def test_an_unknown_host_is_learnt_from(database: Database, tenant_id: UUID, message: str, dropped: str) -> None:
    settings = ModelSettings(temperature=0.5, include_usage=True, reasoning=Reasoning(effort="low"))
    replies = [host.refusal(422, message=message), host.chat_text("hi"), host.chat_text("hi")]
    async with host.fake_openai(*replies) as fake, model_providers(database) as providers:
        await add(database, tenant_id, "vllm", base_url=fake.url)
        for _ in range(2):
            await sent(providers, tenant_id, "vllm/m", settings)
        bodies = [fake.body(number) for number in range(3)]
    assert [dropped in body for body in bodies] == [True, False, False], "it refuses once, and is not asked again"


async def test_max_tokens_goes_by_the_name_that_the_host_wants(database: Database, tenant_id: UUID) -> None:
    refused = host.refusal(400, message="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    async with host.fake_openai(refused, host.chat_text("hi")) as fake, model_providers(database) as providers:
        await add(database, tenant_id, "vllm", base_url=fake.url)
        await sent(providers, tenant_id, "vllm/m", ModelSettings(max_tokens=99))
        body = fake.body(1)
    assert ("max_tokens" in body, body["max_completion_tokens"]) == (False, 99)


async def test_a_host_without_a_key_is_sent_none(database: Database, tenant_id: UUID) -> None:
    async with host.fake_openai(host.chat_text("hi")) as fake, model_providers(database) as providers:
        view = await add(database, tenant_id, "ollama", api_key=None, base_url=fake.url)
        assert (view.has_key, view.preset) == (False, "ollama")
        await sent(providers, tenant_id, "ollama/llama", ModelSettings())
    assert "authorization" not in fake.requests[0].headers


@pytest.mark.parametrize(
    ("preset", "values", "field"),
    [
        ("anthropic", {"api_key": None}, "api_key"),
        ("ollama", {}, "base_url"),
        ("nobody", {}, "preset"),
        ("anthropic", {"kind": "openai"}, "preset"),
    ],
)
async def test_what_a_preset_needs_is_said_at_the_field(
    database: Database, tenant_id: UUID, preset: str, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await add(database, tenant_id, preset, **values)
    assert [error["field"] for error in caught.value.members["errors"]] == [field]


def test_a_known_address_needs_no_preset() -> None:
    known = preset_of(None, "https://api.mistral.ai/v1")
    assert known is not None
    assert known.id == "mistral"
    assert preset_of(None, "https://models.example/v1") is None


async def try_out(database: Database, tenant_id: UUID, provider_id: str, *, allowed: bool = True) -> ProviderTest:
    outbound = OutboundClient(allowed_networks=[ip_network("127.0.0.0/8")] if allowed else [])
    try:
        return await check_provider(
            database, system(tenant_id), keyring=KEYRING, provider_id=provider_id, outbound=outbound, allow_http=True
        )
    finally:
        await outbound.aclose()


@pytest.mark.parametrize(
    ("preset", "listed", "models", "header"),
    [
        ("anthropic", {"data": [{"id": "claude"}]}, ("claude",), ("x-api-key", "sk-ours")),
        ("gemini", {"data": [{"id": "models/gemini-flash"}]}, ("gemini-flash",), ("authorization", "bearer sk-ours")),
        ("cohere", {"models": [{"name": "command"}]}, ("command",), ("authorization", "bearer sk-ours")),
    ],
)
async def test_each_hosts_list_of_models_is_understood(
    database: Database, tenant_id: UUID, preset: str, listed: Any, models: tuple[str, ...], header: tuple[str, str]
) -> None:
    view = await add(database, tenant_id, preset)
    async with serve(plain(json.dumps(listed).encode())) as server:
        await move(database, tenant_id, f"{server.url}/v1")
        found = await try_out(database, tenant_id, view.id)
    assert (found.works, found.models) == (True, models)
    [request] = server.requests
    assert request.path == "/v1/models", "another address gets no key of this one's"
    assert request.headers[header[0]] == header[1]


async def test_a_wrong_key_that_is_answered_with_400_is_told_as_one(database: Database, tenant_id: UUID) -> None:
    view = await add(database, tenant_id, "gemini")
    body = b'{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key."}}'
    async with serve(plain(body, status=400)) as server:
        await move(database, tenant_id, server.url)
        found = await try_out(database, tenant_id, view.id)
    assert not found.works
    assert "refused the key" in found.message


async def test_a_private_host_that_is_not_allowed_says_who_can_allow_it(database: Database, tenant_id: UUID) -> None:
    view = await add(database, tenant_id, "ollama", api_key=None, base_url="http://127.0.0.1:8081/v1")
    found = await try_out(database, tenant_id, view.id, allowed=False)
    assert not found.works
    assert "STONECHAT_OUTBOUND_ALLOWED_NETWORKS" in found.message
