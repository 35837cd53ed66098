"""The moderation endpoint of the agent's own provider.

Where it cannot be asked (no such endpoint, no answer in time, a failure) the message is let through, and a `skipped`
finding says why: a chat that fell silent whenever a provider's side service does would be worse, and whoever needs
certainty has blocked topics, which need nobody.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol
from uuid import UUID

import httpx2
import openai

from stonechat.assistant.guardrails.findings import Finding
from stonechat.errors import StonechatError
from stonechat.providers.client import IsolatedOpenAI
from stonechat.providers.counting import counted

SECONDS = 4.0
MAX_CHARACTERS = 32_000
_NOT_GIVEN = openai.omit


class LendsClients(Protocol):
    """`ModelProviders`, as far as moderation needs it."""

    def client(self, tenant_id: UUID, name: str) -> AbstractAsyncContextManager[IsolatedOpenAI]: ...


async def moderate(  # noqa: PLR0911  one line a case
    providers: LendsClients,
    tenant_id: UUID,
    *,
    provider: str,
    model: str,
    text: str,
    stage: Literal["input", "output"],
) -> Finding | None:
    """Ask the tenant's provider about a text; None if it has no objection. `model` empty is the provider's default."""
    if not provider:
        return Finding(stage, "moderation", "skipped", "this model has no provider")
    try:
        async with asyncio.timeout(SECONDS), providers.client(tenant_id, provider) as client:
            with counted("moderation"):
                answer = await client.moderations.create(input=text[:MAX_CHARACTERS], model=model or _NOT_GIVEN)
        flagged = [
            name.replace("_", " ").replace("/", ": ")[:60]
            for result in answer.results
            for name, is_set in result.categories.model_dump(by_alias=True).items()
            if is_set is True
        ]
        # Some endpoints of other makers name categories only.
        stopped = bool(flagged) or any(result.flagged for result in answer.results)
    except TimeoutError:
        return Finding(stage, "moderation", "skipped", "no answer in time")
    except openai.NotFoundError:
        return Finding(stage, "moderation", "skipped", "the provider has no moderation endpoint")
    except openai.APIStatusError as error:
        return Finding(stage, "moderation", "skipped", f"the provider answered {error.status_code}")
    except StonechatError as error:
        return Finding(stage, "moderation", "skipped", error.code)
    except (openai.OpenAIError, httpx2.HTTPError, json.JSONDecodeError):
        return Finding(stage, "moderation", "skipped", "the provider could not be asked")
    except (TypeError, AttributeError, ValueError):
        return Finding(stage, "moderation", "skipped", "the provider’s answer was not understood")
    if not stopped:
        return None
    return Finding(stage, "moderation", "blocked", ", ".join(flagged[:4]) or "harmful")
