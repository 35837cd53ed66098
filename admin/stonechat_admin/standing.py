"""Whether plans are sold here, and what is owed: for the sidebar and the banner of every page, without a statement of its own."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Row, Select, select

from stonechat.accounts.models import Membership, Role, Tenant
from stonechat.billing.dunning import Notice, notice_of
from stonechat.billing.models import BillingCustomerRow
from stonechat.plans.models import PlatformSettingRow, TenantPlanRow
from stonechat.plans.platform_settings import DEFAULT_PLAN
from stonechat.plans.subscription import subscription_of
from stonechat.plans.terms import SELF_HOSTED


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands with whoever runs the platform."""

    sells: bool = False
    """Whether there are plans. On an installation of one's own there are none, and nothing speaks of money."""
    notice: Notice | None = None


NO_BILLING = Standing()
_Found = Row[Role, str, str, TenantPlanRow | None, bool | None, object]


def membership_query(
    tenant_id: UUID, person_id: str
) -> Select[Role, str, str, TenantPlanRow | None, bool | None, object]:
    """The person's role, the tenant's name and status, and what `standing_of` needs, in one row."""
    default = select(PlatformSettingRow.value).where(PlatformSettingRow.key == DEFAULT_PLAN).scalar_subquery()
    return (
        select(
            Membership.role, Tenant.name, Tenant.status, TenantPlanRow, BillingCustomerRow.has_payment_method, default
        )
        .join(Tenant, Tenant.tenant_id == Membership.tenant_id)
        .outerjoin(TenantPlanRow, TenantPlanRow.tenant_id == tenant_id)
        .outerjoin(BillingCustomerRow, BillingCustomerRow.tenant_id == tenant_id)
        .where(Membership.tenant_id == tenant_id, Membership.person_id == person_id)
    )


def standing_of(found: _Found, *, through_stripe: bool) -> Standing:
    """What the row of `membership_query` says."""
    _, _, _, plan, has_payment_method, default = found
    if plan is None:
        return Standing(sells=through_stripe or default not in (None, SELF_HOSTED.key))
    notice = notice_of(subscription_of(plan), has_payment_method=bool(has_payment_method))
    return Standing(sells=through_stripe or plan.plan_key != SELF_HOSTED.key, notice=notice)
