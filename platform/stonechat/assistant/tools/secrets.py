"""Secret headers of one call, and keeping their values out of everything else."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from stonechat.accounts.secrets import OpenedSecret, open_secrets
from stonechat.assistant.tools.context import ToolAccess, TurnContext
from stonechat.errors import UpstreamFailed

HIDDEN = "[hidden]"
_MIN_PART = 8
"""Characters from which a word of a secret (the key after “Bearer ”) is hidden for itself."""


@dataclass(frozen=True, slots=True)
class SecretHeaders:
    """Header → value, to be sent; everything else that a call leaves behind goes through `hide`."""

    headers: Mapping[str, str] = field(repr=False)
    versions: tuple[tuple[str, str], ...]
    """Secret → version, to tell what was learnt with another value."""

    def hide(self, text: str) -> str:
        """The text without the values, for services that repeat what they were sent."""
        for form in sorted(self._forms(), key=len, reverse=True):
            text = text.replace(form, HIDDEN)
        return text

    def hide_in(self, document: Any) -> Any:
        """JSON without the values, however they were escaped when it came."""
        if not self.headers:
            return document
        return json.loads(self.hide(json.dumps(document, ensure_ascii=False)))

    def _forms(self) -> set[str]:
        parts = set(self.headers.values())
        for value in self.headers.values():
            parts.update(part for part in re.split(r"[\s:=,;]+", value) if len(part) >= _MIN_PART)
        return {form for part in parts for form in (part, json.dumps(part)[1:-1])}


async def secret_headers(
    context: TurnContext, access: ToolAccess, *, names: Mapping[str, str], missing: list[str]
) -> SecretHeaders:
    """The values for header → name of a secret, read anew. Names without a value are put into `missing`.

    Raises `UpstreamFailed` if any is: what it says may be told to visitors, and names nothing.
    """
    if not names:
        return SecretHeaders({}, ())
    tenant_id = context.caller.tenant_id
    async with access.database.tenant(tenant_id) as session:
        opened = await open_secrets(session, tenant_id, keyring=access.keyring, names=_unique(names.values()))
    missing.extend(sorted(set(names.values()) - opened.keys()))
    if missing:
        raise UpstreamFailed("This tool is not set up completely, so it cannot be used. Its owner can see why.")
    return SecretHeaders({header: opened[name].value for header, name in names.items()}, _versions(opened))


def _unique(names: Collection[str]) -> list[str]:
    return sorted(set(names))


def _versions(opened: Mapping[str, OpenedSecret]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, secret.version) for name, secret in opened.items()))
