"""Who does something to a tenant's configuration: a person in the console, an API key, an operator, or the system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from stonechat.errors import ScopeMissing

ActorKind = Literal["person", "api_key", "operator", "system"]
Scope = Literal["read", "write", "admin"]
"""`read` sees, `write` shapes agents, knowledge and keys of sites, `admin` manages members, API keys and deletion."""

_INCLUDES: dict[str, frozenset[str]] = {
    "read": frozenset({"read"}),
    "write": frozenset({"read", "write"}),
    "admin": frozenset({"read", "write", "admin"}),
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Comes first in every verb that changes a tenant's configuration, and is what the audit log records."""

    tenant_id: UUID
    kind: ActorKind
    id: str | None
    scopes: frozenset[str] = frozenset()

    def require(self, scope: Scope) -> None:
        """Raise `ScopeMissing` unless one of the actor's scopes includes `scope`."""
        if not any(scope in _INCLUDES.get(held, ()) for held in self.scopes):
            raise ScopeMissing(f"This needs the scope “{scope}”. Make an API key that has it.")


def system(tenant_id: UUID) -> Actor:
    """The platform itself, acting for a tenant: jobs, seeds and the command line."""
    return Actor(tenant_id, "system", None, frozenset({"admin"}))
