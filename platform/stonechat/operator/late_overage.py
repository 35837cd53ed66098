"""Overage that missed its invoice: an operator puts it on the next one, or waives it, and both logs say so."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.billing.service import BillingService
from stonechat.billing.settling import How, decide
from stonechat.billing.webhooks import request_sync
from stonechat.db.session import Database
from stonechat.errors import BillingOff, InvalidInput
from stonechat.operator.levers import checked_reason
from stonechat.operator.operators import Operator, record


async def decide_overage(
    platform: AsyncSession,
    operator: Operator,
    tenant_id: UUID,
    *,
    database: Database,
    billing: BillingService,
    how: str,
    reason: str,
) -> int:
    """Decide about all that is on no invoice. Returns how many tokens that was.

    Raises `InvalidInput`, `Conflict` where nothing is left to decide about, or `BillingOff` without Stripe.
    """
    reason = checked_reason(reason)
    chosen: How | None = next((known for known in get_args(How) if known == how), None)
    if chosen is None:
        raise InvalidInput("Put it on the next invoice, or waive it.")
    if chosen == "invoice" and billing.gateway is None:
        raise BillingOff("Stripe is not connected: what it was to be told can only be waived.")
    async with database.tenant(tenant_id) as session:
        made = await decide(session, operator.actor(tenant_id), how=chosen, reason=reason)
        tokens = sum(row.tokens for row in made)
        if chosen == "invoice":
            await request_sync(session, tenant_id)  # the job of which tells Stripe
        detail = {"tokens": tokens, "settlements": len(made)}
        await record(platform, operator, f"overage.{chosen}", tenant_id=tenant_id, reason=reason, detail=detail)
    return tokens
