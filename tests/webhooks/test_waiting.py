"""Deliveries that wait: while their tenant is suspended, and no more at one endpoint than may."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.errors import Conflict
from stonechat.webhooks.deliveries import replay_delivery, replay_failed, send_test_event
from stonechat.webhooks.fan_out import MAX_WAITING
from support.loopback import plain, serve
from support.webhooks import OK, Hooks, at


async def test_a_suspended_tenants_deliveries_wait(hooks: Hooks) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await set_status(hooks, "suspended")
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        assert receiver.requests == []
        (delivery,) = await hooks.deliveries(endpoint.id)
        assert (delivery.status, delivery.attempts) == ("queued", 0)
        await set_status(hooks, "active")
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == 1


async def test_more_than_can_wait_is_noted_and_not_sent(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_WAITING == 10_000
    monkeypatch.setattr("stonechat.webhooks.fan_out.MAX_WAITING", 1)
    async with serve(plain(status=500)) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        await hooks.happen()
    waiting, refused = await hooks.deliveries(endpoint.id)
    assert (waiting.status, refused.status) == ("queued", "failed")
    assert "were waiting" in refused.last_error


async def test_what_waits_at_a_slow_but_healthy_endpoint_is_bounded_too(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("fan_out", "deliveries"):
        monkeypatch.setattr(f"stonechat.webhooks.{module}.MAX_WAITING", 2)
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        told = [await hooks.happen() for _ in range(4)]
        states = [(each.status, each.last_error) for each in await hooks.deliveries(endpoint.id)]
        reason = "10,000 deliveries were waiting at this endpoint already."
        assert states == [("queued", "")] * 2 + [("failed", reason)] * 2, "what waits already keeps its place"
        refused = (await hooks.deliveries(endpoint.id))[2].delivery_id
        again = {"endpoint_id": endpoint.id}
        for more in (
            lambda session: replay_delivery(session, hooks.actor, **again, delivery_id=refused),
            lambda session: replay_failed(session, hooks.actor, **again, since=clock.now() - timedelta(days=1)),
            lambda session: send_test_event(session, hooks.actor, **again),
        ):
            with pytest.raises(Conflict, match="deliveries wait"):
                async with hooks.database.tenant(hooks.tenant_id) as session:
                    await more(session)
        await hooks.deliver(endpoint.id)
        assert [request.headers["webhook-id"] for request in receiver.requests] == told[:2]
        told.append(await hooks.happen())
        async with hooks.database.tenant(hooks.tenant_id) as session:
            done = await replay_failed(session, hooks.actor, **again, since=clock.now() - timedelta(days=1))
        assert (done.replayed, done.more) == (1, True), "as many as there is room for"
        await hooks.deliver(endpoint.id)
        assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted({*told[:3], told[4]})


async def set_status(hooks: Hooks, status: str) -> None:
    async with hooks.database.tenant(hooks.tenant_id) as session:
        await session.execute(
            text("update tenants set status = :status where tenant_id = :tenant"),
            {"status": status, "tenant": hooks.tenant_id},
        )
