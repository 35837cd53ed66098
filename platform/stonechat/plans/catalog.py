"""The plans there are: built in, and published by operators. A published version never changes."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import Conflict, NotFound
from stonechat.plans.models import PlanVersionRow
from stonechat.plans.terms import BUILT_IN, PlanTerms

MAX_PLANS = 100
"""Keys, and versions of each."""


class Catalog:
    """All versions of some plans, in memory: what `plan_terms` and `list_plans` answer from."""

    def __init__(self, rows: Iterable[PlanVersionRow]) -> None:
        self._versions: dict[str, dict[int, PlanTerms]] = {key: {p.version: p} for key, p in BUILT_IN.items()}
        self._retired: set[tuple[str, int]] = set()
        for row in rows:
            self._versions.setdefault(row.key, {})[row.version] = PlanTerms.model_validate(row.terms)
            if row.retired_at is not None:
                self._retired.add((row.key, row.version))

    def newest(self) -> list[PlanTerms]:
        """The newest version of each plan that can still be chosen, the cheapest first."""
        found = []
        for key, versions in self._versions.items():
            offered = [version for version in versions if (key, version) not in self._retired]
            if offered:
                found.append(versions[max(offered)])
        return sorted(found, key=lambda plan: (plan.price_cents, plan.interval, plan.key))

    def get(self, key: str, version: int | None = None) -> PlanTerms | None:
        """That version, retired or not; without a version the newest that can be chosen, else the newest of all."""
        versions = self._versions.get(key, {})
        if version is not None:
            return versions.get(version)
        offered = [number for number in versions if (key, number) not in self._retired] or list(versions)
        return versions[max(offered)] if offered else None


async def load_catalog(session: AsyncSession, *keys: str) -> Catalog:
    """Every version of these plans, or of all. Any session may read."""
    chosen = select(PlanVersionRow).order_by(PlanVersionRow.key, PlanVersionRow.version)
    if keys:
        chosen = chosen.where(PlanVersionRow.key.in_(keys))
    return Catalog(await session.scalars(chosen.limit(MAX_PLANS * MAX_PLANS)))


async def list_plans(session: AsyncSession) -> list[PlanTerms]:
    """The newest version of each plan that can be chosen, the cheapest first; not all are `public`."""
    return (await load_catalog(session)).newest()


async def plan_terms(session: AsyncSession, key: str, *, version: int | None = None) -> PlanTerms:
    """A version of a plan, retired or not; without a version the newest that can be chosen. Raises `NotFound`."""
    terms = (await load_catalog(session, key)).get(key, version)
    if terms is None:
        raise NotFound(f"There is no plan “{key[:40]}”." if version is None else f"“{key[:40]}” has no such version.")
    return terms


async def publish_plan(session: AsyncSession, terms: PlanTerms, *, by: str) -> PlanTerms:
    """Publish `terms` as the next version of its key, whatever version they say; in a platform session.

    Who is on an earlier version stays on it. The same terms again give the version that has them. Raises `Conflict` when
    there are too many plans.
    """
    # One at a time, so that two do not take the same number.
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext("publish_plan"))))
    rows = list(await session.scalars(select(PlanVersionRow).where(PlanVersionRow.key == terms.key)))
    known = Catalog(rows).get(terms.key)
    retired = {row.version for row in rows if row.retired_at is not None}
    if (
        known is not None
        and known.version not in retired
        and known == terms.model_copy(update={"version": known.version})
    ):
        return known
    keys = await session.scalar(select(func.count(func.distinct(PlanVersionRow.key)))) or 0
    newest = max((row.version for row in rows), default=BUILT_IN[terms.key].version if terms.key in BUILT_IN else 0)
    if newest >= MAX_PLANS or (not rows and keys >= MAX_PLANS):
        raise Conflict(f"There are at most {MAX_PLANS} plans, and {MAX_PLANS} versions of each.")
    published = terms.model_copy(update={"version": newest + 1})
    values = {"key": published.key, "version": published.version, "terms": published.model_dump(mode="json")}
    await session.execute(insert(PlanVersionRow).values(**values, published_at=clock.now(), created_by=by))
    return published


async def retire_plan(session: AsyncSession, key: str, *, version: int | None = None, by: str) -> None:
    """Offer a version, or all of a plan, to nobody any more; in a platform session. Who is on it stays on it.

    Twice changes nothing. Raises `NotFound`.
    """
    catalog = await load_catalog(session, key)
    if catalog.get(key, version) is None:
        raise NotFound(f"There is no such plan “{key[:40]}”.")
    built_in = BUILT_IN.get(key)
    if built_in is not None and version in (None, built_in.version):
        values = {"key": key, "version": built_in.version, "terms": built_in.model_dump(mode="json"), "created_by": by}
        await session.execute(insert(PlanVersionRow).values(values).on_conflict_do_nothing())
    ended = update(PlanVersionRow).where(PlanVersionRow.key == key, PlanVersionRow.retired_at.is_(None))
    if version is not None:
        ended = ended.where(PlanVersionRow.version == version)
    await session.execute(ended.values(retired_at=clock.now()))
