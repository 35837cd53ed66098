"""What `stonechat doctor` looks at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from stonechat import clock
from stonechat.billing.models import BillingEventRow, MeterRow
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed, UpstreamTimedOut
from stonechat.plans.platform_settings import DEFAULT_PLAN, get_setting
from stonechat.settings import Settings

LATE = timedelta(hours=6)
"""Use that waits so long will not be on the invoice that it belongs to."""


async def examine_billing(settings: Settings, database: Database | None) -> tuple[bool, str, str]:
    """Whether billing is well, what was seen, and what to do if not. Without a database only the settings are looked at."""
    if settings.stripe_secret_key is None:
        if settings.stripe_webhook_secret is not None:
            return (
                False,
                "there is a webhook secret, and no key",
                "Set STRIPE_SECRET_KEY, or unset STRIPE_WEBHOOK_SECRET.",
            )
        return True, "no Stripe: plans are assigned by hand, or there are none", ""
    key = settings.stripe_secret_key.get_secret_value()
    if not settings.stripe_webhook_secrets:
        remedy = (
            f"Make an event destination for {settings.public_url}/webhooks/stripe and set STRIPE_WEBHOOK_SECRET to its "
            "secret. Until then changes at Stripe are seen within the hour, not at once."
        )
        return False, "Stripe, without a webhook secret: every webhook is refused", remedy
    if settings.is_production and key.startswith(("sk_test_", "rk_test_")):
        return False, "Stripe's test mode, in production", "Set STRIPE_SECRET_KEY to a live key."
    if database is None:
        return True, "Stripe; asked for its account once there is a database", ""
    return await _ask(settings, database)


async def _ask(settings: Settings, database: Database) -> tuple[bool, str, str]:
    billing = BillingService(settings, database)
    try:
        assert billing.gateway is not None  # noqa: S101
        account = await billing.gateway.check()
    except (UpstreamFailed, UpstreamTimedOut) as error:
        return False, f"Stripe: {error}", "Check STRIPE_SECRET_KEY, and that this machine reaches api.stripe.com."
    finally:
        await billing.aclose()
    waiting, oldest, failed = await _backlog(database)
    told = f"Stripe, as “{account}”; {waiting:,} amounts of use wait to be told, {failed:,} events failed"
    if oldest is not None and clock.now() - oldest > LATE:
        return False, told, f"The oldest use is of {oldest:%Y-%m-%d %H:%M} UTC: is a worker at work?"
    async with database.directory() as session:
        if await get_setting(session, DEFAULT_PLAN) is None:
            remedy = (
                "Choose the default plan in the operators' settings: without one, who pays nothing may do everything."
            )
            return False, f"{told}; there is no default plan", remedy
    kept = await remainder(database)
    if kept.tokens:
        told += f"; {kept.tokens:,} tokens of {kept.tenants:,} tenants came after the invoice of their period"
    return failed == 0, told, "Replay them on the operator's page of events." if failed else ""


@dataclass(frozen=True, slots=True)
class Remainder:
    """What is owed beyond plans and on no invoice of Stripe's, because it came too late for the one of its period."""

    tokens: int
    tenants: int


async def remainder(database: Database) -> Remainder:
    """Across tenants, and all time, what nobody has decided about: it is kept in the outbox, in the state `expired`."""
    meter = MeterRow
    async with database.platform() as session:
        sums = select(func.coalesce(func.sum(meter.tokens), 0), func.count(func.distinct(meter.tenant_id)))
        undecided = (meter.state == "expired") & meter.settlement_id.is_(None)
        tokens, tenants = (await session.execute(sums.where(undecided))).one()
    return Remainder(int(tokens), tenants)


async def _backlog(database: Database) -> tuple[int, datetime | None, int]:
    meter, event = MeterRow, BillingEventRow
    async with database.platform() as session:
        waiting = select(func.count(), func.min(meter.slice_end)).where(meter.state == "waiting")
        number, oldest = (await session.execute(waiting)).one()
        failed = await session.scalar(select(func.count()).where(event.state == "failed"))
    return int(number), oldest, int(failed or 0)
