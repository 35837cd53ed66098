"""Messages and answers are counted for each visitor, agent and tenant, by the tenant's own rules."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.errors import RateLimited, TooManyConcurrent
from stonechat.identity.caller import Caller
from stonechat.limits import limiter as limiter_module
from stonechat.limits import slots
from stonechat.limits.counters import Counters, Windows
from stonechat.limits.limiter import Limiter, address_key
from stonechat.limits.rules import AgentRules, LimitRules, RulesCache, TenantRules, VisitorRules, put_limits
from stonechat.limits.state import state_of
from stonechat.settings import Settings
from stonechat.web import ClientAddress
from support.redis import RedisServer, redis_server

STRANGER = ClientAddress("203.0.113.9", is_loopback=False)


class FixedRules(RulesCache):
    """Rules for every tenant, without a database."""

    def __init__(self, rules: LimitRules) -> None:
        self.fixed = rules

    async def rules_of(self, tenant_id: UUID) -> LimitRules:
        return self.fixed


RULES = LimitRules(
    visitor=VisitorRules(messages_per_minute=3, concurrent=2),
    agent=AgentRules(messages_per_minute=5),
    tenant=TenantRules(messages_per_minute=7),
)


def caller(user: str = "usr_1", *, agent: str = "agt_1", tenant: UUID | None = None) -> Caller:
    return Caller(tenant or uuid4(), user, agent)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy test machine is no outage."""
    monkeypatch.setattr(limiter_module, "STORE_TIMEOUT_SECONDS", 10)


@pytest.fixture(params=["memory", "redis"])
async def limiter(
    request: pytest.FixtureRequest, redis: RedisServer, caplog: pytest.LogCaptureFixture, patient: None
) -> AsyncIterator[Limiter]:
    chosen = Settings(redis_url=redis.url if request.param == "redis" else None)
    opened = Limiter(chosen, rules=FixedRules(RULES))
    yield opened
    await opened.close()
    assert not caplog.records, "it fell back to its own memory"


async def send(limiter: Limiter, who: Caller, times: int) -> None:
    for _ in range(times):
        await limiter.check_message(who)


async def test_a_visitor_has_a_number_of_messages_a_minute(limiter: Limiter) -> None:
    who = caller()
    states = [await limiter.check_message(who) for _ in range(3)]
    assert [state.remaining for state in states] == [2, 1, 0]
    with pytest.raises(RateLimited) as refused:
        await limiter.check_message(who)
    assert refused.value.members["scope"] == "visitor"
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 120
    await limiter.check_message(replace(who, user_id="usr_2"))


async def test_headers_follow_the_draft(limiter: Limiter) -> None:
    who = caller()
    headers = (await limiter.check_message(who)).headers()
    assert headers["RateLimit-Policy"] == '"visitor";q=3;w=60'
    assert re.fullmatch(r'"visitor";r=2;t=\d{1,2}', headers["RateLimit"])
    await send(limiter, who, 2)
    with pytest.raises(RateLimited) as refused:
        await limiter.check_message(who)
    assert refused.value.headers["RateLimit-Policy"] == '"visitor";q=3;w=60'
    assert refused.value.headers["RateLimit"].startswith('"visitor";r=0;')


async def test_visitors_of_an_agent_share_its_limit(limiter: Limiter) -> None:
    tenant = uuid4()
    await send(limiter, caller("usr_1", tenant=tenant), 3)
    await send(limiter, caller("usr_2", tenant=tenant), 2)
    with pytest.raises(RateLimited) as refused:
        await limiter.check_message(caller("usr_3", tenant=tenant))
    assert refused.value.members["scope"] == "agent"
    await limiter.check_message(caller("usr_3", agent="agt_2", tenant=tenant))


async def test_agents_of_a_tenant_share_its_limit_and_tenants_share_nothing(limiter: Limiter) -> None:
    tenant = uuid4()
    for n in range(7):
        await limiter.check_message(caller(f"usr_{n}", agent=f"agt_{n}", tenant=tenant))
    with pytest.raises(RateLimited) as refused:
        await limiter.check_message(caller("usr_9", agent="agt_9", tenant=tenant))
    assert refused.value.members["scope"] == "tenant"
    await limiter.check_message(caller("usr_9", agent="agt_9"))


