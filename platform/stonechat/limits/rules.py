"""A tenant's rules: how many messages a visitor, an agent and the whole tenant may send."""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import event, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.session import Database
from stonechat.limits.models import LimitRulesRow

REMEMBERED_FOR = timedelta(seconds=3)
READ_FOR = timedelta(seconds=1)
MAX_REMEMBERED = 10_000

PerMinute = Annotated[int, Field(ge=1, le=100_000)]


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class VisitorRules(_Rules):
    """For each visitor, or signed-in user."""

    messages_per_minute: PerMinute = 20
    concurrent: Annotated[int, Field(ge=1, le=100)] = 3
    """Answers being written at once."""


class AgentRules(_Rules):
    """For all visitors of one agent together."""

    messages_per_minute: PerMinute = 600


class TenantRules(_Rules):
    """For all agents of the tenant together."""

    messages_per_minute: PerMinute = 1200


class LimitRules(_Rules):
    """Every limit of a tenant; what is left out has its default."""

    visitor: VisitorRules = VisitorRules()
    agent: AgentRules = AgentRules()
    tenant: TenantRules = TenantRules()


async def get_limits(session: AsyncSession, actor: Actor) -> LimitRules:
    """The tenant's rules, or the defaults."""
    actor.require("read")
    return await _read(session, actor.tenant_id)


async def put_limits(session: AsyncSession, actor: Actor, *, rules: LimitRules) -> LimitRules:
    """Replace the tenant's rules. They hold everywhere within `REMEMBERED_FOR` and `READ_FOR`."""
    actor.require("write")
    stored = rules.model_dump(mode="json")
    statement = insert(LimitRulesRow).values(tenant_id=actor.tenant_id, rules=stored, updated_at=clock.now())
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=[LimitRulesRow.tenant_id],
            set_={"rules": statement.excluded.rules, "updated_at": statement.excluded.updated_at},
        )
    )
    await record_audit(session, actor, "limits.put", detail=stored)
    return rules


async def _read(session: AsyncSession, tenant_id: UUID) -> LimitRules:
    stored = await session.scalar(select(LimitRulesRow.rules).where(LimitRulesRow.tenant_id == tenant_id))
    return LimitRules() if stored is None else LimitRules.model_validate(stored)


class RulesCache:
    """The rules of the tenants that are busy now, a few seconds old at most. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: OrderedDict[UUID, tuple[datetime, LimitRules]] = OrderedDict()

    async def rules_of(self, tenant_id: UUID) -> LimitRules:
        """The tenant's rules, from memory or from the database."""
        kept = self._kept.get(tenant_id)
        if kept is not None:
            if kept[0] > clock.now():
                return kept[1]
            # One asks anew; the others go on with these meanwhile.
            self._kept[tenant_id] = (clock.now() + READ_FOR, kept[1])
        async with self._database.tenant(tenant_id) as session:
            rules = await _read(session, tenant_id)
        self._kept[tenant_id] = (clock.now() + REMEMBERED_FOR, rules)
        self._kept.move_to_end(tenant_id)
        while len(self._kept) > MAX_REMEMBERED:
            self._kept.popitem(last=False)
        return rules

    def forget_after_commit(self, session: AsyncSession, tenant_id: UUID) -> None:
        """Read the tenant's rules anew once `session`, which changes them, has committed."""

        def forget(_session: Session) -> None:
            self._kept.pop(tenant_id, None)

        event.listen(session.sync_session, "after_commit", forget, once=True)
