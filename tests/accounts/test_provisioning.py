"""A new customer gets a working key, and a link only while the owner has no password."""

from __future__ import annotations

from uuid import UUID, uuid4

from argon2 import PasswordHasher

from stonechat.accounts.api_keys import authenticate_api_key
from stonechat.accounts.passwords import Passwords
from stonechat.accounts.people import redeem_setup_token
from stonechat.accounts.provisioning import provision_tenant
from stonechat.db.session import Database

CHEAP = Passwords(hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


async def test_the_key_works_and_the_link_is_given_until_it_is_used(database: Database) -> None:
    email = f"owner-{uuid4().hex[:8]}@example.com"
    url = None
    for name in ("One", "Two"):
        made = await provision_tenant(database, name=name, owner_email=email, public_url="https://chat.example.com")
        actor = await authenticate_api_key(database, f"Bearer {made['api_key']}")
        assert (actor.tenant_id, actor.scopes) == (UUID(made["tenant_id"]), {"admin"})
        url = made["setup_url"]
        assert url is not None
    token = url.removeprefix("https://chat.example.com/setup?token=")
    await redeem_setup_token(database, token, password="correct horse battery", passwords=CHEAP)
    made = await provision_tenant(database, name="Three", owner_email=email, public_url="https://chat.example.com")
    assert made["setup_url"] is None