async def test_who_is_over_a_limit_takes_nothing_from_the_others(limiter: Limiter) -> None:
    tenant = uuid4()
    greedy = caller("usr_1", tenant=tenant)
    await send(limiter, greedy, 3)
    for _ in range(20):
        with pytest.raises(RateLimited):
            await limiter.check_message(greedy)
    await send(limiter, caller("usr_2", tenant=tenant), 2)


async def test_two_at_once_cannot_share_the_last_message(limiter: Limiter) -> None:
    who = caller()
    outcomes = await asyncio.gather(*(limiter.check_message(who) for _ in range(10)), return_exceptions=True)
    assert sum(not isinstance(outcome, RateLimited) for outcome in outcomes) == 3


async def test_a_visitor_has_a_number_of_answers_at_once(limiter: Limiter) -> None:
    who = caller()
    async with limiter.answering(who):
        async with limiter.answering(who):
            with pytest.raises(TooManyConcurrent) as refused:
                async with limiter.answering(who):
                    pytest.fail("a third answer was let in")
            assert refused.value.headers["Retry-After"]
            async with limiter.answering(replace(who, user_id="usr_2")):
                pass
        async with limiter.answering(who):
            pass


async def test_a_slot_is_given_back_when_the_answer_fails(limiter: Limiter) -> None:
    who = caller()
    for _ in range(5):
        with pytest.raises(RuntimeError):
            async with limiter.answering(who):
                raise RuntimeError
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(limiter.answering(who))
        await stack.enter_async_context(limiter.answering(who))


async def test_a_slot_whose_holder_died_is_free_after_its_lease(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = caller()
    for _ in range(2):
        await limiter.answering(who).__aenter__()
    wall, steady = time.time() + slots.LEASE_SECONDS + 1, time.monotonic() + slots.LEASE_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    async with limiter.answering(who):
        pass


async def test_addresses_are_limited_but_for_a_developers_own_machine() -> None:
    rules = FixedRules(RULES)
    local = ClientAddress("127.0.0.1", is_loopback=True)
    limiter = Limiter(Settings(configured_ip_requests_per_minute=2), rules=rules)
    for address in (STRANGER, local):
        await limiter.check_address(address)
        await limiter.check_address(address)
        with pytest.raises(RateLimited):
            await limiter.check_address(address)
    relaxed = Limiter(Settings(), rules=rules)
    for _ in range(1000):
        await relaxed.check_address(local)
    with pytest.raises(RateLimited) as refused:
        await send_from(relaxed, STRANGER, 601)
    assert refused.value.members["scope"] == "address"


async def send_from(limiter: Limiter, address: ClientAddress, times: int) -> None:
    for _ in range(times):
        await limiter.check_address(address)


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
    ],
)
def test_one_subscriber_is_one_key(host: str, key: str) -> None:
    assert address_key(ClientAddress(host, is_loopback=False)) == key


async def test_without_redis_each_process_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        limiter = Limiter(Settings(redis_url=f"redis://127.0.0.1:{taken.getsockname()[1]}"), rules=FixedRules(RULES))
        who = caller()
        with caplog.at_level(logging.WARNING):
            await send(limiter, who, 3)
            async with limiter.answering(who):
                pass
        with pytest.raises(RateLimited):
            await limiter.check_message(who)
        await limiter.close()
    # One warning, not one for each message.
    assert [record.levelname for record in caplog.records if "Redis" in record.message] == ["WARNING"]


async def test_a_redis_that_hangs_is_given_up_on() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        limiter = Limiter(Settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}"), rules=FixedRules(RULES))
        async with asyncio.timeout(30):
            assert (await limiter.check_message(caller())).remaining == 2
        await limiter.close()


