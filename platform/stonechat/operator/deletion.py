"""Deleting a tenant whose time has come: its subscription, its files, its index, its jobs, its rows; each step can be repeated.

What stays: the ledger of use and its sums, what bookkeeping needs of invoices (see `books.py`), what is at Stripe, and the audit
logs. Everything that people wrote or uploaded goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from graphlib import CycleError, TopologicalSorter
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.models import Tenant
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.jobs import forget_jobs
from stonechat.knowledge.deps import Knowledge
from stonechat.operator.books import keep_invoices
from stonechat.operator.models import OperatorAuditRow, TenantDeletionRow

BATCH = 5000
AT_ONCE = 5
"""Tenants a round."""
LONGEST = timedelta(minutes=5)
"""For one of them; what is left goes in the next round."""
DIRECTORIES = (
    "directory_memberships",
    "directory_api_keys",
    "directory_domain_keys",
    "directory_invitations",
    "directory_billing_customers",
)
"""Look-up tables that name tenants; the application writes them without being any tenant."""
_log = logging.getLogger(__name__)

_TABLES = text("""
    select c.relname::text from pg_class c
    where c.relkind in ('r', 'p') and not c.relispartition and c.relrowsecurity and c.relname <> 'tenants'
        and c.relnamespace = 'public'::regnamespace and has_table_privilege(c.oid, 'delete')""")
_REFERENCES = text("""
    select distinct conrelid::regclass::text as child, confrelid::regclass::text as parent from pg_constraint
    where contype = 'f' and conparentid = 0 and conrelid <> confrelid""")


async def delete_due_tenants(database: Database, knowledge: Knowledge, billing: BillingService) -> int:
    """Delete those that are due; what fails is tried again next time. Returns how many are gone."""
    row, done = TenantDeletionRow, 0
    async with database.platform() as session:
        due = select(row.tenant_id).where(row.done_at.is_(None), row.due_at <= clock.now())
        # Who failed goes behind those that waited longer: some that always fail keep nobody from being deleted.
        waited_since = func.coalesce(row.tried_at, row.due_at)
        tenants = list(await session.scalars(due.order_by(waited_since, row.tenant_id).limit(AT_ONCE)))
    for tenant_id in tenants:
        try:
            async with asyncio.timeout(LONGEST.total_seconds()):
                await _delete(database, knowledge, billing, tenant_id)
            done += 1
        except Exception as error:
            _log.warning("Tenant %s could not be deleted yet.", tenant_id, exc_info=True)
            await _failed(database, tenant_id, error)
    return done


async def _failed(database: Database, tenant_id: UUID, error: Exception) -> None:
    """Tell operators what kind of failure it was; its words, which may be about what people wrote, stay in the log."""
    row = TenantDeletionRow
    async with database.platform() as session:
        mine = update(row).where(row.tenant_id == tenant_id, row.done_at.is_(None))
        await session.execute(mine.values(problem=type(error).__name__[:80]))


async def _delete(database: Database, knowledge: Knowledge, billing: BillingService, tenant_id: UUID) -> None:
    row = TenantDeletionRow
    mine = (row.tenant_id == tenant_id) & row.done_at.is_(None)
    async with database.platform() as session:
        now = clock.now()
        tried = {"begun_at": func.coalesce(row.begun_at, now), "tried_at": now, "attempts": row.attempts + 1}
        began = await session.scalar(update(row).where(mine).values(tried).returning(row.asked_by))
        name = await session.scalar(select(row.tenant_name).where(row.tenant_id == tenant_id))
        if began is not None:
            listed = "insert into suspended_tenants (tenant_id, reason, suspended_by) values (:tenant, 'It is deleted.', :by)"
            await session.execute(text(f"{listed} on conflict do nothing"), {"tenant": tenant_id, "by": began})
    if began is None:
        return  # called off meanwhile
    async with database.tenant(tenant_id) as session:  # nobody writes any more while it goes
        await session.execute(update(Tenant).where(Tenant.tenant_id == tenant_id).values(status="suspended"))
    await billing.before_deletion(tenant_id)
    async with database.platform() as session:
        await keep_invoices(session, tenant_id, name=name or "")
    await knowledge.index.drop_tenant(tenant_id)
    await knowledge.files.delete_tenant(tenant_id)
    await delete_rows(database, tenant_id)
    async with database.platform() as session:
        await session.execute(update(row).where(mine).values(done_at=clock.now(), problem=""))
        await session.execute(text("delete from suspended_tenants where tenant_id = :tenant"), {"tenant": tenant_id})
        await session.execute(text("delete from operator_notes where tenant_id = :tenant"), {"tenant": tenant_id})
        await session.execute(text("delete from tenant_summaries where tenant_id = :tenant"), {"tenant": tenant_id})
        await session.execute(text("delete from mail_log where tenant_id = :tenant"), {"tenant": tenant_id})
        session.add(
            OperatorAuditRow(
                audit_id=ids.new_id("aud"),
                occurred_at=clock.now(),
                operator_id=None,
                operator_email=began,
                address="as planned",
                action="tenant.delete",
                tenant_id=tenant_id,
                detail={},
            )
        )


async def delete_rows(database: Database, tenant_id: UUID) -> None:
    """Every row of the tenant's that the application may delete, a batch a transaction, children before their parents."""
    async with database.directory() as session:
        await forget_jobs(session, tenant_id)
        for table in DIRECTORIES:
            await session.execute(text(f"delete from {table} where tenant_id = :tenant"), {"tenant": tenant_id})  # noqa: S608  ours
        ended = "update console_sessions set tenant_id = null where tenant_id = :tenant"
        await session.execute(text(ended), {"tenant": tenant_id})
        tables = await _in_order(session)
    for table in tables:
        # Names come from the catalogue, of tables that our migrations made.
        some = f"select ctid from {table} where tenant_id = :tenant limit {BATCH}"  # noqa: S608
        while True:
            async with database.tenant(tenant_id) as session:
                batch = f"delete from {table} where tenant_id = :tenant and ctid = any(array({some})) returning 1"  # noqa: S608
                gone = len((await session.execute(text(batch), {"tenant": tenant_id})).all())
            if gone < BATCH:
                break
    async with database.tenant(tenant_id) as session:
        await forget_jobs(session, tenant_id)  # and of those that ran meanwhile
        await session.execute(text("delete from tenants where tenant_id = :tenant"), {"tenant": tenant_id})


async def _in_order(session: AsyncSession) -> Sequence[str]:
    tables = set(await session.scalars(_TABLES))
    graph: dict[str, set[str]] = {table: set() for table in tables}
    for child, parent in await session.execute(_REFERENCES):
        if child in tables and parent in tables:
            graph[parent].add(child)  # a parent comes after its children
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError:
        return sorted(tables)  # cascades see to the rest
