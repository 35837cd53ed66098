"""What the tenant reads of its visitors' conversations."""

from __future__ import annotations

import pytest

from stonechat.accounts.actor import system
from stonechat.chat.conversations import list_conversations
from stonechat.chat.resume import tail
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound
from stonechat.identity.caller import Caller
from support.chat import Chat, add, create, decode


async def say(chat: Chat, caller: Caller, text: str) -> str:
    """Ask to the end; returns the conversation's id."""
    run = await chat.server.start(create(text), caller)
    decode(b"".join([chunk async for chunk in tail(run)]))
    return run.thread.id


async def found(database: Database, caller: Caller, words: str) -> list[str]:
    async with database.tenant(caller.tenant_id) as session:
        page = await list_conversations(session, system(caller.tenant_id), query=words)
    return [each.id for each in page.data]


async def test_a_message_with_nul_does_not_end_searching(chat: Chat, anna: Caller, database: Database) -> None:
    plain = await say(chat, anna, "Where is my parcel? 100% late")
    strange = await say(chat, anna, "par\x00cel \\\x00\x00 and a literal \\u0000 in words")
    assert await found(database, anna, "PARCEL") == [strange, plain]
    assert await found(database, anna, "literal \\u0000") == [strange]
    assert await found(database, anna, "100%") == [plain]
    assert await found(database, anna, "a\x00b") == []


@pytest.mark.parametrize("strange", ["", "\x00", "thr_\x00", "x" * 1000])
async def test_a_message_to_a_strange_id_is_not_found(chat: Chat, anna: Caller, strange: str) -> None:
    with pytest.raises(NotFound):
        await chat.server.start(add(strange), anna)


async def test_what_a_message_quotes_is_bounded(chat: Chat, anna: Caller) -> None:
    request = create("And this?")
    request.params.input.quoted_text = "x" * 32_001
    with pytest.raises(InvalidInput):
        await chat.server.start(request, anna)
