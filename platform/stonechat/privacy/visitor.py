"""Whose data it is."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID


class Visitor(Protocol):
    """A visitor or user of one tenant: a `Caller` of the chat, or whom somebody of the tenant asks about."""

    @property
    def tenant_id(self) -> UUID: ...

    @property
    def user_id(self) -> str: ...
