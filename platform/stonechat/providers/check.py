"""Whether a provider answers, asked once, briefly, and told in sentences."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from sqlalchemy import select

from stonechat.accounts.actor import Actor
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.db.session import Database
from stonechat.errors import (
    InvalidInput,
    NotFound,
    PayloadTooLarge,
    TargetNotAllowed,
    UpstreamFailed,
    UpstreamTimedOut,
)
from stonechat.outbound.client import OutboundClient
from stonechat.providers.models import ModelProvider
from stonechat.providers.presets import Preset, preset_of
from stonechat.providers.provider import OPENAI_BASE_URL
from stonechat.providers.service import KEY_KIND

TEST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1_000_000
MAX_MODELS, MAX_MODEL_NAME = 200, 200
_KEY_REFUSED = re.compile(rb"api.?key.{0,20}(not valid|invalid)|invalid.{0,10}api.?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProviderTest:
    """What came of asking a provider for its list of models, which costs nothing."""

    works: bool
    message: str
    """A sentence for people: what was found, and what to do about it."""
    models: tuple[str, ...] = ()
    """The provider's own names, sorted; not every host lists them."""


async def check_provider(  # noqa: PLR0911  a return a sentence
    database: Database,
    actor: Actor,
    *,
    keyring: Keyring,
    provider_id: str,
    outbound: OutboundClient,
    allow_http: bool = False,
    openai_base_url: str = OPENAI_BASE_URL,
) -> ProviderTest:
    """Ask a provider for its models with the stored key, within `TEST_SECONDS`. Raises `NotFound` for the provider only.

    Holds no transaction while it waits.
    """
    actor.require("write")
    async with database.tenant(actor.tenant_id) as session:
        mine = (ModelProvider.tenant_id == actor.tenant_id) & (ModelProvider.provider_id == provider_id)
        row = await session.scalar(select(ModelProvider).where(mine))
        if row is None:
            raise NotFound("There is no such model provider.")
        preset = preset_of(row.preset, row.base_url)
        api_key = None
        if row.sealed_api_key is not None:
            cipher = await tenant_cipher(session, keyring, actor.tenant_id)
            api_key = cipher.open(row.sealed_api_key, kind=KEY_KIND, subject=row.provider_id).decode()
        elif preset is None or preset.needs_key:
            return ProviderTest(False, "This provider has no key. Add one, then test again.")
        base_url = row.base_url or openai_base_url
    try:
        answer = await outbound.request(
            "GET",
            _models_url(preset, base_url),
            headers=_headers(preset, api_key),
            max_bytes=MAX_ANSWER_BYTES,
            timeout=TEST_SECONDS,
            allow_http=allow_http,
        )
    except UpstreamTimedOut:
        return ProviderTest(
            False, f"There was no answer within {TEST_SECONDS:.0f} seconds. Check the address, or try again later."
        )
    except TargetNotAllowed as error:
        if preset is not None and preset.private:
            return ProviderTest(
                False,
                f"{error} {preset.label} usually runs on a network of one’s own: whoever runs this installation can allow "
                "that network with STONECHAT_OUTBOUND_ALLOWED_NETWORKS.",
            )
        return ProviderTest(False, f"The address does not work: {error} Check it for typing mistakes.")
    except (InvalidInput, UpstreamFailed) as error:
        if row.base_url is None:
            return ProviderTest(False, f"OpenAI cannot be reached from here: {error} Try again later.")
        return ProviderTest(False, f"The address does not work: {error} Check it for typing mistakes.")
    except PayloadTooLarge:
        return ProviderTest(False, "The address answers with far more than a list of models. Check the address.")
    return _judge(answer.status, answer.content, has_key=api_key is not None)


def _models_url(preset: Preset | None, base_url: str) -> str:
    # A preset's own list is asked only where the address is the preset's own, too: the key must not go elsewhere.
    if preset is not None and preset.models_url is not None and preset.base_url == base_url:
        return preset.models_url
    return f"{base_url}/models"


def _headers(preset: Preset | None, api_key: str | None) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if preset is not None:
        headers |= preset.headers
    if api_key is not None:
        if preset is not None and preset.key_header is not None:
            headers[preset.key_header] = api_key
        else:
            headers["Authorization"] = f"Bearer {api_key}"
    return headers


def _judge(status: int, content: bytes, *, has_key: bool) -> ProviderTest:
    if status in (401, 403) and not has_key:
        return ProviderTest(False, "The host wants a key. Add one with “Replace key”, then test again.")
    # Gemini answers a wrong key with 400.
    if status in (401, 403) or (status == 400 and _KEY_REFUSED.search(content[:5000])):
        return ProviderTest(
            False, "The provider refused the key. Copy it again from the provider's site and replace it."
        )
    if status == 429:
        return ProviderTest(
            True, "The key works, but the provider says that it is used too much. Check your plan and credit there."
        )
    if status >= 500:
        return ProviderTest(False, f"The provider has a problem of its own (error {status}). Try again later.")
    models = _names(content) if 200 <= status < 300 else None
    if models is None:
        return ProviderTest(
            False,
            "Something answers at this address, but not as a model provider does. Many addresses end in /v1: check yours.",
        )
    return ProviderTest(True, "The connection works.", models)


def _names(content: bytes) -> tuple[str, ...] | None:
    """The models of an answer in OpenAI's shape or in Cohere's; None for any other."""
    try:
        answer = json.loads(content)
        if "data" in answer:
            names = {str(model["id"]) for model in answer["data"]}
        else:
            names = {str(model["name"]) for model in answer["models"]}  # Cohere's own list
        names = {name.removeprefix("models/")[:MAX_MODEL_NAME] for name in names}  # Gemini's prefix
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return tuple(sorted(names)[:MAX_MODELS])
