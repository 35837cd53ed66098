"""The features of the tenants that are busy now, a few seconds old at most: for what asks at every turn."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.plans.entitlements import entitlements
from stonechat.plans.terms import Feature

REMEMBERED_FOR = timedelta(seconds=10)
MAX_REMEMBERED = 10_000


class PlanFeatures:
    """One per process."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, tuple[datetime, frozenset[Feature]]] = OrderedDict()

    def get(self, tenant_id: UUID) -> frozenset[Feature] | None:
        """What is remembered, with no I/O."""
        kept = self._kept.get(tenant_id)
        return kept[1] if kept is not None and kept[0] > clock.now() else None

    async def load(self, session: AsyncSession, tenant_id: UUID) -> frozenset[Feature]:
        """What is remembered, or else read in a session of the tenant's."""
        features = self.get(tenant_id)
        if features is None:
            features = (await entitlements(session, tenant_id)).terms.features
            self._kept[tenant_id] = (clock.now() + REMEMBERED_FOR, features)
            self._kept.move_to_end(tenant_id)
            while len(self._kept) > MAX_REMEMBERED:
                self._kept.popitem(last=False)
        return features
