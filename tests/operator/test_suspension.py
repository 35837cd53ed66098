"""How a process that serves visitors learns of a suspension: soon, cheaply, and without ever waiting for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from stonechat.accounts.suspension import KNOWN_FOR_SECONDS, SENTENCE, Suspensions
from stonechat.api.chatkit import _last_words
from stonechat.errors import TenantSuspended
from stonechat.operator import levers
from support.console import ConsoleWorld
from support.operators import make_operator


class Listing:
    """A database whose list of suspended tenants is this one."""

    def __init__(self, *suspended: UUID) -> None:
        self.suspended, self.reads, self.broken = list(suspended), 0, False

    @property
    def hot(self) -> Listing:
        return self

    async def fetch(self, _statement: str) -> list[dict[str, Any]]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.broken:
            raise ConnectionRefusedError("the database is away")
        return [{"tenant_id": tenant_id} for tenant_id in self.suspended]


def test_it_is_known_within_a_second() -> None:
    assert KNOWN_FOR_SECONDS <= 0.5


async def test_many_who_ask_at_once_cost_one_query() -> None:
    tenant_id, listing = uuid4(), Listing()
    suspensions = Suspensions(listing)  # type: ignore[arg-type]
    await asyncio.gather(*(suspensions.require_active(tenant_id) for _ in range(50)))
    assert listing.reads == 1
    await suspensions.require_active(tenant_id)
    assert listing.reads == 1
    listing.suspended.append(tenant_id)
    suspensions._read_at = float("-inf")  # half a second later
    with pytest.raises(TenantSuspended, match="paused"):
        await suspensions.require_active(tenant_id)
    assert not await suspensions.is_suspended(uuid4())


async def test_while_the_list_cannot_be_read_it_is_what_it_was() -> None:
    tenant_id = uuid4()
    listing = Listing(tenant_id)
    suspensions = Suspensions(listing)  # type: ignore[arg-type]
    assert await suspensions.is_suspended(tenant_id)
    listing.broken, suspensions._read_at = True, float("-inf")
    assert await suspensions.is_suspended(tenant_id)
    assert not await suspensions.is_suspended(uuid4())
    assert listing.reads == 2, "and is not asked for again at once"


@pytest.mark.parametrize(("reason", "told"), [("cancelled", True), (None, False), ("timeout", False)])
async def test_an_answer_that_a_suspension_stopped_says_so(reason: str | None, told: bool) -> None:
    tenant_id = uuid4()
    suspensions = Suspensions(Listing(tenant_id))  # type: ignore[arg-type]
    run = SimpleNamespace(stop_reason=reason, key=SimpleNamespace(tenant_id=tenant_id))
    words = await _last_words(run, suspensions)  # type: ignore[arg-type]
    assert (SENTENCE.encode() in words) == told
    assert (b'"allow_retry":false' in words) == told


async def test_answers_in_the_making_are_stopped(world: ConsoleWorld) -> None:
    services, tenant_id, operator = world.services, await world.another_tenant("Streaming"), await make_operator(world)
    ours = {"tenant": tenant_id}
    async with services.database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "insert into threads (tenant_id, thread_id, user_id, created_at) values (:tenant, 'thr_1', 'u', now())"
            ),
            ours,
        )
        await session.execute(
            text("""insert into runs (tenant_id, run_id, thread_id, user_id, process_id, resumable, lease_expires_at)
                    values (:tenant, 'run_1', 'thr_1', 'u', 'p', true, now() + interval '1 minute')"""),
            ours,
        )
    async with services.database.platform() as platform:
        await levers.suspend_tenant(platform, operator, tenant_id, database=services.database, reason="x")
    async with services.database.tenant(tenant_id) as session:
        asked = text("select cancel_requested from runs where tenant_id = :tenant and run_id = 'run_1'")
        assert await session.scalar(asked, ours) is True
