"""A new customer in one call: tenant, owner, a first API key, and the link for the owner's password."""

from __future__ import annotations

from stonechat.accounts import api_keys, people, tenants
from stonechat.accounts.actor import system
from stonechat.db.session import Database

FIRST_KEY_NAME = "First key"


async def provision_tenant(
    database: Database, *, name: str, owner_email: str, public_url: str
) -> dict[str, str | None]:
    """Returns `tenant_id`, `api_key` (shown once) and `setup_url`, null for an owner who already has a password.

    Raises `InvalidInput`.
    """
    made = await tenants.create_tenant(database, name=name, owner_email=owner_email)
    async with database.tenant(made.tenant_id) as session:
        _, secret = await api_keys.create_api_key(
            session, system(made.tenant_id), name=FIRST_KEY_NAME, scopes=["admin"]
        )
        url = None
        if not made.owner_has_password:
            url = people.setup_url(public_url, token=await people.new_setup_token(session, made.owner_id))
    return {"tenant_id": str(made.tenant_id), "api_key": secret, "setup_url": url}
