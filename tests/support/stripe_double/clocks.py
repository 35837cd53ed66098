"""Time: test clocks, and what falls due while one of them is advanced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route
from support.stripe_double.schedules import due_of_schedule
from support.stripe_double.subscription_cycle import Deed, due_of_invoice, due_of_subscription

Json = dict[str, Any]
MAX_DEEDS = 200_000


def _deeds(account: Account, clock_id: str | None) -> Iterator[Deed]:
    for subscription in account.rows("subscription"):
        if subscription["test_clock"] == clock_id and (deed := due_of_subscription(account, subscription)):
            yield deed
    for invoice in account.unfinished.values():
        if invoice["test_clock"] == clock_id and (deed := due_of_invoice(account, invoice)):
            yield deed
    for schedule in account.rows("subscription_schedule"):
        if schedule["test_clock"] == clock_id and (deed := due_of_schedule(account, schedule)):
            yield deed
    for session in account.rows("checkout.session"):
        if session["status"] == "open" and account.clock_of(session["customer"]) == clock_id:
            yield session["expires_at"], 4, lambda session=session: _expire(account, session)  # type: ignore[misc]


def _expire(account: Account, session: Json) -> None:
    session |= {"status": "expired", "url": None}
    account.emit("checkout.session.expired", session)


def run_until(account: Account, clock_id: str | None, target: int) -> int:
    """Do everything that falls due up to `target` (seconds), in its order and each at its own time; returns how much."""
    done = 0
    while deed := min(_deeds(account, clock_id), key=lambda deed: deed[:2], default=None):
        moment, _, act = deed
        if moment > target:
            break
        assert done < MAX_DEEDS, "time does not come to an end"
        account.at(clock_id, max(moment, account.now(clock_id)) if clock_id else moment)
        act()
        done += 1
    account.at(clock_id, target if clock_id else None)
    return done


def advance(account: Account, clock_id: str, target: int) -> Json:
    """Move a test clock; everything due happens before this returns."""
    clock = account.find("test_helpers.test_clock", clock_id)
    if target < clock["frozen_time"]:
        raise Refused("You can only advance a test clock forward in time.", param="frozen_time")
    clock |= {"status": "advancing", "status_details": {"advancing": {"target_frozen_time": target}}}
    account.emit("test_helpers.test_clock.advancing", clock)
    seen = dict(clock)
    run_until(account, clock_id, target)
    clock |= {"status": "ready", "status_details": {"advancing": None}}
    account.emit("test_helpers.test_clock.ready", clock)
    return seen


@route("POST", "/v1/test_helpers/test_clocks", "test_helpers.TestClockCreateParams")
def create_clock(call: Call) -> Json:
    account = call.account
    clock = account.put(
        {
            "id": account.new_id("clock"),
            "object": "test_helpers.test_clock",
            "created": account.wall(),
            "deletes_after": account.wall() + 30 * 86_400,
            "frozen_time": call.params["frozen_time"],
            "name": call.get("name"),
            "status": "ready",
            "status_details": {"advancing": None},
        }
    )
    account.emit("test_helpers.test_clock.created", clock)
    return clock


@route("POST", "/v1/test_helpers/test_clocks/{id}/advance", "test_helpers.TestClockAdvanceParams")
def advance_clock(call: Call) -> Json:
    return advance(call.account, call.id, call.params["frozen_time"])


@route("GET", "/v1/test_helpers/test_clocks/{id}", "test_helpers.TestClockRetrieveParams")
def get_clock(call: Call) -> Json:
    return call.account.find("test_helpers.test_clock", call.id)


@route("GET", "/v1/test_helpers/test_clocks", "test_helpers.TestClockListParams")
def list_clocks(call: Call) -> Json:
    return listed(call, call.account.rows("test_helpers.test_clock"))


@route("DELETE", "/v1/test_helpers/test_clocks/{id}", "test_helpers.TestClockDeleteParams")
def delete_clock(call: Call) -> Json:
    """Deletes the clock with its customers; their subscriptions are cancelled."""
    from support.stripe_double.customers import delete_customer

    account = call.account
    clock = account.find("test_helpers.test_clock", call.id)
    for customer in [row for row in account.rows("customer") if row["test_clock"] == call.id]:
        delete_customer(Call(account, {}, (customer["id"],), call.path))
    account.emit("test_helpers.test_clock.deleted", clock)
    return account.drop("test_helpers.test_clock", call.id)
