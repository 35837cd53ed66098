"""`stonechat eval golden FILE`: asks a running Stonechat over its API, or this process where none runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import httpx
from pydantic import BaseModel

from stonechat.accounts.actor import system
from stonechat.app import open_services
from stonechat.assistant.agents import get_agent
from stonechat.assistant.golden import Answers, Ask, GoldenCase, GoldenReport, load_cases, run_golden
from stonechat.chat.asking import Which, ask_agent
from stonechat.errors import InvalidInput, StonechatError, Unavailable
from stonechat.settings import Settings

SECONDS = 180.0


class ToldSource(BaseModel):
    """A source as the API tells it."""

    title: str
    url: str | None


class ToldAnswer(BaseModel):
    """An answer as the API tells it."""

    text: str
    sources: list[ToldSource]
    answered: bool
    error: str | None


async def golden_over_api(
    path: Path,
    *,
    url: str,
    api_key: str,
    agent: str | None,
    version: Which,
    parallel: int,
    transport: httpx.AsyncBaseTransport | None = None,
) -> GoldenReport:
    """Ask a Stonechat that runs at `url`, with an API key that may write."""
    cases = load_cases(path)
    async with httpx.AsyncClient(
        base_url=f"{url.rstrip('/')}/api/v1",
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=SECONDS,
        transport=transport,
    ) as http:

        async def ask(case: GoldenCase) -> Answers:
            chosen = _agent_of(case, agent)
            try:
                answer = await http.post(f"/agents/{chosen}/ask", json={"question": case.question, "version": version})
            except httpx.HTTPError:
                raise Unavailable(f"Stonechat does not answer at {url}.") from None
            if answer.status_code != 200:
                raise _refusal(answer)
            return ToldAnswer.model_validate_json(answer.content)

        return await run_golden(cases, ask, parallel=parallel)


async def golden_here(
    path: Path, settings: Settings, *, tenant_id: UUID, agent: str | None, version: Which, parallel: int
) -> GoldenReport:
    """Ask in this process, which must be the only one that has the embedded index open."""
    cases = load_cases(path)
    async with _asking(settings, tenant_id, agent=agent, version=version) as ask:
        return await run_golden(cases, ask, parallel=parallel)


@asynccontextmanager
async def _asking(settings: Settings, tenant_id: UUID, *, agent: str | None, version: Which) -> AsyncIterator[Ask]:
    async with open_services(settings) as services:

        async def ask(case: GoldenCase) -> Answers:
            chosen = _agent_of(case, agent)
            async with services.database.tenant(tenant_id) as session:
                await get_agent(session, system(tenant_id), agent_id=chosen)
            return await ask_agent(services.chat, tenant_id, agent_id=chosen, question=case.question, version=version)

        yield ask


def _agent_of(case: GoldenCase, agent: str | None) -> str:
    chosen = case.agent or agent
    if chosen is None:
        raise InvalidInput("Say which agent to ask: --agent, or “agent” beside the question.")
    return chosen


def _refusal(answer: httpx.Response) -> StonechatError:
    try:
        problem = answer.json()
        detail = str(problem.get("detail") or problem.get("title"))
    except (ValueError, AttributeError):
        detail = f"HTTP status {answer.status_code}"
    return Unavailable(f"{detail} ({answer.status_code})")
