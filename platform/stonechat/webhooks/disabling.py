"""Switching an endpoint off: by hand, because it says that it is gone, or because it did nothing but fail for days."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Membership, Tenant
from stonechat.db.directory import Person
from stonechat.mail import compose, send_mail
from stonechat.webhooks.models import WebhookDeliveryRow, WebhookEndpointRow

FAILING_FOR = timedelta(days=5)
MAX_OWNERS = 20
Reason = Literal["by_hand", "failing", "gone"]
_WHY = {
    "by_hand": "The endpoint was switched off.",
    "failing": f"The endpoint was switched off: every attempt failed for {FAILING_FOR.days} days.",
    "gone": "The endpoint was switched off: it says that it is gone (410).",
}


async def disable(session: AsyncSession, endpoint: WebhookEndpointRow, *, reason: Reason) -> None:
    """Send nothing more to an endpoint whose row is locked. What waits has failed, and can be replayed later."""
    endpoint.enabled, endpoint.disabled_reason, endpoint.paused_until = False, reason, None
    await session.flush()
    row = WebhookDeliveryRow
    await session.execute(
        update(row)
        .where(row.tenant_id == endpoint.tenant_id, row.endpoint_id == endpoint.endpoint_id, row.status == "queued")
        .values(status="failed", next_attempt_at=None, finished_at=clock.now(), last_error=_WHY[reason])
        .execution_options(synchronize_session=False)
    )


async def disable_and_tell(
    session: AsyncSession, endpoint: WebhookEndpointRow, *, reason: Reason, public_url: str
) -> None:
    """The same by the platform itself: in the tenant's audit log, and by mail to the owners."""
    await disable(session, endpoint, reason=reason)
    tenant_id = endpoint.tenant_id
    await record_audit(
        session,
        system(tenant_id),
        "webhook_endpoint.disable",
        subject_id=endpoint.endpoint_id,
        detail={"reason": reason},
    )
    name = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == tenant_id)) or "Your site"
    owners = await session.scalars(
        select(Person.email)
        .join(Membership, Membership.person_id == Person.person_id)
        .where(Membership.tenant_id == tenant_id, Membership.role == "owner")
        .order_by(Person.email)
        .limit(MAX_OWNERS)
    )
    for email in owners.all():
        mail = compose(
            "webhook_off",
            to=email,
            tenant=name,
            host=urlsplit(endpoint.url).hostname or "",
            days=FAILING_FOR.days,
            gone=reason == "gone",
            url=f"{public_url.rstrip('/')}/console/webhooks/{endpoint.endpoint_id}",
        )
        await send_mail(session, tenant_id, mail)