async def test_a_redis_that_comes_back_counts_again(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    with redis_server() as server:
        limiter = Limiter(Settings(redis_url=server.url), rules=FixedRules(RULES))
        other = Limiter(Settings(redis_url=server.url), rules=FixedRules(RULES))
        who = caller()
        await limiter.check_message(who)
        async with limiter.answering(who):
            server.stop()
            await limiter.check_message(who)
        server.start()
        later = time.monotonic() + 6
        monkeypatch.setattr(time, "monotonic", lambda: later)
        await send(limiter, who, 2)
        # Both processes count in the same place.
        await send(other, who, 1)
        with pytest.raises(RateLimited):
            await other.check_message(who)
        await limiter.close()
        await other.close()


async def test_counts_of_two_processes_add_up_in_redis(redis: RedisServer, patient: None) -> None:
    one, two = [Limiter(Settings(redis_url=redis.url), rules=FixedRules(RULES)) for _ in range(2)]
    who = caller()
    await send(one, who, 2)
    await send(two, who, 1)
    with pytest.raises(RateLimited):
        await one.check_message(who)
    async with one.answering(who), two.answering(who):
        with pytest.raises(TooManyConcurrent):
            async with two.answering(who):
                pytest.fail("a third answer was let in")
    await one.close()
    await two.close()


async def test_a_tenants_own_rules_hold(database: Database, tenant_id: UUID) -> None:
    limiter = Limiter(Settings(), rules=RulesCache(database))
    who = caller(tenant=tenant_id)
    assert (await limiter.check_message(who)).quota == 20
    async with database.tenant(tenant_id) as session:
        await put_limits(session, system(tenant_id), rules=RULES)
        limiter.rules.forget_after_commit(session, tenant_id)
    assert (await limiter.check_message(who)).quota == 3


async def test_rules_are_remembered_for_a_moment(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RulesCache(database)
    assert await cache.rules_of(tenant_id) == LimitRules()
    async with database.tenant(tenant_id) as session:
        await put_limits(session, system(tenant_id), rules=RULES)
    assert await cache.rules_of(tenant_id) == LimitRules()
    from stonechat import clock
    from stonechat.limits.rules import REMEMBERED_FOR

    later = clock.now() + REMEMBERED_FOR
    monkeypatch.setattr(clock, "now", lambda: later)
    # One reads, and nobody waits for it.
    assert await asyncio.gather(*(cache.rules_of(tenant_id) for _ in range(3))) == [RULES, LimitRules(), LimitRules()]
    assert await cache.rules_of(tenant_id) == RULES


@pytest.mark.parametrize(
    ("counts", "remaining", "reset", "retry_after"),
    [
        ((0, 0.0, 0, 0.0), 10, 60, 0),
        ((0, 0.0, 4, 90.0), 6, 30, 0),
        ((0, 0.0, 10, 90.0), 0, 30, 31),
        ((10, 30.0, 4, 90.0), 1, 30, 0),
        # 10 of the last window still weigh 5: one is let through once they weigh less than 5 (t < 30 of 60 s).
        ((10, 30.0, 5, 90.0), 0, 30, 1),
        ((10, 42.0, 5, 102.0), 0, 42, 13),
        # Twice the quota (a limit that was lowered) must weigh less than the quota in the window after this one.
        ((0, 0.0, 20, 90.0), 0, 30, 61),
    ],
)
def test_when_to_come_back(counts: tuple[int, float, int, float], remaining: int, reset: int, retry_after: int) -> None:
    state = state_of("visitor", quota=10, window=60, counts=counts)
    assert (state.remaining, state.reset, state.retry_after) == (remaining, reset, retry_after)


async def test_waiting_as_told_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: moment)
    limiter, who = Limiter(Settings(), rules=FixedRules(RULES)), caller()
    for _ in range(6):
        await send(limiter, who, 1)
        try:
            while True:
                await limiter.check_message(who)
        except RateLimited as refused:
            moment += int(refused.headers["Retry-After"])
    assert moment > 1_800_000_060.0


def test_counters_are_bounded_and_expire() -> None:
    counters = Counters(max_counters=3)
    assert [counters.add("a", 1, expiry=10, now=now) for now in (0, 5, 9.9, 10)] == [1, 2, 3, 1]
    for name in "bcd":
        counters.add(name, 1, expiry=10, now=10)
    assert len(counters) == 3
    assert counters.get("a", now=11) == 0
    assert counters.get("d", now=11) == 1
    assert counters.get("d", now=20) == 0


def test_windows_slide_and_are_bounded() -> None:
    windows = Windows(max_windows=3)
    windows.put("a", 7, (2, 5))
    assert windows.counts("a", 7) == (2, 5)
    assert windows.counts("a", 8) == (5, 0)
    assert windows.counts("a", 9) == (0, 0)
    for name in "bcd":
        windows.put(name, 7, (0, 1))
    assert windows.counts("a", 7) == (0, 0)
    assert windows.reset() == 3
