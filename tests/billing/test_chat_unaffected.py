"""Stripe away, slow or broken: visitors notice nothing, because no chat ever asks it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.billing.customers import register_customer
from stonechat.billing.tasks import look_at_customers, tell_use
from stonechat.errors import StonechatError, Unavailable, UpstreamFailed
from stonechat.plans.subscription import set_subscription
from stonechat.usage.allowance import refresh_allowance
from support.billing import SECRET, connect, customer, waiting_jobs
from support.platform import Platform, of_type, open_platform
from support.postgres import TestDatabase

CHANGES: dict[str, Any] = {
    "stripe_secret_key": SecretStr("sk_test_123"),
    "stripe_webhook_secret": SecretStr(SECRET),
    "stripe_api_base": "http://stripe.test",
}


class Broken(httpx.AsyncBaseTransport):
    """Stripe on a bad day; counts who asks."""

    def __init__(self, mode: str) -> None:
        self.mode, self.asked = mode, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        match self.mode:
            case "unreachable":
                raise httpx.ConnectError("no route to host", request=request)
            case "slow":
                raise httpx.ReadTimeout("no answer", request=request)
            case _:
                headers = {"stripe-should-retry": "false"}
                return httpx.Response(int(self.mode), json={"error": {"message": "no"}}, headers=headers)


async def customer_of(platform: Platform) -> None:
    """Make the platform's tenant a paying one."""
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await register_customer(session, platform.tenant_id, ids.new_id("cus"))
        await set_subscription(session, platform.tenant_id, plan_key="pro", provider="stripe", status="active")
        await session.execute(
            text("update billing_customers set subscription_id = 'sub_1' where tenant_id = :t"),
            {"t": platform.tenant_id},
        )
        await refresh_allowance(session, platform.tenant_id)


@pytest.mark.parametrize("mode", ["unreachable", "slow", "429", "500"])
async def test_a_visitor_is_answered_whatever_stripe_does(
    test_database: TestDatabase, tmp_path: Path, mode: str
) -> None:
    async with open_platform(test_database, tmp_path, **CHANGES) as platform:
        services, stripe = platform.services, Broken(mode)
        assert services.billing.gateway is not None
        await connect(services.billing.gateway, stripe)
        await customer_of(platform)
        visitor = platform.visitor(await platform.agent())
        for _ in range(3):
            events = await visitor.say("Hello")
            assert of_type(events, "thread.item.done")
            assert not of_type(events, "error")
        assert stripe.asked == 0, "no chat asks Stripe"
        # What does ask it says so, and leaves everything as it was.
        with pytest.raises(StonechatError):
            await services.billing.sync(platform.tenant_id)
        row = await customer(services.database, platform.tenant_id)
        assert row.sync_error is not None
        assert row.sync_lock is None
        with pytest.raises(UpstreamFailed if mode != "slow" else Unavailable):
            await services.billing.portal(system(platform.tenant_id), return_url=services.settings.public_url)
        await tell_use(services.database, services.billing)
        await look_at_customers(services.database, services.billing, public_url=services.settings.public_url)
        assert await waiting_jobs(services.database, platform.tenant_id, "billing.sync") == 1
        assert of_type(await visitor.say("Still there?"), "thread.item.done")


async def test_few_wait_for_stripe_at_once(test_database: TestDatabase, tmp_path: Path) -> None:
    """Their requests hold connections that visitors need."""
    import asyncio

    holding, asked = asyncio.Event(), 0

    class Hanging(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            nonlocal asked
            asked += 1
            await holding.wait()
            return httpx.Response(
                200, json={"object": "billing_portal.session", "id": "bps_1", "url": "https://p.test"}
            )

    async with open_platform(test_database, tmp_path, **CHANGES) as platform:
        services = platform.services
        assert services.billing.gateway is not None
        await connect(services.billing.gateway, Hanging())
        await customer_of(platform)
        actor, url = system(platform.tenant_id), services.settings.public_url
        waiting = [asyncio.create_task(services.billing.portal(actor, return_url=url)) for _ in range(10)]
        while asked < 4:
            await asyncio.sleep(0.01)
        visitor = platform.visitor(await platform.agent())
        assert of_type(await visitor.say("Hello"), "thread.item.done")
        holding.set()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(answer == "https://p.test" for answer in answers) == 4
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 6
