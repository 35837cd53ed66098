"""From the ledger to Stripe's meter: every token, once, in the period it belongs to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.billing import meters
from stonechat.billing.checks import remainder
from stonechat.billing.counting import counting_json, counting_of
from stonechat.billing.customers import ensure_customer, register_customer
from stonechat.billing.meters import Slice, meter_tenant, slices_between
from stonechat.billing.models import ALL_USE, MeterRow
from stonechat.billing.sending import Round, send_all, send_waiting
from stonechat.db.session import Database
from stonechat.operator.tenant import get_tenant_page
from support.billing import START, Hands, ledger_tokens, outbox, paying_tenant, pays_for_all, use
from support.crashes import Killed, mortal
from support.stripe_double import Mode
from support.stripe_gateway import StripeInProcess, stripe_in_process


@pytest.fixture
async def stripe(hands: Hands) -> AsyncIterator[StripeInProcess]:
    async with stripe_in_process(clock=hands.now) as opened:
        await opened.gateway.ensure_meter()
        yield opened


class Acme:
    """A customer whose use is told."""

    def __init__(self, database: Database, stripe: StripeInProcess) -> None:
        self.database, self.stripe = database, stripe

    async def begin(self) -> Acme:
        self.tenant_id = await paying_tenant(self.database)
        self.customer_id = await self.stripe.gateway.create_customer(self.tenant_id, name="Acme", email=None)
        async with self.database.tenant(self.tenant_id) as session:
            await register_customer(session, self.tenant_id, self.customer_id)
        await self.owes_all()
        return self

    async def owes_all(self, *, until: datetime = START + timedelta(days=31)) -> None:
        await pays_for_all(self.database, self.tenant_id, period_start=START, period_end=until)

    async def meter(self, *, everything: bool = False) -> int:
        async with self.database.tenant(self.tenant_id) as session:
            return await meter_tenant(session, self.tenant_id, everything=everything)

    async def send(self) -> Round:
        return await send_waiting(self.database, self.stripe.gateway, self.tenant_id)

    async def use(self, tokens: int, *, at: datetime | None = None) -> None:
        await use(self.database, self.tenant_id, tokens=tokens, at=at)

    def told(self) -> int:
        return self.stripe.told(self.customer_id)


@pytest.fixture
async def acme(database: Database, stripe: StripeInProcess) -> Acme:
    return await Acme(database, stripe).begin()


def at(hour: int, minute: int = 0, second: int = 0) -> datetime:
    return START.replace(hour=hour, minute=minute, second=second)


CASES = {
    "whole hours": ((12, 14), (), (), [(12, 13), (13, 14)]),
    "a cut": ((12, 13), [at(12, 23, 11)], (), [(12, at(12, 23, 11)), (at(12, 23, 11), 13)]),
    "a cut too late": ((12, 13), [at(12, 23)], [Slice(at(12), at(13))], [(12, 13)]),
    "a cut kept": ((12, 13), (), [Slice(at(12), at(12, 23))], [(12, at(12, 23)), (at(12, 23), 13)]),
    "a second cut": (
        (12, 13),
        [at(12, 40)],
        [Slice(at(12), at(12, 23))],
        [(12, at(12, 23)), (at(12, 23), at(12, 40)), (at(12, 40), 13)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_hours_are_cut_where_periods_end(case: str) -> None:
    (first, until), cuts, fixed, wanted = CASES[case]
    edges = [tuple(edge if isinstance(edge, datetime) else at(edge) for edge in one) for one in wanted]
    found = slices_between(at(first), at(until), cuts=cuts, fixed=fixed)
    assert [tuple(one) for one in found] == edges


async def test_use_is_told_once_its_hour_is_over(acme: Acme, hands: Hands) -> None:
    hands.move(minutes=10)
    await acme.use(1000)
    assert await acme.meter() == 0
    hands.move(hours=1)
    assert await acme.meter() == 1
    assert await acme.meter() == 0
    assert (await acme.send()).sent == 1
    assert (await acme.send()).sent == 0
    assert acme.told() == 1000


async def test_what_comes_late_is_told_beside_the_rest(acme: Acme, hands: Hands) -> None:
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    await acme.meter()
    await acme.use(30, at=START + timedelta(minutes=20))
    assert await acme.meter() == 1
    hands.move(days=20)
    await acme.use(7, at=START + timedelta(minutes=21))
    assert await acme.meter() == 1, "every round looks at the whole of the period"
    assert await acme.meter(everything=True) == 0
    await acme.send()
    assert [row.seq for row in await outbox(acme.database, acme.tenant_id)] == [1, 2, 3]
    assert acme.told() == await ledger_tokens(acme.database, acme.tenant_id) == 1037


async def test_use_before_there_was_a_customer_is_nobodys(acme: Acme, hands: Hands) -> None:
    await acme.use(500, at=START - timedelta(minutes=1))
    hands.move(hours=2)
    assert await acme.meter(everything=True) == 0


async def test_use_belongs_to_the_period_it_was_used_in(acme: Acme, hands: Hands) -> None:
    boundary = START + timedelta(minutes=23, seconds=11)
    await acme.owes_all(until=boundary)
    hands.move(minutes=22)
    await acme.use(100)
    hands.move(minutes=4)
    await acme.use(20)
    assert await acme.meter() == 1, "the end of a period is told at once"
    hands.move(minutes=40)
    assert await acme.meter() == 1
    await acme.send()
    assert acme.told() == 120
    assert acme.stripe.told(acme.customer_id, start=START, end=boundary) == 100


async def test_what_belongs_to_an_invoice_that_was_made_is_kept_and_told_to_the_operator(
    acme: Acme, hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    boundary = START + timedelta(minutes=23)
    await acme.owes_all(until=boundary)
    hands.move(minutes=22)
    await acme.use(100)
    hands.move(minutes=4)
    await acme.use(20)
    hands.move(hours=1)
    assert await acme.meter() == 2
    done = await acme.send()
    assert (done.sent, done.expired, acme.told()) == (1, 1, 20)
    assert "were never told" in caplog.text
    assert (await remainder(acme.database)).tokens >= 100
    async with acme.database.platform() as session:
        assert (await get_tenant_page(session, acme.tenant_id)).counts.tokens_on_no_invoice == 100
    hands.move(days=500)
    await acme.meter(everything=True)
    assert [row.state for row in await outbox(acme.database, acme.tenant_id)] == ["expired"], "never forgotten"


async def test_nothing_is_told_before_there_is_an_item_that_counts_it(acme: Acme, hands: Hands) -> None:
    async with acme.database.tenant(acme.tenant_id) as session:
        row = await ensure_customer(session, acme.tenant_id, provider="stripe")
        counting, row.overage_item = counting_of(row.overage_item), None
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    await acme.meter()
    assert (await acme.send()).sent == 0
    assert counting is not None
    came = hands.move(minutes=11)
    async with acme.database.tenant(acme.tenant_id) as session:
        row = await ensure_customer(session, acme.tenant_id, provider="stripe")
        row.overage_item = counting_json(replace(counting, since=came, floor=came))
    assert (await acme.send()).sent == 1
    assert acme.stripe.told(acme.customer_id, start=came) == 1000, "told as of when it counts"


async def test_a_worker_that_slept_catches_up(acme: Acme, hands: Hands) -> None:
    for _ in range(9):
        hands.move(hours=1)
        await acme.use(10)
    hands.move(hours=1, minutes=5)
    assert await acme.meter() == 9
    await acme.send()
    assert acme.told() == 90


async def test_what_was_told_long_ago_is_forgotten(acme: Acme, hands: Hands) -> None:
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    await acme.meter()
    await acme.send()
    hands.move(days=401)
    await acme.meter()
    assert len(await outbox(acme.database, acme.tenant_id)) == 1
    assert await acme.meter(everything=True) == 0
    assert await outbox(acme.database, acme.tenant_id) == []


async def test_use_of_the_scheme_before_is_told_to_its_own_meter_and_not_again(acme: Acme, hands: Hands) -> None:
    await acme.stripe.gateway.ensure_meter(ALL_USE)
    hands.move(minutes=10)
    await acme.use(1000)
    async with acme.database.tenant(acme.tenant_id) as session:
        await session.execute(
            insert(MeterRow).values(
                tenant_id=acme.tenant_id, slice_start=START, slice_end=START + timedelta(hours=1), seq=1, tokens=1000,
                identifier="stonechat-before-1", customer_id=acme.customer_id, next_attempt_at=START,
            )
        )  # fmt: skip
    hands.move(hours=1)
    await acme.use(30)
    hands.move(hours=1)
    assert await acme.meter() == 1
    assert (await acme.send()).sent == 2
    assert acme.told() == 30
    assert acme.stripe.double.meter_total(acme.customer_id, ALL_USE, 0, 2**40) == 1000


async def test_what_is_older_than_stripe_takes_is_given_up_aloud(
    acme: Acme, hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    await acme.meter()
    hands.move(days=36)
    assert (await acme.send()).expired == 1
    assert "were never told" in caplog.text
    assert [row.state for row in await outbox(acme.database, acme.tenant_id)] == ["expired"]


async def test_what_was_told_more_than_a_day_ago_is_looked_up_first(acme: Acme, hands: Hands) -> None:
    """Stripe forgets identifiers after a day: a sender that died after telling, and a worker that slept two days."""
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    await acme.meter()
    process = acme.stripe.process
    process.start(dies_at=2)  # before it leaves, and after it was taken
    with pytest.raises(Killed):
        await acme.send()
    process.revive()
    assert acme.told() == 1000
    hands.move(days=2)
    assert (await acme.send()).sent == 1
    assert acme.told() == 1000


async def test_a_death_anywhere_loses_nothing_and_doubles_nothing(
    database: Database, stripe: StripeInProcess, hands: Hands
) -> None:
    """Kills at every statement, commit and request, until a whole round passes without one."""
    process = stripe.process
    boundary = 0
    while True:
        acme = await Acme(database, stripe).begin()
        hands.move(minutes=10)
        await acme.use(1000)
        hands.move(hours=1)
        await acme.use(400)
        hands.move(hours=1)
        boundary += 1
        process.start(dies_at=boundary)
        with mortal(database, process):
            try:
                await acme.meter()
                await acme.send()
                survived = True
            except Killed:
                survived = False
        process.revive()
        hands.move(minutes=11)
        await acme.use(7, at=hands.at - timedelta(hours=2))
        await acme.meter()
        await acme.send()
        assert acme.told() == await ledger_tokens(database, acme.tenant_id) == 1407, boundary
        assert {row.state for row in await outbox(database, acme.tenant_id)} == {"sent"}, boundary
        if survived:
            break
    assert boundary > 12, "the deaths were at every step"


@pytest.mark.parametrize("mode", ["unreachable", "slow", "429", "500", "lost"])
async def test_an_hour_without_stripe_is_made_up_for(acme: Acme, hands: Hands, mode: Mode) -> None:
    hands.move(minutes=10)
    await acme.use(1000)
    hands.move(hours=1)
    acme.stripe.outage(mode)
    for _ in range(12):
        await acme.use(10)
        await acme.meter()
        done = await send_all(acme.database, acme.stripe.gateway)
        assert done.sent == 0
        hands.move(minutes=5)
    assert (acme.told() == 0) != (mode == "lost"), "what was lost on the way back had arrived"
    acme.stripe.outage(None)
    hands.move(minutes=62)
    await acme.meter()
    await acme.send()
    assert acme.told() == await ledger_tokens(acme.database, acme.tenant_id) == 1120
    assert {row.state for row in await outbox(acme.database, acme.tenant_id)} == {"sent"}


async def test_one_customer_whose_use_cannot_be_counted_does_not_hold_up_the_others(
    database: Database, stripe: StripeInProcess, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [await Acme(database, stripe).begin() for _ in range(2)]
    hands.move(minutes=10)
    await second.use(100)
    hands.move(hours=1)

    async def broken(session: AsyncSession, tenant_id: UUID, **options: Any) -> int:
        if tenant_id == first.tenant_id:
            raise RuntimeError("this tenant's row is broken")
        return await meter_tenant(session, tenant_id, **options)

    monkeypatch.setattr(meters, "meter_tenant", broken)
    await meters.meter_all(database)
    assert len(await outbox(database, second.tenant_id)) == 1


async def test_one_customer_whom_stripe_refuses_does_not_hold_up_the_others(
    database: Database, stripe: StripeInProcess, hands: Hands
) -> None:
    customers = [await Acme(database, stripe).begin() for _ in range(5)]
    hands.move(minutes=10)
    for one in customers:
        await one.use(100)
    hands.move(hours=1)
    for one in customers[:4]:
        await stripe.client.v1.customers.delete_async(one.customer_id)
    for one in customers:
        await one.meter()
    done = Round()
    for one in customers:
        await send_waiting(database, stripe.gateway, one.tenant_id, done=done)
    assert (done.sent, done.failed, done.is_over) == (1, 4, False)
    assert customers[-1].told() == 100
