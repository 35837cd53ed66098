"""A tenant's model providers: create, list, change the key, delete."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.errors import AlreadyExists, Conflict, InvalidInput, ModelUnknown, NotFound
from stonechat.plans.entitlements import require_feature
from stonechat.plans.terms import Feature
from stonechat.providers.models import ModelProvider
from stonechat.providers.presets import Preset, PresetId, preset_of, require_preset
from stonechat.settings import Settings

BUILT_IN_MODELS = frozenset({"extractive", "scripted"})
KEY_KIND = "model_provider_key"
MAX_PROVIDERS = 50
MAX_KEY_LENGTH = 1000
MAX_URL_LENGTH = 2000

ProviderKind = Literal["openai", "openai_compatible"]


class ProviderView(BaseModel):
    """A model provider as its tenant sees it: never the key."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    kind: ProviderKind
    preset: PresetId | None
    """Which well-known host it is, chosen or recognised by its address."""
    base_url: str | None
    has_key: bool
    created_at: AwareDatetime
    updated_at: AwareDatetime


async def create_provider(
    session: AsyncSession,
    actor: Actor,
    *,
    keyring: Keyring,
    name: str,
    kind: ProviderKind,
    api_key: str | None,
    base_url: str | None = None,
    preset: str | None = None,
) -> ProviderView:
    """Add a provider. Raises `InvalidInput`, or `AlreadyExists` for a name in use.

    A `preset` knows its address, which may be left out then; Ollama and vLLM need one, and no key.
    """
    actor.require("write")
    _check_name(name)
    known = _checked_preset(kind, preset)
    address = _checked_address(kind, base_url or (known.base_url if known is not None else None), preset=known)
    known = known or preset_of(None, address)
    if api_key or known is None or known.needs_key:
        _check_key(api_key or "")
    count = select(func.count()).select_from(ModelProvider).where(ModelProvider.tenant_id == actor.tenant_id)
    if (await session.scalar(count) or 0) >= MAX_PROVIDERS:
        raise Conflict(f"There are already {MAX_PROVIDERS} model providers. Delete one that is not used.")
    await require_feature(session, actor.tenant_id, Feature.OWN_MODELS)
    provider_id = ids.new_id("prv")
    cipher = await tenant_cipher(session, keyring, actor.tenant_id)
    added = await session.scalar(
        insert(ModelProvider)
        .values(
            tenant_id=actor.tenant_id,
            provider_id=provider_id,
            name=name,
            kind=kind,
            base_url=address,
            preset=known.id if known is not None else None,
            sealed_api_key=cipher.seal(api_key.encode(), kind=KEY_KIND, subject=provider_id) if api_key else None,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "name"])
        .returning(ModelProvider.provider_id)
    )
    if added is None:
        raise AlreadyExists(f"There is already a model provider called “{name}”.")
    await record_audit(session, actor, "model_provider.create", subject_id=provider_id, detail={"name": name})
    return await get_provider(session, actor, provider_id=provider_id)


async def list_providers(
    session: AsyncSession, actor: Actor, *, limit: int = MAX_PROVIDERS, after: str | None = None
) -> list[ProviderView]:
    """The tenant's providers by name; those behind the name `after`."""
    actor.require("read")
    chosen = select(ModelProvider).where(ModelProvider.tenant_id == actor.tenant_id)
    if after is not None:
        chosen = chosen.where(ModelProvider.name > after)
    chosen = chosen.order_by(ModelProvider.name).limit(limit)
    return [_view(row) for row in await session.scalars(chosen)]


async def get_provider(session: AsyncSession, actor: Actor, *, provider_id: str) -> ProviderView:
    """One provider, or `NotFound`."""
    actor.require("read")
    return _view(await _load(session, actor, provider_id))


async def update_provider_key(
    session: AsyncSession, actor: Actor, *, keyring: Keyring, provider_id: str, api_key: str
) -> ProviderView:
    """Replace the key. Answers that are being written finish with the old one."""
    actor.require("write")
    _check_key(api_key)
    cipher = await tenant_cipher(session, keyring, actor.tenant_id)
    changed = await session.scalar(
        update(ModelProvider)
        .where(ModelProvider.tenant_id == actor.tenant_id, ModelProvider.provider_id == provider_id)
        .values(
            sealed_api_key=cipher.seal(api_key.encode(), kind=KEY_KIND, subject=provider_id),
            # Within one transaction now() stands still, and a client is known by this time.
            updated_at=func.clock_timestamp(),
        )
        .returning(ModelProvider.provider_id)
    )
    if changed is None:
        raise NotFound("There is no such model provider.")
    await record_audit(session, actor, "model_provider.change_key", subject_id=provider_id)
    return await get_provider(session, actor, provider_id=provider_id)


