"""Breakers and retries: who fails is left alone for a while, and nobody is asked more often than helps."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any
from uuid import UUID

import httpx2
import openai
import pytest

from stonechat.errors import ProviderResting
from stonechat.providers.breaker import FAILURES, LONGEST_REST_SECONDS, REST_SECONDS, Breakers
from stonechat.providers.retries import RetryPolicy, StreamBroken, judge, retry_after

KEY, OTHER = (UUID(int=1), "prv_1"), (UUID(int=2), "prv_1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def call(breakers: Breakers, key: Any = KEY, *, works: bool | None) -> None:
    with breakers.calling(key) as made:
        if works is not None:
            made.succeeded() if works else made.failed()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(clock: Clock) -> Breakers:
    return Breakers(clock=clock, max_kept=3)


def opened(breakers: Breakers, key: Any = KEY) -> Breakers:
    for _ in range(FAILURES):
        call(breakers, key, works=False)
    return breakers


def test_failures_in_a_row_open_it_for_that_tenant_alone(breakers: Breakers) -> None:
    opened(breakers)
    with pytest.raises(ProviderResting, match="tried again in 20 seconds") as caught:
        call(breakers, works=True)
    assert caught.value.headers["Retry-After"] == "20"
    call(breakers, OTHER, works=True)


def test_a_success_in_between_begins_anew(breakers: Breakers) -> None:
    for works in (False,) * (FAILURES - 1) + (True,) + (False,) * (FAILURES - 1):
        call(breakers, works=works)
    call(breakers, works=True)
    assert len(breakers) == 0, "who works takes up no memory"


def test_one_call_looks_whether_it_is_back(breakers: Breakers, clock: Clock) -> None:
    opened(breakers)
    clock.now += REST_SECONDS
    with breakers.calling(KEY) as probe:
        with pytest.raises(ProviderResting, match="tried again in 5 seconds"):
            call(breakers, works=True)
        probe.succeeded()
    call(breakers, works=True)
    call(breakers, works=True)


def test_a_call_that_fails_again_doubles_the_rest_up_to_a_bound(breakers: Breakers, clock: Clock) -> None:
    opened(breakers)
    rest = REST_SECONDS
    for _ in range(8):
        clock.now += rest
        call(breakers, works=False)
        rest = min(2 * rest, LONGEST_REST_SECONDS)
        clock.now += rest - 1
        with pytest.raises(ProviderResting):
            call(breakers, works=True)
        clock.now -= rest - 1
    assert rest == LONGEST_REST_SECONDS


def test_a_call_that_was_broken_off_lets_the_next_one_look(breakers: Breakers, clock: Clock) -> None:
    opened(breakers)
    clock.now += REST_SECONDS
    with pytest.raises(KeyboardInterrupt), breakers.calling(KEY):
        raise KeyboardInterrupt
    call(breakers, works=True)


def test_those_that_fail_together_open_it_once(breakers: Breakers, clock: Clock) -> None:
    contexts = [breakers.calling(KEY) for _ in range(50)]
    for each in [context.__enter__() for context in contexts]:
        each.failed()
    for context in contexts:
        context.__exit__(None, None, None)
    clock.now += REST_SECONDS
    call(breakers, works=True)


def test_memory_is_bounded(breakers: Breakers) -> None:
    for number in range(10):
        call(breakers, (UUID(int=number), "p"), works=False)
    assert len(breakers) == 3


def status(code: int, body: Any = None, **headers: str) -> openai.APIStatusError:
    response = httpx2.Response(code, headers=headers, request=httpx2.Request("POST", "http://x.example/"))
    error = openai.APIStatusError("no", response=response, body=body)
    error.code = (body or {}).get("code")
    return error


@pytest.mark.parametrize(
    ("error", "retry", "fall_back", "counts"),
    [
        (status(500), True, True, True),
        (status(500, **{"x-should-retry": "false"}), False, True, True),
        (status(429), True, True, False),
        (status(429, {"code": "insufficient_quota"}), False, True, False),
        (status(401), False, False, False),
        (status(404), False, False, False),
        (TimeoutError(), False, True, True),
        (StreamBroken(), True, True, True),
        (ZeroDivisionError(), False, False, False),
    ],
)
def test_what_an_error_means(error: Exception, retry: bool, fall_back: bool, counts: bool) -> None:
    assert judge(error) == (retry, fall_back, counts)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": formatdate(0, usegmt=True)}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_any_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(status(429, **headers)) == seconds


def test_pauses_grow_are_left_to_chance_and_end() -> None:
    policy = RetryPolicy(retries=2, first_pause=1.0, longest_pause=8.0)
    firsts = {policy.pause(1, status(500)) for _ in range(50)}
    assert len(firsts) > 10
    assert all(pause is not None and 0.5 <= pause <= 1.0 for pause in firsts)
    second = policy.pause(2, status(500))
    assert second is not None
    assert 1.0 <= second <= 2.0
    assert policy.pause(3, status(500)) is None
    assert policy.pause(1, status(429, **{"retry-after": "3"})) == 3.0
    assert policy.pause(1, status(429, **{"retry-after": "9"})) is None, "waiting that long is for people to decide"
