"""Opening sessions: who is let in, who comes back, and who a visitor turns out to be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import AgentNotPublished, InvalidTicket, InvalidUserToken, OriginNotAllowed, UnknownDomainKey
from stonechat.identity.domain_keys import revoke_domain_key
from stonechat.identity.sessions import OpenSession, SessionRequest, open_preview_session, open_session
from support.identity import (
    KEYRING,
    PLATFORM,
    SHOP,
    actor_of,
    make_agent,
    make_domain_key,
    make_secret_key,
    session_tokens,
    site_keys,
    user_token,
)

TOKENS = session_tokens()


async def published(_session: AsyncSession, _tenant_id: UUID, agent_id: str) -> str:
    return f"config of {agent_id}"


async def unpublished(_session: AsyncSession, _tenant_id: UUID, _agent_id: str) -> str:
    raise AgentNotPublished


async def open_at(
    database: Database, domain_key: str, *, origin: str | None = SHOP, load: Any = published, **rest: Any
) -> OpenSession[str]:
    return await open_session(
        database,
        SessionRequest(domain_key, origin, **rest),
        keys=site_keys(database),
        tokens=TOKENS,
        keyring=KEYRING,
        platform_origins=frozenset({PLATFORM}),
        load_published=load,
    )


async def users_of(database: Database, tenant_id: UUID) -> int:
    async with database.tenant(tenant_id) as session:
        return await session.scalar(text("select count(*) from users where tenant_id = :t"), {"t": tenant_id}) or 0


async def test_an_allowed_page_gets_a_session(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    opened = await open_at(database, key.key)
    caller = TOKENS.verify(opened.token)
    assert caller == opened.caller
    assert (caller.tenant_id, caller.agent_id, caller.domain_key_id) == (tenant_id, key.agent_id, key.id)
    assert (caller.origin, caller.verified, caller.preview) == (SHOP, False, False)
    assert opened.agent == f"config of {key.agent_id}"
    assert opened.visitor.startswith("vis_")


async def test_the_visitor_secret_is_stored_hashed_only(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    opened = await open_at(database, key.key)
    async with database.tenant(tenant_id) as session:
        row = (
            await session.execute(
                text("select to_jsonb(u) from users u where user_id = :u"), {"u": opened.caller.user_id}
            )
        ).one()
    assert opened.visitor not in str(row)
    assert opened.visitor[4:] not in str(row)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "null",
        "https://evil.example",
        "http://shop.example",
        "https://shop.example:8443",
        "https://shop.example.evil.example",
        PLATFORM,
    ],
)
async def test_other_pages_are_refused(database: Database, tenant_id: UUID, origin: str | None) -> None:
    key = await make_domain_key(database, tenant_id)
    with pytest.raises(OriginNotAllowed):
        await open_at(database, key.key, origin=origin)
    assert await users_of(database, tenant_id) == 0


async def test_an_empty_list_admits_nobody(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id, origins=[])
    with pytest.raises(OriginNotAllowed):
        await open_at(database, key.key)


async def test_the_key_of_another_tenant_does_not_admit_our_page(
    database: Database, tenant_id: UUID, make_tenant
) -> None:
    ours = await make_domain_key(database, tenant_id, origins=["https://ours.example"])
    theirs = await make_domain_key(database, await make_tenant(), origins=["https://theirs.example"])
    with pytest.raises(OriginNotAllowed):
        await open_at(database, theirs.key, origin="https://ours.example")
    assert (await open_at(database, ours.key, origin="https://ours.example")).caller.tenant_id == tenant_id


async def test_errors_come_in_the_promised_order(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    wrong: dict[str, Any] = {"origin": "https://evil.example", "user_token": "x", "load": unpublished}
    with pytest.raises(UnknownDomainKey):
        await open_at(database, "pk_unknown", **wrong)
    with pytest.raises(OriginNotAllowed):
        await open_at(database, key.key, **wrong)
    with pytest.raises(InvalidUserToken):
        await open_at(database, key.key, **wrong | {"origin": SHOP})
    with pytest.raises(AgentNotPublished):
        await open_at(database, key.key, load=unpublished)
    assert await users_of(database, tenant_id) == 0


async def test_a_revoked_key_opens_nothing_at_once(database: Database, tenant_id: UUID) -> None:
    key, keys = await make_domain_key(database, tenant_id), site_keys(database)
    await keys.find(key.key)
    async with database.tenant(tenant_id) as session:
        await revoke_domain_key(session, actor_of(tenant_id), agent_id=key.agent_id, domain_key_id=key.id)
    with pytest.raises(UnknownDomainKey):
        await open_session(
            database,
            SessionRequest(key.key, SHOP),
            keys=keys,
            tokens=TOKENS,
            keyring=KEYRING,
            platform_origins=frozenset({PLATFORM}),
            load_published=published,
        )


async def test_a_ticket_admits_the_platforms_own_frame(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    told = await open_at(database, key.key, origin=PLATFORM, ticket=TOKENS.mint_ticket(key.key, parent=SHOP))
    untold = await open_at(database, key.key, origin=PLATFORM, ticket=TOKENS.mint_ticket(key.key))
    moved = await open_at(
        database, key.key, origin=PLATFORM, ticket=TOKENS.mint_ticket(key.key, parent="https://gone.example")
    )
    assert [opened.caller.origin for opened in (told, untold, moved)] == [SHOP, PLATFORM, PLATFORM]


async def test_tickets_cannot_be_misused(database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = await make_domain_key(database, tenant_id), await make_domain_key(database, tenant_id)
    ticket = TOKENS.mint_ticket(key.key, parent=SHOP)
    with pytest.raises(InvalidTicket):
        await open_at(database, other.key, origin=PLATFORM, ticket=ticket)
    with pytest.raises(OriginNotAllowed):
        await open_at(database, key.key, origin="https://evil.example", ticket=ticket)
    with pytest.raises(OriginNotAllowed):
        await open_at(database, key.key, origin=None, ticket=ticket)
    for forged in ("", "x", TOKENS.mint((await open_at(database, key.key)).caller)[0]):
        with pytest.raises(InvalidTicket):
            await open_at(database, key.key, origin=PLATFORM, ticket=forged)
    later = clock.now() + timedelta(seconds=63)
    monkeypatch.setattr(clock, "now", lambda: later)
    with pytest.raises(InvalidTicket):
        await open_at(database, key.key, origin=PLATFORM, ticket=ticket)


async def test_a_returning_visitor_is_the_same_user(database: Database, tenant_id: UUID, make_tenant) -> None:
    key = await make_domain_key(database, tenant_id)
    first = await open_at(database, key.key)
    again = await open_at(database, key.key, visitor=first.visitor)
    stranger = await open_at(database, key.key)
    assert (again.caller.user_id, again.visitor) == (first.caller.user_id, first.visitor)
    assert stranger.caller.user_id != first.caller.user_id
    elsewhere = await open_at(
        database, (await make_domain_key(database, await make_tenant())).key, visitor=first.visitor
    )
    assert elsewhere.caller.user_id != first.caller.user_id


@pytest.mark.parametrize(
    "visitor", ["", "vis_short", "x" * 47, "vis_" + "é" * 43, "vis_" + "a" * 44, "vis_" + "a" * 42 + "\x00"]
)
async def test_what_is_no_visitor_secret_is_replaced(database: Database, tenant_id: UUID, visitor: str) -> None:
    key = await make_domain_key(database, tenant_id)
    assert (await open_at(database, key.key, visitor=visitor)).visitor != visitor


async def test_one_visitor_in_two_tabs_at_once_is_one_user(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    visitor = "vis_" + "a" * 43
    opened = await asyncio.gather(*(open_at(database, key.key, visitor=visitor) for _ in range(4)))
    assert len({session.caller.user_id for session in opened}) == 1


async def test_a_signed_in_user_is_known_by_the_tenants_own_id(database: Database, tenant_id: UUID) -> None:
    key, identity = await make_domain_key(database, tenant_id), await make_secret_key(database, tenant_id)
    token = user_token(
        identity.secret, identity.kid, sub="c-1", name="Ada", email="ada@shop.example", attributes={"plan": "gold"}
    )
    laptop = await open_at(database, key.key, user_token=token)
    phone = await open_at(database, key.key, user_token=user_token(identity.secret, identity.kid, sub="c-1"))
    other = await open_at(database, key.key, user_token=user_token(identity.secret, identity.kid, sub="c-2"))
    assert laptop.caller.verified
    assert laptop.caller.user_id == phone.caller.user_id != other.caller.user_id
    async with database.tenant(tenant_id) as session:
        row = await session.execute(
            text("select external_id, verified, name, email, attributes from users where user_id = :u"),
            {"u": laptop.caller.user_id},
        )
    # What the second token left out is as the first one said.
    assert tuple(row.one()) == ("c-1", True, "Ada", "ada@shop.example", {"plan": "gold"})


async def test_a_visitor_who_signs_in_keeps_the_conversation_and_leaves_it_on_signing_out(
    database: Database, tenant_id: UUID
) -> None:
    key, identity = await make_domain_key(database, tenant_id), await make_secret_key(database, tenant_id)
    anonymous = await open_at(database, key.key)
    signed_in = await open_at(
        database, key.key, visitor=anonymous.visitor, user_token=user_token(identity.secret, identity.kid, sub="c-1")
    )
    assert signed_in.caller.user_id == anonymous.caller.user_id
    assert signed_in.visitor == anonymous.visitor
    signed_out = await open_at(database, key.key, visitor=anonymous.visitor)
    assert signed_out.caller.user_id != signed_in.caller.user_id
    assert not signed_out.caller.verified


async def test_signing_in_as_a_known_user_leaves_the_anonymous_conversation_with_the_visitor(
    database: Database, tenant_id: UUID
) -> None:
    key, identity = await make_domain_key(database, tenant_id), await make_secret_key(database, tenant_id)
    token = user_token(identity.secret, identity.kid, sub="c-1")
    known = await open_at(database, key.key, user_token=token)
    anonymous = await open_at(database, key.key)
    signed_in = await open_at(database, key.key, visitor=anonymous.visitor, user_token=token)
    assert signed_in.caller.user_id == known.caller.user_id
    assert (await open_at(database, key.key, visitor=anonymous.visitor)).caller.user_id == anonymous.caller.user_id


async def test_a_new_user_in_two_tabs_at_once_is_one_user(database: Database, tenant_id: UUID) -> None:
    key, identity = await make_domain_key(database, tenant_id), await make_secret_key(database, tenant_id)
    visitor = (await open_at(database, key.key)).visitor
    token = user_token(identity.secret, identity.kid, sub="c-1", jti="one")
    opened = await asyncio.gather(*(open_at(database, key.key, visitor=visitor, user_token=token) for _ in range(4)))
    assert len({session.caller.user_id for session in opened}) == 1


async def test_a_preview_is_of_the_draft_and_tied_to_no_page(database: Database, tenant_id: UUID) -> None:
    agent_id = await make_agent(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        token, _, caller = await open_preview_session(session, actor_of(tenant_id), agent_id=agent_id, tokens=TOKENS)
        again = await open_preview_session(session, actor_of(tenant_id), agent_id=agent_id, tokens=TOKENS)
    assert TOKENS.verify(token) == caller == again[2]
    assert (caller.preview, caller.agent_id, caller.origin, caller.domain_key_id) == (True, agent_id, None, None)
