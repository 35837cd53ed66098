"""`/healthz` and `/readyz`, for load balancers and supervisors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from sqlalchemy import text

from stonechat.api.dependencies import AppServices, Services
from stonechat.jobs.queue import pending_count

CHECK_SECONDS = 3.0

_log = logging.getLogger(__name__)
router = APIRouter(tags=["Health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    status: Literal["ready", "not_ready"]
    checks: dict[str, Literal["ok", "failed"]]


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", summary="Whether the process runs; touches nothing")
async def healthz() -> Health:
    return Health()


@router.get(
    "/readyz", summary="Whether Postgres, the index and the queue answer", responses={503: {"model": Readiness}}
)
async def readyz(services: AppServices, response: Response) -> Readiness:
    checks: dict[str, Callable[[Services], Awaitable[None]]] = {
        "postgres": _postgres,
        "index": _index,
        "queue": _queue,
    }
    outcomes = await asyncio.gather(*(_answers(name, check(services)) for name, check in checks.items()))
    ready = all(outcomes)
    response.status_code = 200 if ready else 503
    response.headers["Cache-Control"] = "no-store"
    return Readiness(
        status="ready" if ready else "not_ready",
        checks={name: "ok" if ok else "failed" for name, ok in zip(checks, outcomes, strict=True)},
    )


async def _answers(name: str, check: Awaitable[None]) -> bool:
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check
    except Exception:
        # Whatever it was, the answer is that we are not ready; which check it was is no secret, why is for the log.
        _log.warning("Not ready: the check of %s failed.", name, exc_info=True)
        return False
    return True


async def _postgres(services: Services) -> None:
    async with services.database.directory() as session:
        await session.execute(text("select 1"))


async def _index(services: Services) -> None:
    await services.knowledge.index.ready()


async def _queue(services: Services) -> None:
    async with services.database.directory() as session:
        await pending_count(session)
