"""The written contract: docs/openapi.json, docs/errors.md and docs/webhooks.md, generated from the code and compared in
the checks."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import SecretStr

from stonechat.app import create_app
from stonechat.errors import StonechatError, all_errors
from stonechat.settings import Settings
from stonechat.webhooks.catalogue import CATALOGUE, EventKind

_ERRORS_HEAD = """# Errors

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document, `application/problem+json`:

    {"type": "urn:stonechat:error:rate_limited", "title": "Too many requests in a short time", "status": 429,
     "code": "rate_limited", "detail": "Try again in 12 seconds."}

`code` is for machines and does not change. `detail` is for people and may. What belongs to someone else is `not_found`.

| status | code | meaning |
|---|---|---|
"""
_WEBHOOKS_HEAD = """# Webhook events

What an endpoint can be told; [the guide](guide/13-webhooks.md) says how to receive it. Each request holds

    {"type": "document.ready", "timestamp": "2026-11-23T02:00:00.000Z", "data": {…}}

where `timestamp` is when it happened, and `data` is of its kind. Fields may be added, and may be missing where there is
nothing to say. `webhook.test` is what "Send a test" sends, whatever an endpoint asked for.

At most 10,000 deliveries wait at an endpoint. An event beyond that is not sent there: it is noted as failed with the reason, and
can be replayed.
"""


def write_contract(folder: Path) -> None:
    """Write the documents into `folder`."""
    for name, text in _documents().items():
        (folder / name).write_text(text, encoding="utf-8")


def outdated(folder: Path) -> list[str]:
    """The names of the documents in `folder` that differ from what the code says."""
    return [
        name
        for name, text in _documents().items()
        if not (folder / name).is_file() or (folder / name).read_text(encoding="utf-8") != text
    ]


def _documents() -> dict[str, str]:
    settings = Settings().model_copy(
        update={
            "environment": "development",
            "secret_keys": (SecretStr("for the document only, never used to sign"),),
            "database_url": "postgresql://nobody@127.0.0.1/nothing",
            "configured_public_url": "http://127.0.0.1:8000",
        }
    )
    document = create_app(settings).openapi()
    return {
        "openapi.json": json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True) + "\n",
        "errors.md": _ERRORS_HEAD + "".join(_row(error) for error in _sorted_errors()),
        "webhooks.md": _WEBHOOKS_HEAD + "".join(_kind(kind) for kind in CATALOGUE),
    }


def _sorted_errors() -> list[type[StonechatError]]:
    unique = {error.code: error for error in all_errors()}
    return sorted(unique.values(), key=lambda error: (error.status, error.code))


def _kind(kind: EventKind) -> str:
    lines = json.dumps(kind.example, indent=2, ensure_ascii=False).replace("\n", "\n    ")
    return f"\n## {kind.name}\n\n{kind.sentence}\n\n    {lines}\n"


def _row(error: type[StonechatError]) -> str:
    return f"| {error.status} | `{error.code}` | {error.title} |\n"
