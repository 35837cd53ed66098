"""`/console/knowledge/unanswered`: what assistants could not answer, and the one thing to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat import clock
from stonechat.assistant.names import AgentName, list_agent_names
from stonechat.chat.asking import ask_agent
from stonechat.errors import AgentNotPublished, InvalidInput, StonechatError
from stonechat.knowledge import unanswered
from stonechat.knowledge.answering import answer_group, document_of_answers
from stonechat.knowledge.cited import living_passages
from stonechat.knowledge.grouping import MAX_QUESTION
from stonechat.knowledge.schemas import Pair
from stonechat.knowledge.unanswered import GroupView, QuestionView, State
from stonechat.web import Cursor
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled, refused
from stonechat_admin.markdown import MAX_PAGE_MARKDOWN, render_markdown

router = APIRouter(prefix="/console/knowledge/unanswered")

PAGE = 25
MAX_VARIANTS = 10
DAYS = (("7", "In the last 7 days"), ("30", "In the last 30 days"), ("90", "In the last 90 days"))
STATES: tuple[tuple[State, str], ...] = (("open", "Open"), ("answered", "Answered"), ("dismissed", "Dismissed"))
REASONS = {
    "no_passages": "Nothing was found",
    "abstained": "What was found did not answer",
    "said_unknown": "The answer seems to say that it does not know",
    "thumbs_down": "The visitor disliked the answer",
    "handed_over": "A person was asked for",
}
Typed = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class Nearest:
    """A passage that was found for a question then, and what became of it."""

    title: str
    document_id: str | None


@router.get("")
async def show_unanswered(
    console: Viewer,
    state: Annotated[str, Query(max_length=20)] = "open",
    agent: Annotated[str, Query(max_length=128)] = "",
    days: Annotated[str, Query(max_length=3)] = "",
    cursor: Cursor = None,
) -> Response:
    chosen: State = next((known for known, _ in STATES if known == state), "open")
    known_days = days if days in dict(DAYS) else ""
    agents = await list_agent_names(console.session, console.actor)
    groups, following = await unanswered.list_groups(
        console.session,
        console.actor,
        state=chosen,
        agent_id=agent or None,
        since=clock.now() - timedelta(days=int(known_days)) if known_days else None,
        limit=PAGE,
        cursor=cursor,
    )
    narrowed = {"state": chosen, "agent": agent, "days": known_days, "cursor": following}
    query = urlencode({key: value for key, value in narrowed.items() if value})
    values: dict[str, Any] = {
        "rows": [(group, _name(group.agent_id, agents)) for group in groups],
        "following": f"/console/knowledge/unanswered?{query}" if following else None,
        "agents": agents,
        "state": chosen,
        "states": STATES,
        "agent": agent,
        "days": known_days,
        "spans": DAYS,
        "reasons": REASONS,
    }
    if console.is_partial:
        return console.fragment("unanswered/_rows.html" if cursor else "unanswered/_list.html", **values)
    return console.page("unanswered/page.html", **values)


@router.get("/{group_id}")
async def show_group(group_id: str, console: Viewer) -> Response:
    group = await unanswered.get_group(console.session, console.actor, group_id=group_id)
    return console.page("unanswered/group.html", **await _values(console, group))


@router.post("/{group_id}/answer")
async def write_answer(
    group_id: str, console: Editor, question: Typed = "", answer: Typed = "", variants: Typed = ""
) -> Response:
    group = await unanswered.get_group(console.session, console.actor, group_id=group_id)
    typed = {"question": question, "answer": answer, "variants": variants}
    others = [" ".join(line.split()) for line in variants.splitlines() if line.strip()]
    try:
        if len(others) > MAX_VARIANTS or any(len(line) > MAX_QUESTION for line in others):
            raise InvalidInput(
                f"At most {MAX_VARIANTS} other ways to ask, one on each line.",
                errors=[{"field": "variants", "message": "too many, or too long"}],
            )
        pair = Pair(question=" ".join(question.split()), answer=answer, variants=others)
        async with console.session.begin_nested():
            await answer_group(
                console.session,
                console.actor,
                files=console.services.knowledge.files,
                group_id=group_id,
                pair=pair,
            )
    except ValidationError as error:
        complaints = {str(item["loc"][0]): "Fill this in, and keep it short enough." for item in error.errors()}
        form = Filled(typed, {name: complaints[name] for name in typed if name in complaints})
        return console.fragment("unanswered/_answer_form.html", status=422, group=group, form=form)
    except InvalidInput as error:
        form = refused(error, typed, about="answer")
        return console.fragment("unanswered/_answer_form.html", status=422, group=group, form=form)
    return console.go(
        f"/console/knowledge/unanswered/{group_id}",
        toast="The answer was added. It is being read, then you can try it.",
    )


@router.post("/{group_id}/ask")
async def ask_again(group_id: str, console: Editor) -> Response:
    """The agent's answer now: of the published version, or of the draft where none is published."""
    group = await unanswered.get_group(console.session, console.actor, group_id=group_id)
    # No connection is held while a model writes; there was nothing to keep.
    await console.session.rollback()
    chat, tenant_id = console.services.chat, console.tenant_id
    question = group.question or "?"
    try:
        try:
            answer = await ask_agent(chat, tenant_id, agent_id=group.agent_id, question=question, version="published")
        except AgentNotPublished:
            answer = await ask_agent(chat, tenant_id, agent_id=group.agent_id, question=question, version="draft")
    except StonechatError as error:
        return console.fragment("unanswered/_asked.html", answer=None, markup="", failure=str(error), reasons=REASONS)
    return console.fragment(
        "unanswered/_asked.html",
        answer=answer,
        markup=render_markdown(answer.text, limit=MAX_PAGE_MARKDOWN),
        failure="",
        reasons=REASONS,
    )


