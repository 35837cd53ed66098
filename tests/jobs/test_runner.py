"""Jobs run at least once, are tried again, end some day, and outlive workers and databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from stonechat.db.session import Database
from stonechat.jobs import GiveUp, JobRunner, enqueue
from stonechat.jobs.attempts import RetryPolicy
from support.jobs import jobs_of, log_of, running, until
from support.postgres import TestDatabase


@pytest.fixture
def kind() -> str:
    return f"test-{uuid4().hex[:8]}"


async def add(database: Database, tenant_id: UUID, kind: str, **payload: object) -> None:
    async with database.tenant(tenant_id) as session:
        await enqueue(session, tenant_id, kind, payload)


async def test_a_handler_gets_the_tenant_and_the_payload(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    seen: list[tuple[UUID, dict[str, object]]] = []

    async def handle(tenant: UUID, payload: dict[str, object]) -> None:
        seen.append((tenant, payload))

    async with running(test_database.web_url, {kind: handle}):
        await add(database, tenant_id, kind, word="grüß")
        await until(lambda: seen == [(tenant_id, {"word": "grüß"})])
    assert await jobs_of(test_database.admin_url, kind) == []


async def test_a_job_that_fails_is_tried_again(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    calls: list[int] = []

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionResetError("not yet")

    async with running(test_database.web_url, {kind: handle}):
        await add(database, tenant_id, kind)
        await until(lambda: _gone(test_database, kind))
    assert len(calls) == 3


async def test_a_job_that_fails_too_often_is_held_with_its_reason(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    calls: list[int] = []
    told: list[tuple[UUID, dict[str, object], str]] = []

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        calls.append(1)
        raise LookupError("the moon is missing")

    async def give_up(tenant: UUID, payload: dict[str, object], reason: str) -> None:
        told.append((tenant, payload, reason))

    async with running(test_database.web_url, {kind: handle}, on_give_up={kind: give_up}):
        await add(database, tenant_id, kind, n=1)
        await until(lambda: _has_status(test_database, kind, "failed"))
    assert len(calls) == 3
    assert told == [(tenant_id, {"n": 1}, "LookupError: the moon is missing")]
    last = (await log_of(test_database.admin_url, kind))[-1]
    assert last["status"] == "failed"
    assert "the moon is missing" in last["traceback"]


async def test_a_handler_can_say_that_trying_again_is_pointless(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    calls: list[int] = []

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        calls.append(1)
        raise GiveUp("the document is encrypted")

    async with running(test_database.web_url, {kind: handle}):
        await add(database, tenant_id, kind)
        await until(lambda: _has_status(test_database, kind, "failed"))
    assert len(calls) == 1


def test_pauses_grow_and_are_bounded() -> None:
    policy = RetryPolicy(first_delay=timedelta(seconds=2), factor=3, longest_delay=timedelta(minutes=15))
    for failures, most in [(1, 2), (2, 6), (3, 18), (10, 900), (10_000, 900)]:
        assert timedelta(seconds=most * 0.79) < policy.delay(failures) <= timedelta(seconds=most)


async def test_a_handler_that_takes_too_long_is_ended(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        await asyncio.Event().wait()

    async with running(test_database.web_url, {kind: handle}, job_limit=timedelta(milliseconds=50)):
        await add(database, tenant_id, kind)
        await until(lambda: _has_status(test_database, kind, "failed"))
    assert "TimeoutError" in (await log_of(test_database.admin_url, kind))[-1]["traceback"]


async def test_a_handler_cancelled_from_within_is_a_failure_not_the_end_of_its_job(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    calls: list[int] = []

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        calls.append(1)
        raise asyncio.CancelledError

    async with running(test_database.web_url, {kind: handle}):
        await add(database, tenant_id, kind)
        await until(lambda: _has_status(test_database, kind, "failed"))
    assert len(calls) == 3


async def test_a_tenant_with_many_jobs_does_not_keep_another_waiting(
    database: Database, test_database: TestDatabase, make_tenant, kind: str
) -> None:
    busy, modest = await make_tenant(), await make_tenant()
    async with database.tenant(busy) as session:
        for _ in range(40):
            await enqueue(session, busy, kind, {})
    async with database.tenant(modest) as session:
        for _ in range(3):
            await enqueue(session, modest, kind, {})
    order: list[UUID] = []

    async def handle(tenant: UUID, _payload: dict[str, object]) -> None:
        order.append(tenant)

    async with running(test_database.web_url, {kind: handle}, concurrency=2):
        await until(lambda: len(order) == 43)
    assert Counter(order[:12])[modest] == 3


async def test_slow_jobs_of_one_tenant_leave_a_place_to_another(
    database: Database, test_database: TestDatabase, make_tenant, kind: str
) -> None:
    busy, modest = await make_tenant(), await make_tenant()
    started: list[UUID] = []
    may_end = asyncio.Event()

    async def handle(tenant: UUID, _payload: dict[str, object]) -> None:
        started.append(tenant)
        if tenant == busy:
            await may_end.wait()

    async with database.tenant(busy) as session:
        for _ in range(20):
            await enqueue(session, busy, kind, {})
    async with running(test_database.web_url, {kind: handle}, concurrency=4):
        await until(lambda: busy in started)
        await add(database, modest, kind)
        await until(lambda: modest in started)
        assert Counter(started)[busy] < 4  # all of them are still going on
        may_end.set()
        await until(lambda: _gone(test_database, kind))
    assert Counter(started) == {busy: 20, modest: 1}


async def test_stopping_puts_unfinished_jobs_back(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    for _ in range(4):  # more often than a job may fail
        started.clear()
        ended.clear()
        runner = JobRunner(test_database.web_url, {kind: handle}, policy=RetryPolicy(attempts=1))
        task = asyncio.create_task(runner.run())
        if not await jobs_of(test_database.admin_url, kind):
            await add(database, tenant_id, kind)
        await started.wait()
        await runner.stop(timedelta(milliseconds=50))
        await task
        assert ended.is_set()
        (job,) = await jobs_of(test_database.admin_url, kind)
        assert (job["status"], job["attempts"]) == ("queued", 0)


async def test_stopping_waits_for_what_is_nearly_done(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handle(_tenant: UUID, _payload: dict[str, object]) -> None:
        started.set()
        await go_on.wait()

    async with running(test_database.web_url, {kind: handle}) as runner:
        await add(database, tenant_id, kind)
        await started.wait()
        stopping = asyncio.create_task(runner.stop(timedelta(seconds=30)))
        await asyncio.sleep(0)
        go_on.set()
        await stopping
    assert await jobs_of(test_database.admin_url, kind) == []


async def test_a_runner_outlives_the_loss_of_its_connections(
    database: Database, test_database: TestDatabase, tenant_id: UUID, kind: str
) -> None:
    done: list[object] = []
    first_started, hold = asyncio.Event(), asyncio.Event()

    async def handle(_tenant: UUID, payload: dict[str, object]) -> None:
        if payload["n"] == 1 and not first_started.is_set():
            first_started.set()
            await hold.wait()  # for ever: only the loss of the connection ends it
        done.append(payload["n"])

    async with running(test_database.web_url, {kind: handle}):
        await add(database, tenant_id, kind, n=1)
        await first_started.wait()
        assert await _terminate_runners(test_database) >= 2
        await add(database, tenant_id, kind, n=2)
        await until(lambda: sorted(done) == [1, 2])
    assert await jobs_of(test_database.admin_url, kind) == []


async def test_a_runner_waits_for_a_database_that_is_not_there(kind: str) -> None:
    runner = JobRunner("postgresql://nobody:x@127.0.0.1:1/none", {})
    task = asyncio.create_task(runner.run())
    await asyncio.sleep(0.3)
    assert not task.done()
    await runner.stop()
    await task


async def test_schedules_run_and_one_that_fails_runs_again(test_database: TestDatabase) -> None:
    calls: list[int] = []

    async def tick() -> None:
        calls.append(1)
        raise LookupError("once in a while")

    async with running(test_database.web_url, {}, schedules={"* * * * * *": tick}):
        await until(lambda: len(calls) >= 2)


async def _gone(test_database: TestDatabase, kind: str) -> bool:
    return not await jobs_of(test_database.admin_url, kind)


async def _has_status(test_database: TestDatabase, kind: str, status: str) -> bool:
    return [job["status"] for job in await jobs_of(test_database.admin_url, kind)] == [status]


async def _terminate_runners(test_database: TestDatabase) -> int:
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        return await connection.fetchval(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where application_name = 'stonechat-jobs' and datname = current_database()"
        )
    finally:
        await connection.close()
