"""`ModelProviders`: from a model's name to a model, with the right key and no other.

`<provider>/<model>` is reached through the tenant's own provider of that name. Only `openai/…`, and only if the tenant
has no provider called `openai` and the operator set OPENAI_API_KEY, is reached with the platform's key.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import httpx2
from agents.models.interface import Model, ModelProvider
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from agents.models.openai_responses import OpenAIResponsesModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.db.session import Database
from stonechat.errors import ModelUnknown
from stonechat.providers.client import IsolatedOpenAI, build_client
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.models import ModelProvider as ModelProviderRow
from stonechat.providers.service import KEY_KIND
from stonechat.providers.unique_ids import UniqueIdModel
from stonechat.settings import Settings

OPENAI_BASE_URL = "https://api.openai.com/v1"
MAX_CLIENTS = 200

HttpClientFactory = Callable[[str], httpx2.AsyncClient]
"""Makes the HTTP client that may talk to one base address: `OutboundClient.httpx_client`."""


class TenantProvider(ModelProvider):
    """One provider with one key: the tenant's, or the platform's, never first one and then the other."""

    def __init__(self, client: IsolatedOpenAI, *, speaks_responses: bool) -> None:
        self._client = client
        self._speaks_responses = speaks_responses

    def get_model(self, model_name: str | None) -> Model:
        """The model by the provider's own name for it. Nothing is asked of the provider yet."""
        if not model_name:
            raise ModelUnknown("A model needs a name.")
        if self._speaks_responses:
            return OpenAIResponsesModel(model=model_name, openai_client=self._client)
        return UniqueIdModel(OpenAIChatCompletionsModel(model=model_name, openai_client=self._client))

    async def aclose(self) -> None:
        """Close its connections."""
        await self._client.close()


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that can be asked, and how the ledger calls it."""

    provider: str
    name: str
    model: Model


@dataclass(frozen=True, slots=True)
class _Key:
    """Which client: None stands for the platform's own."""

    tenant_id: UUID | None
    provider_id: str
    updated_at: datetime | None

    def replaced_by(self, newer: _Key) -> bool:
        """Whether this is an earlier state of the same provider."""
        return (self.tenant_id, self.provider_id) == (newer.tenant_id, newer.provider_id) and self != newer


_PLATFORM = _Key(None, "openai", None)


@dataclass(slots=True)
class _Held:
    provider: TenantProvider
    users: int = 0
    evicted: bool = False


class ModelProviders:
    """The process's clients, the `max_clients` most recently used; `aclose` it at the end."""

    def __init__(
        self,
        database: Database,
        *,
        keyring: Keyring,
        settings: Settings,
        http_client: HttpClientFactory,
        limits: StreamLimits | None = None,
        max_clients: int = MAX_CLIENTS,
        openai_base_url: str = OPENAI_BASE_URL,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._settings = settings
        self._http_client = http_client
        self.limits = limits or StreamLimits()
        self._max_clients = max_clients
        self._openai_base_url = openai_base_url
        self._held: OrderedDict[_Key, _Held] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    @asynccontextmanager
    async def model(self, tenant_id: UUID, name: str) -> AsyncIterator[ResolvedModel]:
        """The model `<provider>/<model>` of a tenant, usable while the context is open. Raises `ModelUnknown`.

        The database is asked each time, briefly, so that a replaced or deleted key is never used again.
        """
        provider_name, _, model_name = name.partition("/")
        held = await self._hold(tenant_id, provider_name)
        held.users += 1
        try:
            yield ResolvedModel(provider_name, model_name, held.provider.get_model(model_name))
        finally:
            held.users -= 1
            if held.evicted and held.users == 0:
                await held.provider.aclose()

    async def aclose(self) -> None:
        """Close every client."""
        while self._held:
            _, held = self._held.popitem()
            await held.provider.aclose()

    async def _hold(self, tenant_id: UUID, provider_name: str) -> _Held:
        async with self._database.tenant(tenant_id) as session:
            row = await session.scalar(
                select(ModelProviderRow).where(
                    ModelProviderRow.tenant_id == tenant_id, ModelProviderRow.name == provider_name
                )
            )
            key = _PLATFORM if row is None else _Key(tenant_id, row.provider_id, row.updated_at)
            if row is None and provider_name != "openai":
                raise ModelUnknown(f"There is no model provider called “{provider_name}”.")
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return held
            provider = self._platform_provider() if row is None else await self._tenant_provider(session, row)
        # Nothing is awaited from here to the insertion; two that raced for one key are put right by `setdefault`.
        held = self._held.setdefault(key, _Held(provider))
        stale = [old for old in self._held if old.replaced_by(key)]
        while len(self._held) - len(stale) > self._max_clients:
            stale.append(next(old for old in self._held if old not in stale))
        for old in stale:
            await self._evict(old)
        if held.provider is not provider:
            await provider.aclose()
        return held

    async def _evict(self, key: _Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.evicted = True
            if held.users == 0:
                await held.provider.aclose()

    async def _tenant_provider(self, session: AsyncSession, row: ModelProviderRow) -> TenantProvider:
        if row.sealed_api_key is None:
            raise ModelUnknown(f"The model provider “{row.name}” has no key.")
        cipher = await tenant_cipher(session, self._keyring, row.tenant_id)
        api_key = cipher.open(row.sealed_api_key, kind=KEY_KIND, subject=row.provider_id).decode()
        if row.kind == "openai":
            return self._build(api_key, self._openai_base_url, speaks_responses=True)
        if row.base_url is None:
            raise ModelUnknown(f"The model provider “{row.name}” has no address.")
        return self._build(api_key, row.base_url, speaks_responses=False)

    def _platform_provider(self) -> TenantProvider:
        api_key = self._settings.openai_api_key
        if api_key is None:
            raise ModelUnknown("There is no model provider called “openai”.")
        return self._build(api_key.get_secret_value(), self._openai_base_url, speaks_responses=True)

    def _build(self, api_key: str, base_url: str, *, speaks_responses: bool) -> TenantProvider:
        client = build_client(api_key, base_url, http_client=self._http_client(base_url), limits=self.limits)
        return TenantProvider(client, speaks_responses=speaks_responses)