@router.post("/{group_id}/dismiss")
async def dismiss(group_id: str, console: Editor) -> Response:
    await unanswered.settle_group(console.session, console.actor, group_id=group_id, state="dismissed")
    return console.go("/console/knowledge/unanswered", toast="Dismissed. It stays listed under “Dismissed”.")


@router.post("/{group_id}/reopen")
async def reopen(group_id: str, console: Editor) -> Response:
    await unanswered.settle_group(console.session, console.actor, group_id=group_id, state="open")
    return console.go(f"/console/knowledge/unanswered/{group_id}", toast="Open again.")


async def _values(console: Console, group: GroupView) -> dict[str, Any]:
    questions = await unanswered.list_questions(console.session, console.actor, group_id=group.id)
    agents = await list_agent_names(console.session, console.actor)
    document = None
    if group.source_id is not None:
        document = await document_of_answers(console.session, console.actor, source_id=group.source_id)
    distinct = dict.fromkeys(each.question for each in questions)
    distinct.pop(group.question, None)
    others = "\n".join(list(distinct)[:MAX_VARIANTS])
    return {
        "group": group,
        "assistant": _name(group.agent_id, agents),
        "questions": questions,
        "nearest": await _nearest(console, questions),
        "document": document,
        "form": Filled({"question": group.question, "answer": "", "variants": others}),
        "reasons": REASONS,
    }


async def _nearest(console: Console, questions: list[QuestionView]) -> list[Nearest]:
    """What was found for the newest question for which something was."""
    found = next((each.found for each in questions if each.found), [])
    ids = [str(passage.get("chunk_id")) for passage in found]
    living = {each.chunk_id: each for each in await living_passages(console.session, console.tenant_id, ids)}
    shown: dict[Nearest, None] = {}
    for passage in found:
        now = living.get(str(passage.get("chunk_id")))
        if now is not None:
            shown[Nearest(" › ".join(dict.fromkeys([now.title, *now.headings])), now.document_id)] = None
        elif passage.get("title"):
            shown[Nearest(str(passage["title"]), None)] = None
    return list(shown)


def _name(agent_id: str, agents: list[AgentName]) -> str:
    return next((agent.name for agent in agents if agent.id == agent_id), "Deleted agent")
