"""An OpenAI client that knows what it was given, and nothing of the process's environment."""

from __future__ import annotations

from typing import Any

import httpx2
from openai import AsyncOpenAI, Omit

from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.events import StrictDecoder

NO_KEY = "no-key"
"""Stands for the key of a host that needs none; never sent."""


class IsolatedOpenAI(AsyncOpenAI):
    """`AsyncOpenAI` reads OPENAI_ORG_ID, OPENAI_PROJECT_ID, OPENAI_ADMIN_KEY, OPENAI_CUSTOM_HEADERS and more by itself.

    Those are the operator's; sent to a tenant's endpoint they would tell it the operator's secrets. They are forgotten
    here right after construction, in copies (`with_options`) too. `base_url` and `api_key` must be given.
    """

    def __init__(self, *, api_key: str, base_url: str, **options: Any) -> None:
        if not api_key:
            raise ValueError("A client needs a key of its own.")
        super().__init__(api_key=api_key, base_url=base_url, **options)
        self.organization = None
        self.project = None
        self.admin_api_key = None
        self.webhook_secret = None
        nothing: Any = {"Authorization": Omit()} if api_key == NO_KEY else {}
        self._custom_headers = nothing

    def _validate_headers(self, headers: Any, custom_headers: Any) -> None:
        if self.api_key != NO_KEY:
            super()._validate_headers(headers, custom_headers)

    def _make_sse_decoder(self) -> StrictDecoder:
        return StrictDecoder()


def build_client(
    api_key: str, base_url: str, *, http_client: httpx2.AsyncClient, limits: StreamLimits
) -> IsolatedOpenAI:
    """A client for one provider. It follows no redirects, and repeats nothing: `retries.py` says when a model is asked again."""
    http_client.follow_redirects = False
    return IsolatedOpenAI(
        api_key=api_key,
        base_url=base_url,
        http_client=http_client,
        max_retries=0,
        timeout=httpx2.Timeout(
            connect=limits.connect, read=max(limits.first_event, limits.idle), write=limits.idle, pool=limits.connect
        ),
    )
