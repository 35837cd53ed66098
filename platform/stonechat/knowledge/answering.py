"""The one thing to do about an unanswered question: write its answer, which becomes a question-answer pair that answers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.files import FileStore
from stonechat.knowledge.editing import MAX_PAIRS, Rewriting, pairs_json, read_written, rewrite_source
from stonechat.knowledge.models import Document, Source
from stonechat.knowledge.schemas import FaqSourceIn, Pair
from stonechat.knowledge.service import MAX_DOCUMENT_BYTES
from stonechat.knowledge.sources import create_source
from stonechat.knowledge.unanswered import GroupView, locked_group, settle_group

NAME = "Answers from the console"
_ROLE = "console_answers"
"""What marks the source in its settings, whatever it is called by now."""


async def answer_group(
    session: AsyncSession,
    actor: Actor,
    *,
    files: FileStore,
    group_id: str,
    pair: Pair,
) -> GroupView:
    """Put the pair among the console's answers, and note the group as answered. A pair with the same question is replaced.

    The answer is found once its document was read again, which takes seconds. Raises `NotFound`, `InvalidInput`.
    """
    actor.require("write")
    await locked_group(session, actor, group_id)
    source_id = await _add(session, actor, files=files, pair=pair)
    return await settle_group(session, actor, group_id=group_id, state="answered", source_id=source_id)


async def _add(session: AsyncSession, actor: Actor, *, files: FileStore, pair: Pair) -> str:
    chosen = (
        select(Source)
        .where(Source.tenant_id == actor.tenant_id, Source.kind == "faq", Source.settings["role"].astext == _ROLE)
        .order_by(Source.source_id.desc())
        .limit(1)
        .with_for_update()
    )
    source = await session.scalar(chosen)
    if source is not None:
        written = await read_written(session, actor, files=files, source_id=source.source_id)
        pairs = _with(written.pairs, pair)
        if len(pairs) <= MAX_PAIRS and len(pairs_json(pairs)) <= MAX_DOCUMENT_BYTES:
            change = Rewriting(pairs=pairs)
            await rewrite_source(session, actor, files=files, source_id=source.source_id, change=change)
            return source.source_id
    made = await create_source(session, actor, files=files, source=FaqSourceIn(type="faq", name=NAME, pairs=[pair]))
    made.settings = {**made.settings, "role": _ROLE}
    await session.flush()
    return made.source_id


def _with(pairs: Sequence[Pair], pair: Pair) -> list[Pair]:
    """The pairs and this one, in place of one with the same question."""
    same = pair.question.casefold()
    return [*(each for each in pairs if each.question.casefold() != same), pair]


async def document_of_answers(session: AsyncSession, actor: Actor, *, source_id: str) -> Document | None:
    """The document of the source that holds an answer; None if it was deleted since."""
    actor.require("read")
    return await session.scalar(
        select(Document)
        .where(Document.tenant_id == actor.tenant_id, Document.source_id == source_id, Document.deleted_at.is_(None))
        .limit(1)
    )
