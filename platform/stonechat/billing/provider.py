"""What every way of paying can do, and the shapes it speaks in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from stonechat.plans.subscription import Provider

ChangeKind = Literal["subscribe", "upgrade", "downgrade", "same"]


@dataclass(frozen=True, slots=True)
class ChangeLine:
    """One line of what a change costs; credits are negative."""

    description: str
    amount_cents: int


@dataclass(frozen=True, slots=True)
class ChangePreview:
    """What changing to a plan means, before it is done. Amounts are in hundredths of `currency`, tax included."""

    kind: ChangeKind
    from_plan: str | None
    """Key of the plan that is paid for now; None without one."""
    to_plan: str
    currency: str
    due_now_cents: int
    """Charged at once; negative where the customer is left with credit."""
    tax_now_cents: int
    next_cents: int
    """The price of each period from then on, before tax and discounts."""
    takes_effect_at: datetime | None
    """None: at once."""
    lines: tuple[ChangeLine, ...] = ()
    trial_days: int = 0
    """Free days that come first."""
    notes: tuple[str, ...] = ()
    """What it means for the tokens of this period, and for a trial; in sentences."""


class BillingProvider(Protocol):
    """A way of paying. All but `sync_customer` raise `BillingOff` where they do not fit, and `UpstreamFailed` or
    `UpstreamTimedOut` while whoever is behind it cannot be reached. Nothing here is called from a chat."""

    @property
    def name(self) -> Provider:
        """What `tenant_plans.provider` says."""
        ...

    async def checkout(self, tenant_id: UUID, plan_key: str, *, return_url: str) -> str:
        """The URL where a first subscription to the plan is confirmed; it comes back to `return_url`."""
        ...

    async def portal(self, tenant_id: UUID, *, return_url: str) -> str:
        """The URL where cards, addresses and tax ids are changed."""
        ...

    async def preview_change(self, tenant_id: UUID, plan_key: str) -> ChangePreview:
        """What `change_plan` would do and cost."""
        ...

    async def change_plan(self, tenant_id: UUID, plan_key: str) -> None:
        """Go up at once, paying the difference; go down at the period's end. Twice changes nothing."""
        ...

    async def cancel(self, tenant_id: UUID, *, at_period_end: bool) -> None:
        """End the subscription, with the period or at once. Twice changes nothing."""
        ...

    async def resume(self, tenant_id: UUID) -> None:
        """Take back a cancellation or a change that has not happened yet."""
        ...

    async def sync_customer(self, tenant_id: UUID) -> None:
        """Replace what we hold about the tenant's subscription and invoices by what is so there."""
        ...
