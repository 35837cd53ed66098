"""Outbound webhooks of all tenants as operators see them: what became of each, and sending one again.

Never what was sent or answered, nor an address past its host: those are the tenant's own, and open by a look only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.operator.operators import Operator, record
from stonechat.webhooks.deliveries import STATUSES, replay_delivery

ROWS = 50
MAX_EXPORTED = 20_000
MAX_COUNTED = 10_000
"""Counts stop here: what is more says no more."""
STATUS_WORDS = {"failed": "failed", "queued": "wait", "delivered": "delivered"}


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """A delivery, without its content."""

    delivery_id: str
    endpoint_id: str
    tenant_id: UUID
    kind: str
    host: str
    enabled: bool
    """Of its endpoint: to one that is off nothing is sent, not even again."""
    status: str
    attempts: int
    last_status: int | None
    error: str
    created_at: datetime
    next_attempt_at: datetime | None


_LIST = """
    select d.delivery_id, d.endpoint_id, d.tenant_id, d.kind, e.url, e.enabled, d.status, d.attempts, d.last_status,
        d.last_error as error, d.created_at, d.next_attempt_at
    from (select * from webhook_deliveries
          where {chosen} order by created_at desc, delivery_id desc limit :most) d
    join webhook_endpoints e on e.tenant_id = d.tenant_id and e.endpoint_id = d.endpoint_id
    order by d.created_at desc, d.delivery_id desc"""
# The first line is what an index can begin from; the second settles ties.
_BEFORE = """created_at <= (
    select created_at from webhook_deliveries where tenant_id = :before_tenant and delivery_id = :before)
    and (created_at, delivery_id) < (
    select created_at, delivery_id from webhook_deliveries where tenant_id = :before_tenant and delivery_id = :before)"""
_COUNT = text("""
    select s.status, (select count(*) from (select 1 from webhook_deliveries d
        where d.status = s.status and d.created_at > now() - interval '1 day' limit :most) as counted)
    from unnest(cast(:statuses as text[])) as s(status)""")


async def list_deliveries(
    session: AsyncSession, *, status: str = "", tenant: str = "", before: str = "", limit: int = ROWS
) -> tuple[list[DeliveryLine], str | None]:
    """Newest first, and the `before` of the next page. `tenant` is an id; what is none finds nothing."""
    chosen, values = ["true"], {"most": min(limit, MAX_EXPORTED) + 1}
    found: dict[str, Any] = dict(values)
    if status in STATUSES:
        chosen.append("status = :status")
        found["status"] = status
    if tenant.strip():
        try:
            found["tenant"] = UUID(tenant.strip())
        except ValueError:
            return [], None
        chosen.append("tenant_id = :tenant")
    tenant_text, _, delivery_id = before.partition(":")
    if delivery_id and "\x00" not in delivery_id:
        try:
            found["before_tenant"], found["before"] = UUID(tenant_text), delivery_id
        except ValueError:
            return [], None
        chosen.append(_BEFORE)
    rows = [
        _line(row) for row in (await session.execute(text(_LIST.format(chosen=" and ".join(chosen))), found)).mappings()
    ]
    last = rows[limit - 1] if len(rows) > limit else None
    return rows[:limit], f"{last.tenant_id}:{last.delivery_id}" if last else None


async def count_deliveries(session: AsyncSession) -> dict[str, int]:
    """How many of the last day are in each state, counted up to ten thousand."""
    counted = await session.execute(_COUNT, {"statuses": list(STATUSES), "most": MAX_COUNTED})
    return {status: number for status, number in counted}  # noqa: C416


async def replay(
    platform: AsyncSession,
    operator: Operator,
    *,
    database: Database,
    tenant_id: UUID,
    endpoint_id: str,
    delivery_id: str,
) -> None:
    """Send it again, as the tenant could: it stands in both audit logs. Raises `NotFound`, `Conflict` where it is off."""
    if "\x00" in endpoint_id + delivery_id:
        raise NotFound("There is no such delivery.")
    actor = Actor(tenant_id, "operator", operator.operator_id, frozenset({"write"}))
    async with database.tenant(tenant_id) as session:
        await replay_delivery(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id)
    await record(platform, operator, "webhook.replay", tenant_id=tenant_id, subject_id=delivery_id)


def _line(row: Any) -> DeliveryLine:
    values = dict(row)
    values["host"] = urlsplit(values.pop("url")).hostname or ""
    return DeliveryLine(**values)
