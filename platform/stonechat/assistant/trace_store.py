"""Traces as they are kept: a row a turn, for the people of the tenant, for as long as the operator says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import BigInteger, Index, Select, select, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.accounts.actor import Actor
from stonechat.assistant.trace import Outcome, SpanKind
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.errors import InvalidCursor
from stonechat.usage.ledger import UsageLedgerRow
from stonechat.web import MAX_PAGE, Page, decode_cursor, encode_cursor

SLOW_MS = 10_000
"""Turns that took longer are slow."""
MAX_PURGES = 50
MAX_USES = 50
_PURGE_BATCH = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TurnTraceRow(TenantRow):
    """One turn of an agent. Partitioned by month of `started_at`; written by the function that ends the run."""

    __tablename__ = "turn_traces"
    __table_args__ = (Index("turn_traces_thread_idx", "tenant_id", "thread_id", "started_at"),)

    started_at: Mapped[datetime] = mapped_column(primary_key=True)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    thread_id: Mapped[str]
    user_id: Mapped[str]
    agent_id: Mapped[str | None]
    agent_version: Mapped[int | None]
    outcome: Mapped[str]
    error_code: Mapped[str | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    first_token_ms: Mapped[int | None]
    total_ms: Mapped[int]
    spans_dropped: Mapped[int] = mapped_column(server_default=text("0"))
    spans: Mapped[list[Any]] = mapped_column(JSON, server_default=text("'[]'"))


class SpanView(BaseModel):
    """One step of a turn."""

    kind: SpanKind
    name: str
    start_ms: float
    """Since the turn began."""
    ms: float
    data: dict[str, Any] = {}
    """What the step knows of itself: tokens, scores, what was searched for. Never an answer, never a secret."""
    error: str | None = None


class TraceView(BaseModel):
    """How one answer came about."""

    run_id: str
    thread_id: str
    agent_id: str | None
    agent_version: int | None
    started_at: AwareDatetime
    outcome: Outcome
    error_code: str | None
    provider: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micros: int | None
    """Millionths of a US dollar; null if the price of a model is not known."""
    first_token_ms: int | None
    """Until the visitor saw the first text; null if there was none."""
    total_ms: int
    spans: list[SpanView]
    spans_dropped: int
    """Steps that were too many to keep."""


async def list_traces(
    session: AsyncSession,
    actor: Actor,
    *,
    agent_id: str | None = None,
    outcome: Outcome | None = None,
    slow: bool = False,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[TraceView]:
    """Turns, newest first; `slow` keeps those that took longer than `SLOW_MS`."""
    actor.require("read")
    row = TurnTraceRow
    chosen = select(row).where(row.tenant_id == actor.tenant_id)
    if agent_id is not None:
        if "\x00" in agent_id:
            return Page(data=[])
        chosen = chosen.where(row.agent_id == agent_id)
    if outcome is not None:
        chosen = chosen.where(row.outcome == outcome)
    if slow:
        chosen = chosen.where(row.total_ms > SLOW_MS)
    return await _page(session, chosen, limit=limit, cursor=cursor)


async def traces_of_thread(
    session: AsyncSession, actor: Actor, *, thread_id: str, limit: int = 20, cursor: str | None = None
) -> Page[TraceView]:
    """The turns of one conversation, newest first; none if there is no such conversation."""
    actor.require("read")
    if "\x00" in thread_id:
        return Page(data=[])
    row = TurnTraceRow
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.thread_id == thread_id)
    return await _page(session, chosen, limit=limit, cursor=cursor)


async def find_trace(session: AsyncSession, actor: Actor, *, thread_id: str, run_id: str) -> TraceView | None:
    """The trace of one turn; None if there is none, or none any more."""
    actor.require("read")
    if "\x00" in thread_id + run_id:
        return None
    row = TurnTraceRow
    found = await session.scalar(
        select(row).where(row.tenant_id == actor.tenant_id, row.thread_id == thread_id, row.run_id == run_id).limit(1)
    )
    return None if found is None else _view(found)


async def record_crash(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    run_id: str,
    thread_id: str,
    user_id: str,
    agent_id: str | None,
    agent_version: int | None,
    started_at: datetime,
    ended_at: datetime,
) -> None:
    """The trace of a turn whose process died: its steps are lost, and what it used is what the ledger says by now."""
    use = UsageLedgerRow
    used = (
        await session.execute(
            select(use.provider, use.model, use.input_tokens, use.output_tokens, use.cached_tokens, use.cost_micros)
            .where(use.tenant_id == tenant_id, use.run_id == run_id)
            .limit(MAX_USES)
        )
    ).all()
    costs = [each.cost_micros for each in used]
    session.add(
        TurnTraceRow(
            tenant_id=tenant_id,
            started_at=started_at,
            run_id=run_id,
            thread_id=thread_id,
            user_id=user_id,
            agent_id=agent_id,
            agent_version=agent_version,
            outcome="crashed",
            error_code="crashed",
            provider=used[-1].provider if used else None,
            model=used[-1].model if used else None,
            input_tokens=sum(each.input_tokens for each in used),
            output_tokens=sum(each.output_tokens for each in used),
            cached_tokens=sum(each.cached_tokens for each in used),
            cost_micros=None if None in costs else sum(cost for cost in costs if cost is not None),
            total_ms=max(0, round((ended_at - started_at).total_seconds() * 1000)),
            spans=[],
        )
    )


async def purge_traces(database: Database, *, days: int) -> int:
    """Forget traces older than `days`, in batches. Returns how many rows went beside whole months."""
    purged = 0
    for _ in range(MAX_PURGES):
        async with database.directory() as session:
            gone = await session.scalar(text("select stonechat_purge_traces(:days)"), {"days": days}) or 0
        purged += gone
        if gone < _PURGE_BATCH:
            break
    return purged


async def _page(
    session: AsyncSession, chosen: Select[TurnTraceRow], *, limit: int, cursor: str | None
) -> Page[TraceView]:
    row = TurnTraceRow
    if cursor is not None:
        microseconds, run_id = decode_cursor(cursor, int, str)
        try:
            before = _EPOCH + timedelta(microseconds=microseconds)
        except OverflowError:
            raise InvalidCursor("Use the “next_cursor” of the page before, unchanged, or leave it out.") from None
        chosen = chosen.where(row.started_at <= before, (row.started_at < before) | (row.run_id < run_id))
    limit = max(1, min(limit, MAX_PAGE))
    rows = (await session.scalars(chosen.order_by(row.started_at.desc(), row.run_id.desc()).limit(limit + 1))).all()
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = encode_cursor((last.started_at - _EPOCH) // timedelta(microseconds=1), last.run_id)
    return Page(data=[_view(found) for found in rows[:limit]], next_cursor=following)


def _view(row: TurnTraceRow) -> TraceView:
    return TraceView(**{name: getattr(row, name) for name in TraceView.model_fields})
