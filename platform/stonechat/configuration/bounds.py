"""Limits, and what of usage a tenant decides: its budget, what is done at the end, prices of its own."""

from __future__ import annotations

from collections.abc import Sequence

from stonechat.assistant.over_limit import choose_steps
from stonechat.configuration.document import UsageEntry
from stonechat.configuration.plan import Work, differing
from stonechat.limits import rules
from stonechat.limits.rules import LimitRules
from stonechat.usage import allowance, prices, quota
from stonechat.usage.allowance import Steps
from stonechat.usage.allowance_models import UsageAllowanceRow
from stonechat.usage.prices import OwnPrice
from stonechat.usage.quota import Budget


async def read_limits(work: Work) -> LimitRules:
    """The tenant's rules, or the defaults."""
    return await rules.get_limits(work.session, work.actor)


async def apply_limits(work: Work, wanted: LimitRules) -> None:
    """Replace the rules, if they are others."""
    before = await read_limits(work)
    if before == wanted:
        work.same()
        return
    with work.at("limits"):
        await rules.put_limits(work.session, work.actor, rules=wanted)
    work.means.rules.forget_after_commit(work.session, work.actor.tenant_id)
    changed = differing(before.model_dump(), wanted.model_dump())
    work.done("change", "limits", "", path="limits", fields=changed)


async def read_usage(work: Work) -> UsageEntry:
    """What the tenant decides about its use. Overage is left out: it is a promise to pay, not configuration."""
    own = (await prices.get_prices(work.session, work.actor)).prices
    return UsageEntry(budget=await _budget(work), steps=await allowance.get_steps(work.session, work.actor), prices=own)


async def apply_usage(work: Work, wanted: UsageEntry) -> None:
    """Replace what the document names, where it differs."""
    if wanted.budget is not None:
        await _apply_budget(work, wanted.budget)
    if wanted.steps is not None:
        await _apply_steps(work, wanted.steps)
    if wanted.prices is not None:
        await _apply_prices(work, wanted.prices)


async def _budget(work: Work) -> Budget:
    held = await quota.get_budget(work.session, work.actor)
    return Budget(max_tokens=held.max_tokens, max_cost_micros=held.max_cost_micros, message=held.message)


async def _apply_budget(work: Work, wanted: Budget) -> None:
    before = await _budget(work)
    bounded = wanted.max_tokens is not None or wanted.max_cost_micros is not None
    if not bounded and await work.session.get(UsageAllowanceRow, work.actor.tenant_id) is None:
        wanted = wanted.model_copy(update={"message": None})  # it is dropped where nothing is bounded
    if before == wanted:
        work.same()
        return
    with work.at("usage.budget"):
        await quota.put_budget(work.session, work.actor, budget=wanted)
    changed = differing(before.model_dump(), wanted.model_dump())
    work.done("change", "monthly budget", "", path="usage.budget", fields=changed)


async def _apply_steps(work: Work, wanted: Steps) -> None:
    before = await allowance.get_steps(work.session, work.actor)
    if before == wanted:
        work.same()
        return
    with work.at("usage.steps"):
        await choose_steps(work.session, work.actor, steps=wanted, settings=work.means.settings)
    changed = differing(before.model_dump(), wanted.model_dump())
    work.done("change", "steps when nothing more may be used", "", path="usage.steps", fields=changed)


async def _apply_prices(work: Work, wanted: Sequence[OwnPrice]) -> None:
    before = {
        (price.provider, price.model): price for price in (await prices.get_prices(work.session, work.actor)).prices
    }
    after = {(price.provider, price.model): _whole(price) for price in wanted}
    if before == after and len(after) == len(wanted):
        work.same()
        return
    with work.at("usage.prices"):
        await prices.put_prices(work.session, work.actor, prices=wanted)
    changed = [
        f"{provider}/{model}"
        for provider, model in sorted({*before, *after})
        if _differ(before, after, (provider, model))
    ]
    work.done("change", "prices of models", "", path="usage.prices", fields=changed)


def _whole(price: OwnPrice) -> OwnPrice:
    """As it is stored: without a price for cached input, that costs what other input does."""
    return price if price.cached is not None else price.model_copy(update={"cached": price.input})


def _differ(
    before: dict[tuple[str, str], OwnPrice], after: dict[tuple[str, str], OwnPrice], key: tuple[str, str]
) -> bool:
    return before.get(key) != after.get(key)
