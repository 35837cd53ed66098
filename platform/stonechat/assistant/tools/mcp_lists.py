"""What servers of tools offer, remembered for a while: by tenant, configuration and the versions of its secrets."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

KEEP_SECONDS = 300.0
KEEP_FAILURE_SECONDS = 20.0
"""How long a server that could not be reached is left alone."""
MAX_LISTS = 1_000


@dataclass(frozen=True, slots=True)
class OfferedTool:
    """A tool as its server describes it, cut to size."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    only_reads: bool


@dataclass(frozen=True, slots=True)
class McpKey:
    """Whose list it is. Another tenant, another address or another secret is another key."""

    tenant_id: UUID
    server: str
    secret_versions: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class McpList:
    """What a server offered, or why it could not be asked."""

    tools: tuple[OfferedTool, ...] = ()
    failure: str | None = None
    reason: str | None = None
    """More of the failure, for the tenant."""


class McpToolLists:
    """The lists of one process, the most recently used `MAX_LISTS` of them."""

    def __init__(self) -> None:
        self._lists: OrderedDict[McpKey, tuple[float, McpList]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lists)

    def get(self, key: McpKey) -> McpList | None:
        """The list, unless it is too old."""
        held = self._lists.get(key)
        if held is None:
            return None
        if held[0] <= asyncio.get_running_loop().time():
            del self._lists[key]
            return None
        self._lists.move_to_end(key)
        return held[1]

    def put(self, key: McpKey, offered: McpList) -> None:
        """Remember a list."""
        seconds = KEEP_SECONDS if offered.failure is None else KEEP_FAILURE_SECONDS
        self._lists[key] = (asyncio.get_running_loop().time() + seconds, offered)
        self._lists.move_to_end(key)
        while len(self._lists) > MAX_LISTS:
            self._lists.popitem(last=False)
