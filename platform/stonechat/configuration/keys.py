"""Secrets, model providers and identity keys: their names and public parts. What is secret stays where it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from sqlalchemy import select

from stonechat.accounts.secrets import delete_secret, list_secrets, put_secret
from stonechat.configuration.document import (
    IdentityKeyEntry,
    KeySetEntry,
    PemKeyEntry,
    ProviderEntry,
    SecretEntry,
    SharedKeyEntry,
    filled_in,
    placeholder,
)
from stonechat.configuration.plan import Work, paired
from stonechat.errors import Conflict
from stonechat.identity.identity_keys import (
    MAX_IDENTITY_KEYS,
    create_identity_key,
    read_public_keys,
    retire_identity_key,
)
from stonechat.identity.models import IdentityKey
from stonechat.providers.models import ModelProvider
from stonechat.providers.presets import preset_of
from stonechat.providers.service import (
    MAX_PROVIDERS,
    ProviderKind,
    create_provider,
    delete_provider,
    update_provider_key,
)


async def read_secrets(work: Work) -> list[SecretEntry]:
    """The names of the tenant's secrets."""
    held = await list_secrets(work.session, work.actor)
    return [SecretEntry(name=row.name, value=placeholder("secrets", row.name, "value")) for row in held]


async def apply_secrets(work: Work, entries: Sequence[SecretEntry]) -> None:
    """Store the values that are written out; ask for those that nobody has given yet.

    A value is never compared with the one that is stored: whoever may write could try guesses.
    """
    held = {row.name: row.id for row in await list_secrets(work.session, work.actor)}
    for name, secret_id in held.items():
        if name not in {entry.name for entry in entries} and work.left_over("secret", name):
            await delete_secret(work.session, work.actor, secret_id=secret_id)
    for number, entry in enumerate(entries):
        path, value = f"secrets.{number}", filled_in(entry.value)
        if value is None and entry.name not in held:
            work.ask(f"{path}.value", f"Store a value for the secret “{entry.name}”.")
        elif value is None:
            work.same()
        else:
            with work.at(path):
                await put_secret(work.session, work.actor, keyring=work.means.keyring, name=entry.name, value=value)
            work.done("change" if entry.name in held else "create", "secret", entry.name, path=path, fields=("value",))


async def read_providers(work: Work) -> list[ProviderEntry]:
    """The tenant's model providers, without their keys."""
    return [
        ProviderEntry(
            name=row.name,
            kind=_kind(row),
            preset=known.id if (known := preset_of(row.preset, row.base_url)) is not None else None,
            base_url=row.base_url,
            api_key=placeholder("model_providers", row.name, "api_key") if row.sealed_api_key is not None else None,
        )
        for row in await _providers(work)
    ]


async def apply_providers(work: Work, entries: Sequence[ProviderEntry]) -> None:
    """Make those whose keys are given, or that need none; store keys that are written out, compared with nothing.

    Raises `Conflict` for another address under the same name: a key must not be sent to where nobody meant it to go.
    """
    held = {row.name: row for row in await _providers(work)}
    named = {entry.name for entry in entries}
    for name, row in held.items():
        if name not in named and work.left_over("model provider", name):
            await delete_provider(work.session, work.actor, provider_id=row.provider_id)
    for number, entry in enumerate(entries):
        path = f"model_providers.{number}"
        with work.at(path):
            provider = held.get(entry.name)
            if provider is None:
                await _make_provider(work, entry, path)
            else:
                await _change_provider(work, entry, provider, path)


async def _make_provider(work: Work, entry: ProviderEntry, path: str) -> None:
    value = filled_in(entry.api_key)
    if value is None and entry.api_key is not None:
        work.waiting_providers.add(entry.name)
        work.ask(f"{path}.api_key", f"Add the model provider “{entry.name}” with its key, then apply this again.")
        return
    known = preset_of(entry.preset, None)
    if entry.base_url is not None and (known is None or entry.base_url != known.base_url):
        allow_http = bool(work.means.settings.outbound_networks)
        await work.means.outbound.check(entry.base_url, allow_http=allow_http)
    await create_provider(
        work.session,
        work.actor,
        keyring=work.means.keyring,
        name=entry.name,
        kind=entry.kind,
        api_key=value,
        base_url=entry.base_url,
        preset=entry.preset,
    )
    work.done("create", "model provider", entry.name, path=path)


