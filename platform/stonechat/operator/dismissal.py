"""Ending an operator's rights: sessions, and looks into tenants, end with them."""

from __future__ import annotations

from sqlalchemy import delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import Conflict, NotFound
from stonechat.operator.models import OperatorRow, OperatorSessionRow
from stonechat.operator.operators import Operator, record
from stonechat.operator.support import end_all_grants


async def disable_operator(session: AsyncSession, operator: Operator, *, database: Database, operator_id: str) -> None:
    """End an operator's rights, sessions and looks at once. Raises `Conflict` for oneself, `NotFound`."""
    if operator_id == operator.operator_id:
        raise Conflict("You cannot end your own rights. Ask another operator.")
    ended = update(OperatorRow).where(OperatorRow.operator_id == operator_id, OperatorRow.disabled_at.is_(None))
    found = await session.scalar(ended.values(disabled_at=clock.now()).returning(OperatorRow.operator_id))
    if found is None:
        raise NotFound("There is no such operator any more.")
    await session.execute(delete(OperatorSessionRow).where(OperatorSessionRow.operator_id == operator_id))
    grants = await end_all_grants(session, operator, database=database, operator_id=operator_id)
    await record(session, operator, "operator.disable", subject_id=operator_id, detail={"grants": grants})
