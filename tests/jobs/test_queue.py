"""A job exists if and only if the change that needs it was committed."""

from __future__ import annotations

import asyncio
import os
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import ids
from stonechat.db.session import Database
from stonechat.jobs import enqueue, pending_count
from stonechat.jobs.queue import MAX_PAYLOAD_BYTES, QueueSettings
from support.jobs import jobs_of, running, until
from support.postgres import TestDatabase, migrated_database


@pytest.fixture
def kind() -> str:
    return f"test-{uuid4().hex[:8]}"


async def test_a_job_waits_once_its_transaction_is_committed(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    async with database.tenant(tenant_id) as session:
        await enqueue(session, tenant_id, kind, {"n": 1})
        assert await jobs_of(test_database.admin_url, kind) == []
    (job,) = await jobs_of(test_database.admin_url, kind)
    assert (job["status"], job["payload"]) == ("queued", b'{"n":1}')


async def test_no_job_remains_of_a_transaction_that_failed(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    with pytest.raises(ZeroDivisionError):
        await _enqueue_and_fail(database.tenant(tenant_id), tenant_id, kind)
    assert await jobs_of(test_database.admin_url, kind) == []


async def _enqueue_and_fail(opening: AbstractAsyncContextManager[AsyncSession], tenant_id: UUID, kind: str) -> None:
    async with opening as session:
        await enqueue(session, tenant_id, kind, {})
        raise ZeroDivisionError


async def test_the_same_holds_where_the_job_is_the_first_thing_a_session_does(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    """A session without a tenant sends nothing before its first statement, not even BEGIN."""
    with pytest.raises(ZeroDivisionError):
        await _enqueue_and_fail(database.directory(), tenant_id, kind)
    assert await jobs_of(test_database.admin_url, kind) == []


async def test_jobs_that_wait_under_one_key_are_one(
    database: Database, test_database: TestDatabase, make_tenant, kind: str
) -> None:
    first, second = await make_tenant(), await make_tenant()
    for tenant_id in (first, first, second):
        async with database.tenant(tenant_id) as session:
            await enqueue(session, tenant_id, kind, {}, dedupe_key="same")
    jobs = await jobs_of(test_database.admin_url, kind)
    assert [job["dedupe_key"].split(":")[0] for job in jobs] == [str(first), str(second)]


async def test_a_change_made_while_its_job_runs_gets_a_job_of_its_own(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    started, go_on, seen = asyncio.Event(), asyncio.Event(), []

    async def handle(_tenant_id: UUID, payload: dict[str, object]) -> None:
        seen.append(payload["n"])
        started.set()
        await go_on.wait()

    async with running(test_database.web_url, {kind: handle}):
        async with database.tenant(tenant_id) as session:
            await enqueue(session, tenant_id, kind, {"n": 1}, dedupe_key="same")
        await started.wait()
        async with database.tenant(tenant_id) as session:
            await enqueue(session, tenant_id, kind, {"n": 2}, dedupe_key="same")
        go_on.set()
        await until(lambda: seen == [1, 2])


async def test_a_job_that_stands_for_an_open_transaction_waits_for_its_end(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    waited, other_ran = asyncio.Event(), asyncio.Event()

    async def handle(_tenant_id: UUID, _payload: dict[str, object]) -> None:
        waited.set()

    async def handle_other(_tenant_id: UUID, _payload: dict[str, object]) -> None:
        other_ran.set()

    async with database.tenant(tenant_id) as session:
        await enqueue(session, tenant_id, kind, {}, dedupe_key="same")
    async with AsyncExitStack() as stack:
        async with database.tenant(tenant_id) as session:
            await enqueue(session, tenant_id, kind, {}, dedupe_key="same")
            handlers = {kind: handle, f"{kind}-other": handle_other}
            await stack.enter_async_context(running(test_database.web_url, handlers))
            async with database.tenant(tenant_id) as other:
                await enqueue(other, tenant_id, f"{kind}-other", {})
            await other_ran.wait()
            assert not waited.is_set()
        await waited.wait()


async def test_large_payloads_are_refused(database: Database, tenant_id: UUID, kind: str) -> None:
    with pytest.raises(ValueError, match="payload"):
        async with database.tenant(tenant_id) as session:
            await enqueue(session, tenant_id, kind, {"text": "x" * MAX_PAYLOAD_BYTES})


async def test_what_waits_is_counted(postgres_admin_url: str, kind: str) -> None:
    tenant_id = ids.new_tenant_id()
    async with migrated_database(postgres_admin_url, f"stonechat_queue_{os.getpid()}") as made:
        database = Database(made.web_url, pool_size=2)
        async with database.tenant(tenant_id) as session:
            assert await pending_count(session) == 0
            await enqueue(session, tenant_id, kind, {})
            assert await pending_count(session) == 1
            for _ in range(1000):
                await enqueue(session, tenant_id, kind, {})
            assert await pending_count(session) == 1000
        await database.close()


def test_the_queue_does_not_listen_to_bare_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHANNEL", "PGQUEUER_CHANNEL", "QUEUE_TABLE", "PGQUEUER_PREFIX", "PGQUEUER_SCHEMA"):
        monkeypatch.setenv(name, "surprise")
    settings = QueueSettings(db_schema="jobs")
    assert (settings.channel, settings.qualified.queue_table) == ("ch_pgqueuer", "jobs.pgqueuer")
