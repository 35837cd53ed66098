"""What a run used, for the ledger: when it ends, at checkpoints, and after its process died."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal
from uuid import UUID

from chatkit.types import ThreadItem
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import metrics
from stonechat.assistant.agents import load_config
from stonechat.assistant.meter import CHARACTERS_PER_TOKEN
from stonechat.assistant.models_of_turn import BUILT_IN_PROVIDER
from stonechat.chat import models
from stonechat.chat.codec import parse_item
from stonechat.chat.runs import Run
from stonechat.errors import NotFound
from stonechat.usage.allowance import steps_of
from stonechat.usage.ledger import LedgerEntry, entries_json, hash_user, ledger_entry

ASKED_ITEMS = 50
"""The newest of a thread, which a model is shown at most."""


def entries_of(run: Run) -> list[LedgerEntry]:
    """What the run used so far, an entry for each model."""
    return [
        ledger_entry(
            run.key.tenant_id,
            run.key.user_id,
            agent_id=run.agent_id,
            provider=use.provider,
            model=use.model,
            input_tokens=use.input_tokens,
            output_tokens=use.output_tokens,
            cached_tokens=use.cached_tokens,
            estimated=use.estimated,
        )
        for use in run.usage.uses
    ]


def uses_to_note(run: Run) -> str | None:
    """What a checkpoint tells of the run's use: whenever a model was asked. What it then says can be counted later."""
    asked = tuple((use.provider, use.model, use.input_tokens) for use in run.usage.uses)
    if asked == run.noted_uses:
        return None
    run.noted_uses = asked
    return entries_json(entries_of(run))


def count_end(run: Run, status: str) -> None:
    """Count a run that is over."""
    if run.refusal is not None:
        metrics.BUDGET_REFUSALS.of(run.refusal.reason).add()
    metrics.run_ended(
        run.stop_reason or status,
        seconds=run.trace.now(),
        first_text=run.trace.first_token,
        events=len(run.frames),
        size=run.bytes,
    )


async def crashed_entries(
    session: AsyncSession, tenant_id: UUID, *, run: models.RunRow, said: Iterable[ThreadItem]
) -> list[LedgerEntry]:
    """What a run whose process died used, as far as anyone knows: what the last checkpoint told, and the text it streamed.

    If it died before a checkpoint could tell, its model is taken to have been asked: the provider may well bill for it.
    """
    if run.refused not in (None, "cheaper"):
        return []
    uses: list[dict[str, Any]] = json.loads(run.uses) if run.uses else []
    if not uses:
        uses = [await _first_use(session, tenant_id, run)]
    _add_spoken(uses, _tokens(sum(_spoken(item) for item in said)))
    user = hash_user(tenant_id, run.user_id)
    return [_entry(tenant_id, use, agent_id=run.agent_id, user_hash=user) for use in uses]


def left_entries(run: models.RunLeft) -> list[LedgerEntry]:
    """What a run used whose process died and whose thread is gone: what the last checkpoint told; of what it streamed only
    the number of events is left, and most of them carried a token."""
    uses: list[dict[str, Any]] = json.loads(run.uses)
    if not uses:
        return []
    _add_spoken(uses, run.last_seq)
    return [
        _entry(
            run.tenant_id,
            use,
            agent_id=use["agent_id"],
            user_hash=None if use["user_hash"] is None else bytes.fromhex(use["user_hash"]),
        )
        for use in uses
    ]


def _add_spoken(uses: list[dict[str, Any]], tokens: int) -> None:
    """Of the model that was asked last, what it streamed and nobody counted."""
    last = uses[-1]
    if last["provider"] != BUILT_IN_PROVIDER:
        last["output_tokens"] += max(0, tokens - sum(use["output_tokens"] for use in uses))
        last["estimated"] = True


def _entry(tenant_id: UUID, use: dict[str, Any], *, agent_id: str | None, user_hash: bytes | None) -> LedgerEntry:
    made = ledger_entry(
        tenant_id,
        None,
        agent_id=agent_id,
        provider=use["provider"],
        model=use["model"],
        input_tokens=use["input_tokens"],
        output_tokens=use["output_tokens"],
        cached_tokens=use["cached_tokens"],
        estimated=use["estimated"],
    )
    return replace(made, user_hash=user_hash)


async def _first_use(session: AsyncSession, tenant_id: UUID, run: models.RunRow) -> dict[str, Any]:
    """Asking the agent's own model about the thread as it was when the run began."""
    name, instructions = "", ""
    versions: tuple[int | Literal["draft"], ...] = (run.agent_version or 0, "draft")
    for version in versions:  # of a preview, the number is the draft's own
        try:
            config = await load_config(session, tenant_id, agent_id=run.agent_id or "", version=version)
        except NotFound:
            continue
        name, instructions = config.model, config.instructions
        break
    if run.refused == "cheaper":
        name = (await steps_of(session, tenant_id)).cheaper_model or name
    provider, _, model = name.partition("/") if "/" in name else (BUILT_IN_PROVIDER, "", name or "unknown")
    use = {"provider": provider, "model": model, "input_tokens": 0, "output_tokens": 0, "cached_tokens": 0}
    if provider == BUILT_IN_PROVIDER:
        return use | {"estimated": False}
    row = models.ThreadItem
    stored = await session.scalars(
        select(row.data)
        .where(row.tenant_id == tenant_id, row.thread_id == run.thread_id, row.run_id.is_distinct_from(run.run_id))
        .order_by(row.seq.desc())
        .limit(ASKED_ITEMS)
    )
    characters = len(instructions) + sum(_spoken(parse_item(data)) for data in stored)
    return use | {"input_tokens": _tokens(characters), "estimated": True}


def _spoken(item: ThreadItem) -> int:
    """How many characters a person or an assistant said."""
    content = getattr(item, "content", None)
    if not isinstance(content, list):
        return 0
    return sum(len(getattr(part, "text", "")) for part in content)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)
