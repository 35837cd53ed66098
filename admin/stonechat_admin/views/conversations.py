"""`/console/conversations`: what visitors asked, what they were answered, and from which documents."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from stonechat.assistant.names import AgentName, list_agent_names
from stonechat.chat import conversations, hand_over, transcripts
from stonechat.chat.conversations import ConversationUser
from stonechat.chat.models import Handling
from stonechat.chat.transcripts import Cited, Message, Transcript
from stonechat.web import Cursor
from stonechat_admin.auth import Admin, Console, Viewer
from stonechat_admin.forms import Filled
from stonechat_admin.markdown import MAX_PAGE_MARKDOWN, render_markdown
from stonechat_admin.passages import above, without_signs

router = APIRouter(prefix="/console/conversations")

PAGE = 25
_KINDS = {
    "widget": "showed a card.",
    "client_tool_call": "asked the page to do something.",
    "structured_input": "showed a form.",
    "generated_image": "made a picture.",
    "task": "worked on a task.",
    "workflow": "worked through several steps.",
}
_STATES: tuple[tuple[Handling, str, str], ...] = (
    ("waiting_for_person", "Waiting for a person", "warning"),
    ("with_person", "With a person", "info"),
    ("resolved", "Resolved by a person", "success"),
)
"""The state, what it is called, and its badge."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asked, as far as it is known."""

    name: str
    about: str


@dataclass(frozen=True, slots=True)
class Assistant:
    """Who answered. Without an id, nobody knows any more."""

    id: str | None
    name: str
    archived: bool


@dataclass(frozen=True, slots=True)
class Said:
    """A message and the markup of its text."""

    message: Message
    markup: Markup
    author: str
    """The name of the person of the team who wrote it; empty for visitors and assistants."""
    sources: tuple[Cited, ...]
    event: str
    """What happened instead of words; empty for words."""


async def _list(
    console: Console, *, q: str, agent: str, handling: Handling | None, cursor: str | None
) -> dict[str, Any]:
    agents = await list_agent_names(console.session, console.actor)
    page = await conversations.list_conversations(
        console.session,
        console.actor,
        query=q or None,
        agent_id=agent or None,
        handling=handling,
        limit=PAGE,
        cursor=cursor,
    )
    judged = await transcripts.list_judgements(
        console.session, console.actor, thread_ids=[found.id for found in page.data]
    )
    following = None
    if page.next_cursor:
        narrowed = {"q": q, "agent": agent, "handling": handling, "cursor": page.next_cursor}
        following = f"/console/conversations?{urlencode({key: value for key, value in narrowed.items() if value})}"
    return {
        "rows": [
            (found, _visitor(found.user), _assistant(found.agent_id, agents), judged.get(found.id, (0, 0)))
            for found in page.data
        ],
        "following": following,
        "agents": agents,
        "q": q,
        "agent": agent,
        "handling": handling,
        "states": _STATES,
    }


@router.get("")
async def show_conversations(
    console: Viewer,
    q: Annotated[str, Query(max_length=200)] = "",
    agent: Annotated[str, Query(max_length=128)] = "",
    handling: Annotated[str, Query(max_length=40)] = "",
    cursor: Cursor = None,
) -> Response:
    state = next((known for known, _, _ in _STATES if known == handling), None)
    values = await _list(console, q=" ".join(q.split()), agent=agent, handling=state, cursor=cursor)
    if console.is_partial:
        return console.fragment("conversations/_rows.html" if cursor else "conversations/_list.html", **values)
    return console.page("conversations/page.html", **values)


@router.get("/{thread_id}")
async def show_transcript(thread_id: str, console: Viewer, cursor: Cursor = None) -> Response:
    transcript = await transcripts.read_transcript(console.session, console.actor, thread_id=thread_id, cursor=cursor)
    agents = await list_agent_names(console.session, console.actor)
    conversation = transcript.conversation
    # Up to a hundred messages' Markdown: not on the loop that serves everybody.
    authors = {message.written_by for message in transcript.messages if message.written_by}
    if conversation.handled_by:
        authors.add(conversation.handled_by)
    names = await hand_over.names_of(console.session, console.actor, authors)
    said = await asyncio.to_thread(_said, transcript, names)
    values: dict[str, Any] = {
        "conversation": conversation,
        "visitor": _visitor(conversation.user),
        "assistant": _assistant(conversation.agent_id, agents),
        "said": said,
        "earlier": transcript.earlier,
        "handled_by": names.get(conversation.handled_by or "", "Someone of your team"),
        "form": Filled(),
    }
    if console.is_partial:
        return console.fragment("conversations/_messages.html", **values)
    return console.page("conversations/transcript.html", **values)


@router.get("/{thread_id}/export")
async def download_conversation(thread_id: str, console: Viewer) -> Response:
    found = await conversations.get_conversation(console.session, console.actor, thread_id=thread_id)
    return Response(
        found.model_dump_json(indent=2),
        media_type="application/json",
        headers={
            "Content-Disposition": 'attachment; filename="conversation.json"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


@router.delete("/{thread_id}")
async def delete_conversation(thread_id: str, console: Admin) -> Response:
    await conversations.delete_conversation(console.session, console.actor, thread_id=thread_id)
    return console.go("/console/conversations", toast="The conversation was deleted.")


def _visitor(user: ConversationUser) -> Visitor:
    if user.erased:
        return Visitor("Deleted visitor", "Who this was is no longer stored.")
    if user.verified:
        name = user.name or user.email or user.external_id or "A signed-in customer"
        return Visitor(
            name, f"Signed in on your site{f' as {user.email}' if user.email and user.email != name else ''}."
        )
    return Visitor(f"Visitor {user.id[-4:]}", "Not signed in on your site.")


def _assistant(agent_id: str | None, agents: list[AgentName]) -> Assistant:
    for agent in agents:
        if agent.id == agent_id:
            return Assistant(agent.id, agent.name, agent.archived)
    return Assistant(None, "Deleted agent", archived=False)


def _source_link(message_id: str, number: int) -> str:
    return f"#{message_id}-{number}"


def _readable(source: Cited) -> Cited:
    """The source without the signs of headings, and without its title in front of its section."""
    headings = above((source.section or "").split(" › "), title=source.title)
    return replace(source, section=" › ".join(headings) or None, snippet=without_signs(source.snippet or "") or None)


def _said(transcript: Transcript, names: Mapping[str, str]) -> list[Said]:
    left = MAX_PAGE_MARKDOWN
    said = []
    for message in transcript.messages:
        markup = render_markdown(message.text, marks=message.marks, link=partial(_source_link, message.id), limit=left)
        left = max(0, left - len(message.text))
        event = "" if message.speaker != "other" else _KINDS.get(message.kind, "did something without words.")
        author = names.get(message.written_by, "A former colleague") if message.written_by else ""
        said.append(Said(message, markup, author, tuple(map(_readable, message.sources)), event))
    return said
