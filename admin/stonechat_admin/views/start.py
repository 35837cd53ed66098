"""`/console`: what is done already, what comes next, and what happened lately."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

from stonechat.assistant.agents import AgentView, list_agents
from stonechat.assistant.config_parts import Theme
from stonechat.chat.conversations import list_conversations
from stonechat.identity.domain_keys import DomainKeyView, last_seen_domain_keys
from stonechat.identity.origins import is_local_host
from stonechat.knowledge.browse import count_documents
from stonechat.knowledge.models import Document
from stonechat.knowledge.service import list_documents
from stonechat.usage.report import DayAnswers, answers_by_day
from stonechat_admin.auth import Viewer

router = APIRouter()

SHOWN = 5
"""Conversations, and documents that failed."""
DEFAULT_LOOK = Theme()


@dataclass(frozen=True, slots=True)
class Step:
    """One thing on the way to a live site. Nothing about it is stored: what is there decides whether it is done."""

    title: str
    why: str
    href: str
    action: str
    done: bool


@dataclass(frozen=True, slots=True)
class Bar:
    """A day of the chart, in units of its drawing."""

    day: DayAnswers
    x: float
    y: float
    height: float


@router.get("/")
async def show_door() -> Response:
    """Who types the address of the platform alone wants to come in."""
    return RedirectResponse("/console", 303)


@router.get("/console")
async def show_start(console: Viewer) -> Response:
    session, actor = console.session, console.actor
    documents = await count_documents(session, actor)
    failed: list[Document] = []
    if documents.get("failed"):
        failed, _ = await list_documents(session, actor, status="failed", limit=SHOWN)
    agents = (await list_agents(session, actor)).data
    conversations = (await list_conversations(session, actor, limit=SHOWN)).data
    seen = await last_seen_domain_keys(session, actor)
    days = await answers_by_day(session, actor)
    steps = _steps(agents, has_source=bool(documents.get("ready")), was_asked=bool(conversations), seen=seen)
    return console.page(
        "start/page.html",
        steps=steps,
        done=sum(step.done for step in steps),
        following=next((step for step in steps if not step.done), None),
        conversations=conversations,
        agent_names={agent.id: agent.name for agent in agents},
        failed=failed,
        failed_in_all=documents.get("failed", 0),
        bars=_bars(days),
        answers=sum(day.answers for day in days),
    )


def _steps(
    agents: Sequence[AgentView], *, has_source: bool, was_asked: bool, seen: Sequence[DomainKeyView]
) -> list[Step]:
    published = next((agent for agent in agents if agent.published_version), None)
    agent = published or next(iter(agents), None)
    own = f"/console/agents/{agent.id}" if agent else "/console/agents"
    looked_at = any(
        known.draft.theme != DEFAULT_LOOK or (known.published_version is not None and known.published_version > 1)
        for known in agents
    )
    is_live = published is not None and any(_is_live(key) for key in seen)
    return [
        Step(
            "Say what it knows",
            "Name your web site, or add files. It answers from those, and from nothing else.",
            "/console/knowledge",
            "Add your pages",
            has_source,
        ),
        Step(
            "Test an answer",
            "Ask what your customers ask, and see where each answer comes from, before anybody else does.",
            own,
            "Ask something" if agent else "Make an agent",
            was_asked,
        ),
        Step(
            "Choose the look",
            "In your colours it belongs to your site, and people trust it.",
            f"{own}/look" if agent else own,
            "Choose the look",
            looked_at,
        ),
        Step(
            "Install it",
            "One line on your pages is enough; we tell you as soon as we see it there.",
            "/console/install",
            "Get the line",
            bool(seen),
        ),
        Step(
            "Go live",
            "Publish the agent, and let us see it on your real site: from then on it works for everybody.",
            "/console/install" if published or not agent else f"{own}/publish",
            "See where it appears" if published or not agent else "Publish",
            is_live,
        ),
    ]


def _is_live(key: DomainKeyView) -> bool:
    """Whether a page of the real site showed the chat, rather than somebody's own computer."""
    if key.environment != "production" or key.last_seen_origin is None:
        return False
    host = key.last_seen_origin.partition("://")[2].partition(":")[0]
    return not is_local_host(host)


BAR, GAP, TALL = 28, 12, 96


def _bars(days: Sequence[DayAnswers]) -> list[Bar]:
    most = max((day.answers for day in days), default=0) or 1
    bars = []
    for place, day in enumerate(days):
        height = max(2.0, round(TALL * day.answers / most, 1))
        bars.append(Bar(day, place * (BAR + GAP), TALL - height, height))
    return bars
