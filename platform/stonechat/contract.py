"""The written contract: docs/openapi.json and docs/errors.md, generated from the code and compared in the checks."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import SecretStr

from stonechat.app import create_app
from stonechat.errors import StonechatError, all_errors
from stonechat.settings import Settings

_ERRORS_HEAD = """# Errors

Every error is an [RFC 9457](https://www.rfc-editor.org/rfc/rfc9457) problem document, `application/problem+json`:

    {"type": "urn:stonechat:error:rate_limited", "title": "Too many requests in a short time", "status": 429,
     "code": "rate_limited", "detail": "Try again in 12 seconds."}

`code` is for machines and does not change. `detail` is for people and may. What belongs to someone else is `not_found`.

| status | code | meaning |
|---|---|---|
"""


def write_contract(folder: Path) -> None:
    """Write both documents into `folder`."""
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
    }


def _sorted_errors() -> list[type[StonechatError]]:
    unique = {error.code: error for error in all_errors()}
    return sorted(unique.values(), key=lambda error: (error.status, error.code))


def _row(error: type[StonechatError]) -> str:
    return f"| {error.status} | `{error.code}` | {error.title} |\n"
