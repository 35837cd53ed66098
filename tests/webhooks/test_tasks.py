"""What the clock does for webhooks: what lost its alarm is woken, what is old goes, and a worker sends by itself."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from stonechat.webhooks.delivering import LEASE
from stonechat.webhooks.fan_out import DELIVER, KEPT_FOR
from stonechat.webhooks.tasks import OF_ONE_TENANT, PAUSED, job_handlers, purge, wake_overdue
from support.jobs import jobs_of, running, until
from support.loopback import plain, serve
from support.postgres import TestDatabase
from support.webhooks import Hooks, at


async def test_a_worker_sends_what_happens(hooks: Hooks, test_database: TestDatabase) -> None:
    async with serve(plain()) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        handlers = job_handlers(hooks.deliverer)
        async with running(test_database.admin_url, handlers, most_of_one=OF_ONE_TENANT, paused=PAUSED):
            event_id = await hooks.happen()
            await until(lambda: receiver.requests)
        assert receiver.requests[0].headers["webhook-id"] == event_id
    assert endpoint.enabled


async def test_what_lost_its_alarm_is_woken_unless_its_tenant_is_suspended(
    hooks: Hooks, test_database: TestDatabase
) -> None:
    endpoint = await hooks.endpoint("http://one.test/hook")
    await hooks.happen()
    await hooks.pass_time(endpoint.id, LEASE + timedelta(minutes=2))

    async def alarms() -> int:
        found = await jobs_of(test_database.admin_url, DELIVER)
        return len([job for job in found if endpoint.id in bytes(job["payload"]).decode()])

    async def forget() -> None:
        async with hooks.database.tenant(hooks.tenant_id) as session:
            await session.execute(
                text("delete from jobs.pgqueuer where headers->>'tenant' = :t"), {"t": str(hooks.tenant_id)}
            )

    await forget()
    await wake_overdue(hooks.database)
    assert await alarms() == 1
    await forget()
    async with hooks.database.tenant(hooks.tenant_id) as session:
        await session.execute(
            text("update tenants set status = 'suspended' where tenant_id = :t"), {"t": hooks.tenant_id}
        )
    await wake_overdue(hooks.database)
    assert await alarms() == 0


async def test_what_is_old_goes_and_what_waits_stays(hooks: Hooks) -> None:
    endpoint = await hooks.endpoint("http://one.test/hook")
    for _ in range(3):
        await hooks.happen()
    old, waiting, new = await hooks.deliveries(endpoint.id)
    ago = KEPT_FOR + timedelta(days=1)
    async with hooks.database.tenant(hooks.tenant_id) as session:
        for delivery, status in ((old, "failed"), (waiting, "queued")):
            await session.execute(
                text("""update webhook_deliveries set created_at = now() - cast(:ago as interval), status = :status,
                        next_attempt_at = case when :status = 'queued' then now() end
                        where tenant_id = :tenant and delivery_id = :delivery"""),
                {"ago": ago, "status": status, "tenant": hooks.tenant_id, "delivery": delivery.delivery_id},
            )
    assert await purge(hooks.database) >= 1
    left = {delivery.delivery_id for delivery in await hooks.deliveries(endpoint.id)}
    assert left == {waiting.delivery_id, new.delivery_id}
