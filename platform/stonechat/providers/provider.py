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
from agents.models.openai_responses import OpenAIResponsesModel
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.db.session import Database
from stonechat.errors import ModelUnknown
from stonechat.providers.adaptation import AdaptedModel, Refusals
from stonechat.providers.breaker import BreakerKey, Breakers
from stonechat.providers.chat_completions import CompatibleModel
from stonechat.providers.client import NO_KEY, IsolatedOpenAI, build_client
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.models import ModelProvider as ModelProviderRow
from stonechat.providers.presets import Preset, preset_of
from stonechat.providers.retries import RetryPolicy
from stonechat.providers.service import KEY_KIND
from stonechat.providers.unique_ids import UniqueIdModel
from stonechat.settings import Settings

OPENAI_BASE_URL = "https://api.openai.com/v1"
MAX_CLIENTS = 500
PLATFORMS_OWN = "platform:openai"
"""In place of a provider's id, for OpenAI with the platform's key."""

HttpClientFactory = Callable[[str], httpx2.AsyncClient]
"""Makes the HTTP client that may talk to one base address: `OutboundClient.httpx_client`."""


class TenantProvider(ModelProvider):
    """One provider with one key: the tenant's, or the platform's, never first one and then the other."""

    def __init__(self, client: IsolatedOpenAI, *, speaks_responses: bool, preset: Preset | None = None) -> None:
        self.client = client
        self.kind = "openai" if speaks_responses else preset.id if preset is not None else "compatible"
        """What sort of host it is, for metrics."""
        self._speaks_responses = speaks_responses
        self._preset = preset
        self._refusals = Refusals()

    def get_model(self, model_name: str | None) -> Model:
        """The model by the provider's own name for it. Nothing is asked of the provider yet."""
        if not model_name:
            raise ModelUnknown("A model needs a name.")
        inner: Model
        if self._speaks_responses:
            inner = OpenAIResponsesModel(model=model_name, openai_client=self.client)
        else:
            inner = UniqueIdModel(CompatibleModel(model=model_name, openai_client=self.client))
        return AdaptedModel(
            inner,
            name=model_name,
            quirks=self._preset.quirks if self._preset is not None else None,
            refusals=self._refusals,
            speaks_responses=self._speaks_responses,
        )

    async def aclose(self) -> None:
        """Close its connections."""
        await self.client.close()


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that can be asked, and how the ledger calls it."""

    provider: str
    name: str
    model: Model
    breaker_key: BreakerKey | None = None
    """None for models in this process, which are always there."""
    kind: str = "built-in"
    """See `metrics.MODEL_KINDS`: what a tenant calls its provider is nobody else's business."""


@dataclass(frozen=True, slots=True)
class _Key:
    """Which client. Each tenant has its own, with its own connections, even where the key is the platform's: a model
    that hangs for one tenant must not use up what another's answers travel on."""

    tenant_id: UUID
    provider_id: str
    updated_at: datetime | None

    def replaced_by(self, newer: _Key) -> bool:
        """Whether this is an earlier state of the same provider."""
        return (self.tenant_id, self.provider_id) == (newer.tenant_id, newer.provider_id) and self != newer


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
        retries: RetryPolicy | None = None,
        max_clients: int = MAX_CLIENTS,
        openai_base_url: str = OPENAI_BASE_URL,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._settings = settings
        self._http_client = http_client
        self.limits = limits or StreamLimits()
        self.retries = retries or RetryPolicy()
        self.breakers = Breakers()
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
        async with self._using(tenant_id, provider_name, own_only=False) as (key, provider):
            model = provider.get_model(model_name)
            yield ResolvedModel(provider_name, model_name, model, (tenant_id, key.provider_id), provider.kind)

    @asynccontextmanager
    async def client(self, tenant_id: UUID, name: str) -> AsyncIterator[IsolatedOpenAI]:
        """The client of a provider of the tenant's own, for what is no chat. Raises `ModelUnknown`."""
        async with self._using(tenant_id, name, own_only=True) as (_, provider):
            yield provider.client

    @asynccontextmanager
    async def _using(
        self, tenant_id: UUID, provider_name: str, *, own_only: bool
    ) -> AsyncIterator[tuple[_Key, TenantProvider]]:
        key, held = await self._hold(tenant_id, provider_name, own_only=own_only)
        held.users += 1
        try:
            yield key, held.provider
        finally:
            held.users -= 1
            if held.evicted and held.users == 0:
                await held.provider.aclose()

    async def aclose(self) -> None:
        """Close every client."""
        while self._held:
            _, held = self._held.popitem()
            await held.provider.aclose()

    async def _hold(self, tenant_id: UUID, provider_name: str, *, own_only: bool) -> tuple[_Key, _Held]:
        async with self._database.tenant(tenant_id) as session:
            row = await session.scalar(
                select(ModelProviderRow).where(
                    ModelProviderRow.tenant_id == tenant_id, ModelProviderRow.name == provider_name
                )
            )
            if row is None and (own_only or provider_name != "openai"):
                raise ModelUnknown(f"There is no model provider called “{provider_name}”.")
            key = (
                _Key(tenant_id, PLATFORMS_OWN, None)
                if row is None
                else _Key(tenant_id, row.provider_id, row.updated_at)
            )
            held = self._held.get(key)
            if held is not None:
                self._held.move_to_end(key)
                return key, held
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
        return key, held

    async def _evict(self, key: _Key) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held.evicted = True
            if held.users == 0:
                await held.provider.aclose()

    async def _tenant_provider(self, session: AsyncSession, row: ModelProviderRow) -> TenantProvider:
        preset = preset_of(row.preset, row.base_url) if row.kind != "openai" else None
        if row.sealed_api_key is not None:
            cipher = await tenant_cipher(session, self._keyring, row.tenant_id)
            api_key = cipher.open(row.sealed_api_key, kind=KEY_KIND, subject=row.provider_id).decode()
        elif preset is not None and not preset.needs_key:
            api_key = NO_KEY
        else:
            raise ModelUnknown(f"The model provider “{row.name}” has no key.")
        if row.kind == "openai":
            return self._build(api_key, self._openai_base_url, speaks_responses=True)
        if row.base_url is None:
            raise ModelUnknown(f"The model provider “{row.name}” has no address.")
        return self._build(api_key, row.base_url, speaks_responses=False, preset=preset)

    def _platform_provider(self) -> TenantProvider:
        api_key = self._settings.openai_api_key
        if api_key is None:
            raise ModelUnknown("There is no model provider called “openai”.")
        return self._build(api_key.get_secret_value(), self._openai_base_url, speaks_responses=True)

    def _build(
        self, api_key: str, base_url: str, *, speaks_responses: bool, preset: Preset | None = None
    ) -> TenantProvider:
        client = build_client(api_key, base_url, http_client=self._http_client(base_url), limits=self.limits)
        return TenantProvider(client, speaks_responses=speaks_responses, preset=preset)