async def _change_provider(work: Work, entry: ProviderEntry, row: ModelProvider, path: str) -> None:
    known = preset_of(entry.preset, entry.base_url)
    address = (entry.base_url or (known.base_url if known is not None else None) or "").rstrip("/") or None
    if (entry.kind, address) != (_kind(row), row.base_url):
        raise Conflict(
            f"There is a model provider “{entry.name}” at another address. Its key is not sent anywhere else: delete it, "
            "or give this one another name."
        )
    value = filled_in(entry.api_key)
    if value is None:
        work.same()
        return
    await update_provider_key(
        work.session, work.actor, keyring=work.means.keyring, provider_id=row.provider_id, api_key=value
    )
    work.done("change", "model provider", entry.name, path=path, fields=("api_key",))


async def _providers(work: Work) -> list[ModelProvider]:
    chosen = select(ModelProvider).where(ModelProvider.tenant_id == work.actor.tenant_id)
    ordered = chosen.order_by(ModelProvider.name).limit(MAX_PROVIDERS).execution_options(populate_existing=True)
    return list(await work.session.scalars(ordered))


def _kind(row: ModelProvider) -> ProviderKind:
    return "openai" if row.kind == "openai" else "openai_compatible"


async def read_identity_keys(work: Work) -> list[IdentityKeyEntry]:
    """The keys that are not retired, with what of them is public."""
    return [_identity_entry(row) for row in await _identity_keys(work)]


def _identity_entry(row: IdentityKey) -> IdentityKeyEntry:
    if row.kind == "hs256":
        return SharedKeyEntry(kind="hs256", kid=row.kid, secret=placeholder("identity_keys", row.kid, "secret"))
    public: dict[str, Any] = row.public_keys or {}
    if row.kind == "pem":
        key = public[row.kid]
        return PemKeyEntry(kind="pem", kid=row.kid, public_key=key["pem"], algorithm=key["alg"])
    return KeySetEntry(kind="jwks", keys=[{"kid": kid, "alg": key["alg"]} | key["jwk"] for kid, key in public.items()])


async def apply_identity_keys(work: Work, entries: Sequence[IdentityKeyEntry]) -> None:
    """Register public keys that are not there; ask for shared secrets, which are made in a tenant and stay there.

    Raises `Conflict` for another key under a `kid` that is in use: what it says is never replaced.
    """
    rows = await _identity_keys(work)
    found, others = paired(
        entries,
        rows,
        path="identity_keys",
        entry_id=_kid,
        row_id=lambda row: row.kid,
        # A shared secret's kid is the tenant's own, so that in another tenant one stands for the other.
        entry_name=lambda entry: entry.kind if entry.kind == "hs256" else _kid(entry),
        row_name=lambda row: row.kind if row.kind == "hs256" else row.kid,
        fits=lambda entry, row: entry.kind == row.kind,
    )
    for row in others:
        if work.left_over("identity key", row.kid):
            await retire_identity_key(work.session, work.actor, identity_key_id=row.identity_key_id)
    for number, (entry, held) in enumerate(zip(entries, found, strict=True)):
        path = f"identity_keys.{number}"
        with work.at(path):
            match entry:
                case SharedKeyEntry():
                    if held is not None:
                        work.same()
                    else:
                        work.ask(path, "Make a shared secret for signing in visitors, and give it to your server.")
                case PemKeyEntry() | KeySetEntry():
                    if held is None:
                        await create_identity_key(work.session, work.actor, keyring=work.means.keyring, new=entry)
                        work.done("create", "identity key", _kid(entry), path=path)
                    elif read_public_keys(entry, default_kid=held.kid) == held.public_keys:
                        work.same()
                    else:
                        raise Conflict("There is another key of this kid. Give the new one a kid of its own.")
                case _:
                    assert_never(entry)


def _kid(entry: IdentityKeyEntry) -> str:
    return str(entry.keys[0].get("kid", "")) if isinstance(entry, KeySetEntry) else entry.kid


async def _identity_keys(work: Work) -> list[IdentityKey]:
    row = IdentityKey
    chosen = select(row).where(row.tenant_id == work.actor.tenant_id, row.retired_at.is_(None))
    return list(await work.session.scalars(chosen.order_by(row.identity_key_id).limit(MAX_IDENTITY_KEYS)))
