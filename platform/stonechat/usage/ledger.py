"""The usage ledger: one row a model call, written in the transaction that finishes the run, never changed after.

`usage_settle` (SQL) is the only way in: it writes entries at the tenant's own prices or the list's, and settles the
tenant's budget with them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import BigInteger, Index, Text, Uuid, bindparam, func, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock, ids
from stonechat.db.tenancy import TenantRow
from stonechat.usage.prices import CURRENCY, MAX_TOKENS, list_price

Purpose = Literal["answer", "title", "summary", "moderation", "transcription", "embedding"]
"""What a model was asked for."""


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One use of one model. Tokens are the provider's own count; models without tokens report 0."""

    entry_id: str
    agent_id: str | None
    user_hash: bytes | None
    """SHA-256 of tenant and user: counts visitors without naming them, and outlives their erasure."""
    purpose: Purpose
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    """Of the input tokens, those that the provider had in its cache."""
    estimated: bool
    """Whether the tokens are our estimate, because the provider did not report them or the answer was cut off."""
    cost_micros: int | None
    """Micro-dollars by the list of public prices; None if it has no price for the model."""
    price_version: str | None
    occurred_at: datetime


class UsageLedgerRow(TenantRow):
    """A ledger entry as stored; the table is partitioned by month of `occurred_at`."""

    __tablename__ = "usage_ledger"
    __table_args__ = (
        Index("usage_ledger_run_idx", "tenant_id", "run_id"),
        Index("usage_ledger_occurred_at_idx", "occurred_at", postgresql_using="brin"),
    )

    occurred_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    entry_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str | None]
    """None for a call that belongs to no answer, such as dictation."""
    agent_id: Mapped[str | None]
    user_hash: Mapped[bytes | None]
    provider: Mapped[str]
    model: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    purpose: Mapped[str] = mapped_column(server_default="answer")
    estimated: Mapped[bool] = mapped_column(server_default=text("false"))
    currency: Mapped[str] = mapped_column(server_default=CURRENCY)
    cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    """None if nobody knows the model's price."""
    price_version: Mapped[str | None]
    """`list:<date>` or `own:<time>`."""


def hash_user(tenant_id: UUID, user_id: str) -> bytes:
    """How the ledger names a user: 32 bytes, different for the same user id of another tenant."""
    return hashlib.sha256(tenant_id.bytes + user_id.encode()).digest()


def ledger_entry(
    tenant_id: UUID,
    user_id: str | None,
    *,
    agent_id: str | None,
    provider: str,
    model: str,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cached_tokens: int = 0,
    estimated: bool = False,
    purpose: Purpose = "answer",
) -> LedgerEntry:
    """An entry at the list's price. Negative counts, which some hosts report on errors, count as 0."""
    taken, given = (min(max(0, tokens), MAX_TOKENS) for tokens in (input_tokens, output_tokens))
    cached = min(max(0, cached_tokens), taken)
    price = list_price(provider, model)
    return LedgerEntry(
        entry_id=ids.new_id("use"),
        agent_id=agent_id,
        user_hash=None if user_id is None else hash_user(tenant_id, user_id),
        purpose=purpose,
        provider=provider,
        model=model,
        input_tokens=taken,
        output_tokens=given,
        cached_tokens=cached,
        estimated=estimated,
        cost_micros=None
        if price is None
        else price.cost(input_tokens=taken, output_tokens=given, cached_tokens=cached),
        price_version=None if price is None else price.version,
        occurred_at=clock.now(),
    )


def entries_json(entries: Sequence[LedgerEntry]) -> str:
    """Entries as `usage_settle` and `chat_finish_turn` take them."""
    return json.dumps(
        [
            {
                "occurred_at": entry.occurred_at.isoformat(),
                "entry_id": entry.entry_id,
                "agent_id": entry.agent_id,
                "user_hash": None if entry.user_hash is None else entry.user_hash.hex(),
                "purpose": entry.purpose,
                "provider": entry.provider,
                "model": entry.model,
                "input_tokens": entry.input_tokens,
                "output_tokens": entry.output_tokens,
                "cached_tokens": entry.cached_tokens,
                "estimated": entry.estimated,
                "cost_micros": entry.cost_micros,
                "price_version": entry.price_version,
            }
            for entry in entries
        ]
    )


_SETTLE = text("select usage_settle(:tenant, :run, :entries)").bindparams(
    bindparam("tenant", type_=Uuid()), bindparam("run", type_=Text()), bindparam("entries", type_=Text())
)


async def settle(session: AsyncSession, tenant_id: UUID, *, run_id: str | None, entries: Sequence[LedgerEntry]) -> None:
    """Write entries, count them against the tenant's budget, and release what the run had reserved.

    Call it once for a run: in the transaction that ends it, and only if that transaction is the one that does.
    """
    values = {"tenant": tenant_id, "run": run_id, "entries": entries_json(entries) if entries else None}
    await session.execute(_SETTLE, values)


async def record_use(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    purpose: Purpose,
    provider: str,
    model: str,
    input_tokens: int,
    output_tokens: int = 0,
    cached_tokens: int = 0,
    estimated: bool = False,
    agent_id: str | None = None,
    user_id: str | None = None,
) -> None:
    """Count a call of a model outside any run, such as dictation. Within a run, `TurnUsage.of` counts."""
    entry = ledger_entry(
        tenant_id,
        user_id,
        agent_id=agent_id,
        provider=provider,
        model=model,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cached_tokens=cached_tokens,
        estimated=estimated,
        purpose=purpose,
    )
    await settle(session, tenant_id, run_id=None, entries=[entry])
