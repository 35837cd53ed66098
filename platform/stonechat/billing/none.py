"""Nobody pays: an installation of one's own."""

from __future__ import annotations

from typing import NoReturn
from uuid import UUID

from stonechat.billing.provider import ChangePreview
from stonechat.errors import BillingOff
from stonechat.plans.subscription import Provider


class NoBilling:
    """The provider of those who run Stonechat for themselves. There is nothing to buy, and nothing to end."""

    name: Provider = "none"

    async def checkout(self, tenant_id: UUID, plan_key: str, *, return_url: str) -> str:  # noqa: ARG002
        """Raises `BillingOff`, as do all but `sync_customer`."""
        self._refuse()

    async def portal(self, tenant_id: UUID, *, return_url: str) -> str:  # noqa: ARG002
        """See `checkout`."""
        self._refuse()

    async def preview_change(self, tenant_id: UUID, plan_key: str) -> ChangePreview:  # noqa: ARG002
        """See `checkout`."""
        self._refuse()

    async def change_plan(self, tenant_id: UUID, plan_key: str) -> None:  # noqa: ARG002
        """See `checkout`."""
        self._refuse()

    async def cancel(self, tenant_id: UUID, *, at_period_end: bool) -> None:  # noqa: ARG002
        """See `checkout`."""
        self._refuse()

    async def resume(self, tenant_id: UUID) -> None:  # noqa: ARG002
        """See `checkout`."""
        self._refuse()

    async def sync_customer(self, tenant_id: UUID) -> None:
        """Nothing to look at."""

    def _refuse(self) -> NoReturn:
        raise BillingOff("Nothing is sold here. Whoever runs this platform decides what you may use.")
