"""Whether a provider answers, asked once, briefly, and told in sentences."""

from __future__ import annotations

import json
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
from stonechat.providers.provider import OPENAI_BASE_URL
from stonechat.providers.service import KEY_KIND

TEST_SECONDS = 10.0
MAX_ANSWER_BYTES = 1_000_000
MAX_MODELS, MAX_MODEL_NAME = 200, 200


@dataclass(frozen=True, slots=True)
class ProviderTest:
    """What came of asking a provider for its list of models, which costs nothing."""

    works: bool
    message: str
    """A sentence for people: what was found, and what to do about it."""
    models: tuple[str, ...] = ()
    """The provider's own names, sorted; not every host lists them."""


async def check_provider(
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
        if row.sealed_api_key is None:
            return ProviderTest(False, "This provider has no key. Add one, then test again.")
        cipher = await tenant_cipher(session, keyring, actor.tenant_id)
        api_key = cipher.open(row.sealed_api_key, kind=KEY_KIND, subject=row.provider_id).decode()
        base_url = row.base_url or openai_base_url
    try:
        answer = await outbound.request(
            "GET",
            f"{base_url}/models",
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            max_bytes=MAX_ANSWER_BYTES,
            timeout=TEST_SECONDS,
            allow_http=allow_http,
        )
    except UpstreamTimedOut:
        return ProviderTest(
            False, f"There was no answer within {TEST_SECONDS:.0f} seconds. Check the address, or try again later."
        )
    except (TargetNotAllowed, InvalidInput, UpstreamFailed) as error:
        if row.base_url is None:
            return ProviderTest(False, f"OpenAI cannot be reached from here: {error} Try again later.")
        return ProviderTest(False, f"The address does not work: {error} Check it for typing mistakes.")
    except PayloadTooLarge:
        return ProviderTest(False, "The address answers with far more than a list of models. Check the address.")
    return _judge(answer.status, answer.content)


def _judge(status: int, content: bytes) -> ProviderTest:
    if status in (401, 403):
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
    """The models of an answer in OpenAI's shape; None for any other."""
    try:
        listed = json.loads(content)["data"]
        names = {str(model["id"])[:MAX_MODEL_NAME] for model in listed}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return tuple(sorted(names)[:MAX_MODELS])
