"""`/api/v1/model-providers`: the tenant's own keys for language models. A key goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.limits.addresses import limit_address
from stonechat.providers import service
from stonechat.providers.check import check_provider
from stonechat.providers.presets import PresetId
from stonechat.providers.service import ProviderKind, ProviderView
from stonechat.web import Cursor, Limit, Page, cut_page, decode_cursor

router = APIRouter(
    prefix="/model-providers",
    tags=["Model providers"],
    route_class=IdempotentRoute,
    dependencies=[Depends(limit_address)],
)


class NewProvider(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=40, description="The part before the slash of a model.")]
    kind: ProviderKind
    preset: Annotated[
        PresetId | None, Field(description="A well-known host, which brings its address and its ways.")
    ] = None
    api_key: Annotated[
        SecretStr | None,
        Field(
            min_length=1, max_length=service.MAX_KEY_LENGTH, description="May be left out where the preset needs none."
        ),
    ] = None
    base_url: Annotated[
        str | None, Field(max_length=service.MAX_URL_LENGTH, description="May be left out where the preset has one.")
    ] = None


class ProviderTestView(BaseModel):
    """What came of asking a provider for its list of models."""

    works: bool
    message: Annotated[str, Field(description="A sentence for people: what was found, and what to do about it.")]
    models: list[str]


class NewKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    api_key: Annotated[SecretStr, Field(min_length=1, max_length=service.MAX_KEY_LENGTH)]


@router.get("", summary="List model providers by name")
async def list_providers(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[ProviderView]:
    after = None if cursor is None else decode_cursor(cursor, str)[0]
    rows = await service.list_providers(session, actor, limit=limit + 1, after=after)
    return cut_page(rows, limit, lambda row: row.name)


@router.post("", status_code=201, summary="Add a model provider")
async def create_provider(
    body: NewProvider, actor: ApiActor, session: TenantSession, services: AppServices
) -> ProviderView:
    if body.base_url is not None:
        await services.outbound.check(body.base_url, allow_http=bool(services.settings.outbound_networks))
    return await service.create_provider(
        session,
        actor,
        keyring=services.keyring,
        name=body.name,
        kind=body.kind,
        api_key=body.api_key.get_secret_value() if body.api_key is not None else None,
        base_url=body.base_url,
        preset=body.preset,
    )


@router.get("/{provider_id}", summary="One model provider")
async def get_provider(provider_id: str, actor: ApiActor, session: TenantSession) -> ProviderView:
    return await service.get_provider(session, actor, provider_id=provider_id)


@router.patch("/{provider_id}", summary="Replace a model provider's key")
async def update_provider(
    provider_id: str, body: NewKey, actor: ApiActor, session: TenantSession, services: AppServices
) -> ProviderView:
    return await service.update_provider_key(
        session, actor, keyring=services.keyring, provider_id=provider_id, api_key=body.api_key.get_secret_value()
    )


@router.post("/{provider_id}/test", summary="Test the connection to a model provider")
async def test_provider(provider_id: str, actor: ApiActor, services: AppServices) -> ProviderTestView:
    # Without a transaction of its own: a provider may take seconds to answer, and holds up nobody meanwhile.
    tested = await check_provider(
        services.database,
        actor,
        keyring=services.keyring,
        provider_id=provider_id,
        outbound=services.outbound,
        allow_http=bool(services.settings.outbound_networks),
    )
    return ProviderTestView(works=tested.works, message=tested.message, models=list(tested.models))


@router.delete("/{provider_id}", status_code=204, summary="Delete a model provider")
async def delete_provider(provider_id: str, actor: ApiActor, session: TenantSession) -> None:
    await service.delete_provider(session, actor, provider_id=provider_id)