async def delete_provider(session: AsyncSession, actor: Actor, *, provider_id: str) -> None:
    """Delete the provider and its key. Agents that name it answer with an error until they name another."""
    actor.require("admin")
    row = await _load(session, actor, provider_id)
    await session.execute(
        delete(ModelProvider).where(
            ModelProvider.tenant_id == actor.tenant_id, ModelProvider.provider_id == row.provider_id
        )
    )
    await record_audit(session, actor, "model_provider.delete", subject_id=provider_id, detail={"name": row.name})


async def require_model(session: AsyncSession, actor: Actor, *, model: str, settings: Settings) -> None:
    """Raise `ModelUnknown` unless an agent of this tenant could answer with `model` here and now."""
    if model in BUILT_IN_MODELS:
        if model == "scripted" and settings.is_production:
            raise ModelUnknown("The model “scripted” is for load tests and is refused in production.")
        return
    provider = model.partition("/")[0]
    named = select(exists().where(ModelProvider.tenant_id == actor.tenant_id, ModelProvider.name == provider))
    if await session.scalar(named):
        return
    if provider == "openai" and settings.openai_api_key is not None:
        return
    raise ModelUnknown(f"There is no model provider called “{provider}”. Add it with its key first.")


async def _load(session: AsyncSession, actor: Actor, provider_id: str) -> ModelProvider:
    row = await session.scalar(
        select(ModelProvider)
        .where(ModelProvider.tenant_id == actor.tenant_id, ModelProvider.provider_id == provider_id)
        .execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFound("There is no such model provider.")
    return row


def _view(row: ModelProvider) -> ProviderView:
    known = preset_of(row.preset, row.base_url)
    return ProviderView(
        id=row.provider_id,
        name=row.name,
        kind="openai" if row.kind == "openai" else "openai_compatible",
        preset=known.id if known is not None else None,
        base_url=row.base_url,
        has_key=row.sealed_api_key is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name) or name in BUILT_IN_MODELS:
        raise _invalid("name", "Use up to 40 lower-case letters, digits and hyphens, such as “anthropic”.")


def _check_key(api_key: str) -> None:
    # The key becomes a header: anything but visible ASCII would break it, or be a second header.
    if not 1 <= len(api_key) <= MAX_KEY_LENGTH or not all("!" <= character <= "~" for character in api_key):
        raise _invalid(
            "api_key",
            f"Paste the key as the provider shows it: up to {MAX_KEY_LENGTH:,} letters, digits and signs, without spaces.",
        )


def _checked_preset(kind: ProviderKind, preset: str | None) -> Preset | None:
    if preset is None:
        return None
    if kind == "openai":
        raise _invalid("preset", "Leave it out for OpenAI itself, or choose the kind “openai_compatible”.")
    return require_preset(preset)


def _checked_address(kind: ProviderKind, base_url: str | None, *, preset: Preset | None = None) -> str | None:
    """The address without its trailing slash. Where it may point is the guarded client's to say, at each request."""
    if kind == "openai":
        if base_url is not None:
            raise _invalid("base_url", "Leave it out for OpenAI itself, or choose the kind “openai_compatible”.")
        return None
    if base_url is None:
        example = preset.address_example if preset is not None else "https://models.example/v1"
        raise _invalid("base_url", f"Give the address of the API, such as {example}.")
    try:
        parts = urlsplit(base_url)
        valid = (
            len(base_url) <= MAX_URL_LENGTH
            and all("!" <= character <= "~" for character in base_url)
            and parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and not (parts.username or parts.password or parts.query or parts.fragment)
        )
    except ValueError:
        valid = False
    if not valid:
        raise _invalid("base_url", "Give a plain http(s) address without user name, query or fragment.")
    return base_url.rstrip("/")


def _invalid(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"field": field, "message": message}])
