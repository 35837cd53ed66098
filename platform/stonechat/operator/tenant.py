"""One tenant as operators see it: figures, plan and rights, notes, looks, and what was done; never what people wrote there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.models import Tenant
from stonechat.accounts.suspension import SuspendedTenantRow
from stonechat.billing.models import BillingCustomerRow, InvoiceRow
from stonechat.errors import NotFound
from stonechat.operator.models import OperatorNoteRow, TenantDeletionRow, TenantSummaryRow
from stonechat.plans.catalog import load_catalog
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.terms import PlanTerms

MONTHS = 12
NOTES, MEMBERS, INVOICES = 50, 20, 12


@dataclass(frozen=True, slots=True)
class Month:
    """A month of a tenant's use."""

    month: date
    answers: int
    tokens: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a tenant has."""

    agents: int
    documents: int
    members: int
    conversations: int
    """Of the last 30 days."""
    tokens_on_no_invoice: int
    """Beyond the plan, too late for the invoice of their period, and not decided about."""


@dataclass(frozen=True, slots=True)
class TenantPage:
    """Everything on the page."""

    tenant: Tenant
    summary: TenantSummaryRow | None
    suspension: SuspendedTenantRow | None
    deletion: TenantDeletionRow | None
    rights: Entitlements
    plans: list[PlanTerms]
    """What it could be put on."""
    counts: Counts
    members: Sequence[Row[Any]]
    months: list[Month]
    notes: list[OperatorNoteRow]
    customer: BillingCustomerRow | None
    invoices: list[InvoiceRow]


_COUNTS = text("""
    select (select count(*) from agents where tenant_id = :tenant and archived_at is null) as agents,
        (select count(*) from documents where tenant_id = :tenant) as documents,
        (select count(*) from memberships where tenant_id = :tenant) as members,
        (select count(*) from (select 1 from threads where tenant_id = :tenant
            and updated_at > now() - interval '30 days' limit 10000) as recent) as conversations,
        (select coalesce(sum(tokens), 0)::bigint from meter_outbox
            where tenant_id = :tenant and state = 'expired' and settlement_id is null) as tokens_on_no_invoice""")
_MEMBERS = text("""
    select p.email, p.name, m.role from memberships m join people p on p.person_id = m.person_id
    where m.tenant_id = :tenant order by m.created_at, p.email limit :most""")
_MONTHS = text("""
    select month, answers, tokens, cost_micros from tenant_months where tenant_id = :tenant
    order by month desc limit :most""")
_ABOUT = (Tenant, TenantSummaryRow, SuspendedTenantRow, TenantDeletionRow, BillingCustomerRow)


async def get_tenant_page(session: AsyncSession, tenant_id: UUID) -> TenantPage:
    """Eight statements, in a platform session. Raises `NotFound`."""
    about = select(*_ABOUT).where(Tenant.tenant_id == tenant_id)
    about = about.select_from(Tenant)
    for row in _ABOUT[1:]:
        about = about.outerjoin(row, row.tenant_id == Tenant.tenant_id)
    found = (await session.execute(about)).one_or_none()
    if found is None:
        raise NotFound("There is no such tenant.")
    tenant, summary, suspension, deletion, customer = found
    values = {"tenant": tenant_id}
    counts = (await session.execute(_COUNTS, values)).mappings().one()
    months = await session.execute(_MONTHS, values | {"most": MONTHS})
    catalog = await load_catalog(session)
    notes = select(OperatorNoteRow).where(OperatorNoteRow.tenant_id == tenant_id)
    invoices = select(InvoiceRow).where(InvoiceRow.tenant_id == tenant_id)
    return TenantPage(
        tenant=tenant,
        summary=summary,
        suspension=suspension,
        deletion=deletion,
        rights=await entitlements(session, tenant_id, catalog=catalog),
        plans=catalog.newest(),
        counts=Counts(**counts),
        members=(await session.execute(_MEMBERS, values | {"most": MEMBERS})).all(),
        months=[Month(*row) for row in months],
        notes=list(await session.scalars(notes.order_by(OperatorNoteRow.note_id.desc()).limit(NOTES))),
        customer=customer,
        invoices=list(await session.scalars(invoices.order_by(InvoiceRow.created_at.desc()).limit(INVOICES))),
    )


async def require_tenant(session: AsyncSession, tenant_id: UUID) -> Tenant:
    """The tenant; raises `NotFound`."""
    tenant = await session.scalar(select(Tenant).where(Tenant.tenant_id == tenant_id))
    if tenant is None:
        raise NotFound("There is no such tenant.")
    return tenant


async def names_of(session: AsyncSession, tenant_ids: set[UUID]) -> dict[UUID, str]:
    """What these tenants are called, those that are gone left out. One statement."""
    if not tenant_ids:
        return {}
    rows = await session.execute(select(Tenant.tenant_id, Tenant.name).where(Tenant.tenant_id.in_(tenant_ids)))
    return {tenant_id: name for tenant_id, name in rows}  # noqa: C416
