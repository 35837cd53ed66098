"""All of a tenant's conversations as lines of JSON, the newest first, with no connection held between two pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

from stonechat.accounts.actor import Actor
from stonechat.chat.conversations import get_conversation, list_conversations
from stonechat.db.session import Database
from stonechat.errors import NotFound

PAGE = 50
MAX_CONVERSATIONS = 200_000


async def export_conversations(database: Database, actor: Actor) -> AsyncIterator[bytes]:
    """Each line is a conversation as `GET /api/v1/conversations/{id}` has it; one deleted meanwhile is left out."""
    cursor: str | None = None
    for _ in range(MAX_CONVERSATIONS // PAGE):
        lines = []
        async with database.tenant(actor.tenant_id) as session:
            page = await list_conversations(session, actor, limit=PAGE, cursor=cursor)
            for summary in page.data:
                try:
                    found = await get_conversation(session, actor, thread_id=summary.id)
                except NotFound:
                    continue
                lines.append(found.model_dump_json())
        if lines:
            yield ("\n".join(lines) + "\n").encode()
        cursor = page.next_cursor
        if cursor is None:
            return
