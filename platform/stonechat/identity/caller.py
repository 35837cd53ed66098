"""Who is chatting: everything that a session token says, verified, and nothing that needs the database."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Caller:
    """A visitor or a signed-in user of one tenant's site. First parameter of every verb of the chat.

    Tenant and user scope every look-up: what belongs to another tenant, or to another user of the same tenant, is
    not found.
    """

    tenant_id: UUID
    user_id: str
    agent_id: str
    domain_key_id: str | None = None
    """None for a preview session from the console or the management API."""
    origin: str | None = None
    """The origin the session was minted for, such as `https://shop.example`."""
    verified: bool = False
    """Whether the tenant's own signature vouches for the user."""
    preview: bool = False
    """Preview sessions talk to the draft rather than to the published version."""
    grant_id: str | None = None
    """The look into the tenant under which an operator opened a preview session, which ends with it."""
