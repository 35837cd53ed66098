"""A cited passage, read where it stands: for visitors in their own conversations, and for the team in any of its tenant's.

An annotation names a document's title, its place and the passage's beginning. Which passage that is, the conversation
itself remembers: each search left a hidden item with the ids of what it found.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from chatkit.types import HiddenContextItem
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.assistant.passages import Passages
from stonechat.assistant.tools.search import PASSAGES_KIND, remembered_chunks
from stonechat.chat.codec import parse_item, storable_id
from stonechat.chat.models import ThreadItem
from stonechat.chat.scoping import own_items
from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.identity.caller import Caller
from stonechat.knowledge.cited import MAX_CHUNKS, living_passages, read_surroundings
from stonechat.knowledge.search import Passage

MAX_MEMORIES = 20
"""Searches of a conversation, the last before the answer, whose passages are looked through."""
GONE = "This text has been changed or removed since the answer was written. What was cited then is shown below."
_NONE = "There is no such citation."
_WORDS = 12
"""Characters of a sentence from which on it is looked for in the passage."""
_LOOKED_BACK = 1_500
"""Characters of the answer before a citation."""
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])|\n+")
_MARKS = re.compile(r"^[\s>]*(?:[-*+•] |\d{1,3}[.)] |#{1,6} )?|[*_`|#]+")


@dataclass(frozen=True, slots=True)
class CitedPassage:
    """What a citation leads to. `gone`: the passage is no longer; then `text` is what the answer itself kept of it."""

    state: Literal["available", "gone"]
    title: str
    url: str | None
    headings: tuple[str, ...]
    page: int | None
    text: str
    before: str = ""
    after: str = ""
    highlights: tuple[tuple[int, int], ...] = ()
    """Where in `text`, in characters, the words stand that the answer took from it; empty if that cannot be told."""
    document_id: str | None = None
    message: str | None = None


async def read_own_citation(
    database: Database, caller: Caller, *, thread_id: str, item_id: str, index: int
) -> CitedPassage:
    """The passage of the `index`th citation, from 0, of an answer to this visitor. Raises `NotFound`."""
    if not (storable_id(thread_id) and storable_id(item_id)):
        raise NotFound(_NONE)
    mine = own_items(caller.tenant_id, caller.user_id, thread_id, caller.agent_id)
    async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        return await _read(session, caller.tenant_id, mine, item_id=item_id, index=index)


async def read_citation(
    session: AsyncSession, actor: Actor, *, thread_id: str, item_id: str, index: int
) -> CitedPassage:
    """The same for the team, in any conversation of the tenant. Raises `NotFound`."""
    actor.require("read")
    if not (storable_id(thread_id) and storable_id(item_id)):
        raise NotFound(_NONE)
    theirs = [ThreadItem.tenant_id == actor.tenant_id, ThreadItem.thread_id == thread_id]
    return await _read(session, actor.tenant_id, theirs, item_id=item_id, index=index)


async def _read(
    session: AsyncSession, tenant_id: UUID, within: Sequence[ColumnElement[bool]], *, item_id: str, index: int
) -> CitedPassage:
    chosen = select(ThreadItem.seq, ThreadItem.data).where(
        *within, ThreadItem.item_id == item_id, ThreadItem.kind == "assistant_message"
    )
    row = (await session.execute(chosen)).one_or_none()
    citation = _citation(json.loads(row.data), index) if row is not None else None
    if row is None or citation is None:
        raise NotFound(_NONE)
    memories = await session.scalars(
        select(ThreadItem.data)
        .where(
            *within,
            ThreadItem.kind == "hidden_context_item",
            ThreadItem.seq < row.seq,
            func.json_extract_path_text(ThreadItem.data, "content", "kind") == PASSAGES_KIND,
        )
        .order_by(ThreadItem.seq.desc())
        .limit(MAX_MEMORIES)
    )
    source, said = citation
    passage = _match(await living_passages(session, tenant_id, _chunks(memories.all())), source)
    if passage is None:
        title, snippet = str(source.get("title") or ""), str(source.get("description") or "")
        return CitedPassage("gone", title, _url(source), (), None, snippet, message=GONE)
    around = await read_surroundings(session, tenant_id, passage=passage)
    return CitedPassage(
        "available",
        passage.title,
        _url(source),
        passage.headings,
        passage.page,
        passage.text,
        around.before,
        around.after,
        taken_from(passage.text, said),
        passage.document_id,
    )


def _citation(data: dict[str, Any], index: int) -> tuple[dict[str, Any], str] | None:
    """The source of an answer's `index`th citation, and what the answer says before it."""
    at = 0
    for part in data.get("content") or ():
        notes = part.get("annotations") or ()
        if index < at + len(notes):
            note, text = notes[index - at], str(part.get("text") or "")
            source, end = note.get("source"), note.get("index")
            end = end if isinstance(end, int) else len(text)
            earlier = [each["index"] for each in notes if isinstance(each.get("index"), int) and each["index"] < end]
            begin = max([0, end - _LOOKED_BACK, *earlier])
            return (source, text[begin:end]) if isinstance(source, dict) else None
        at += len(notes)
    return None


def _chunks(memories: Sequence[str]) -> list[str]:
    found: dict[str, None] = {}
    for data in memories:
        item = parse_item(data)
        if isinstance(item, HiddenContextItem) and (remembered := remembered_chunks(item)):
            found.update(dict.fromkeys(remembered[1]))
    return list(found)[:MAX_CHUNKS]


def _match(passages: Sequence[Passage], source: dict[str, Any]) -> Passage | None:
    """The passage whose citation this is. Its beginning must be the same: a neighbour's text proves nothing."""
    for passage in passages:
        numbered = Passages()
        numbered.add([passage])
        made = numbered.source(1)
        if made is not None and (made.title, made.group, made.description) == (
            source.get("title"),
            source.get("group"),
            source.get("description"),
        ):
            return passage
    # A document may have been renamed, or moved to another address; its text is what was cited.
    for passage in passages:
        numbered = Passages()
        numbered.add([passage])
        made = numbered.source(1)
        if made is not None and made.description and made.description == source.get("description"):
            return passage
    return None


def _url(source: dict[str, Any]) -> str | None:
    url = source.get("url")
    return url if isinstance(url, str) and url.startswith(("https://", "http://")) else None


def taken_from(passage: str, said: str) -> tuple[tuple[int, int], ...]:
    """Where in the passage the sentences stand that the answer says word for word; none for what it says in its own."""
    folded, places = _folded(passage)
    spans: list[tuple[int, int]] = []
    for sentence in _SENTENCE_END.split(said):
        wanted = _folded(_MARKS.sub("", sentence))[0].strip()
        at = folded.find(wanted) if len(wanted.encode()) >= _WORDS else -1
        if at >= 0:
            spans.append((places[at], places[at + len(wanted) - 1] + 1))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _folded(text: str) -> tuple[str, list[int]]:
    """The text without marks of Markdown, in small letters, its spaces single; and where each character came from."""
    characters: list[str] = []
    places: list[int] = []
    for at, character in enumerate(text):
        small = character.lower()
        if character in "*_`|#":
            continue
        if character.isspace():
            if characters and characters[-1] == " ":
                continue
            small = " "
        characters.append(small[0])
        places.append(at)
    return "".join(characters), places
