"""A tenant's whole configuration: read, and applied in one transaction or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.accounts.tenants import get_tenant
from stonechat.configuration import agents, bounds, keys, sources, webhooks
from stonechat.configuration.document import VERSION, Configuration, TenantEntry
from stonechat.configuration.means import Means, StagedFiles
from stonechat.configuration.plan import Applied, Work
from stonechat.db.session import Database
from stonechat.errors import Conflict, Unavailable
from stonechat.operator.flags import KNOWN

SECONDS = 45.0
"""Within which a document is applied, or nothing of it is: it ends before anything is committed."""
COMMIT_SECONDS = 15.0
"""For the commit alone. One that takes longer, or breaks off, is asked about."""
ASKED, ASKED_EVERY = 5, 1.0
"""How often the database is asked what became of a commit, and the seconds between."""
AT_ONCE = 2
"""Documents that a process applies: each holds a connection to the database all the while."""
_rooms: WeakKeyDictionary[Database, asyncio.Semaphore] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the document: how it is read, and how it is made so."""

    name: str
    read: Callable[[Work], Awaitable[Any]]
    apply: Callable[[Work, Any], Awaitable[None]]


SECTIONS = (
    Section("secrets", keys.read_secrets, keys.apply_secrets),
    Section("model_providers", keys.read_providers, keys.apply_providers),
    Section("identity_keys", keys.read_identity_keys, keys.apply_identity_keys),
    Section("limits", bounds.read_limits, bounds.apply_limits),
    Section("usage", bounds.read_usage, bounds.apply_usage),
    Section("knowledge", sources.read_knowledge, sources.apply_knowledge),
    Section("agents", agents.read_agents, agents.apply_agents),
    Section("webhook_endpoints", webhooks.read_webhooks, webhooks.apply_webhooks),
)
"""In the order of the document, which is the order of applying it: what others name comes first."""


class _Rehearsed(Exception):
    """Undoes a dry run's transaction."""


async def read_configuration(
    session: AsyncSession, actor: Actor, *, means: Means, content: bool = False
) -> Configuration:
    """What the tenant configured. `content` adds what was written here to the sources. Raises `Conflict` for too much."""
    actor.require("read")
    work = Work(session, actor, means, content=content)
    tenant = await get_tenant(session, actor)
    try:
        async with asyncio.timeout(SECONDS):
            parts = {section.name: await section.read(work) for section in SECTIONS}
    except TimeoutError:
        raise Unavailable("Reading this took too long. Export it without the texts.") from None
    return Configuration(version=VERSION, tenant=TenantEntry(id=tenant.id, name=tenant.name), **parts)


async def apply_configuration(
    database: Database,
    actor: Actor,
    *,
    means: Means,
    wanted: Configuration,
    dry_run: bool = False,
    prune: bool = False,
) -> Applied:
    """Make the tenant's configuration what `wanted` says, in one transaction. Again, it changes nothing.

    What the document does not name stays, unless `prune`; parts that it leaves out stay in any case. A dry run does all of
    it and undoes it, so that it meets every error that there would be. Errors carry the path in the document. `Conflict`
    while another is applied to the tenant.
    """
    actor.require("write")
    staged, transaction = StagedFiles(means.files), ""
    try:
        async with asyncio.timeout(SECONDS) as bound, _rooms.setdefault(database, asyncio.Semaphore(AT_ONCE)):
            # Asked before the transaction begins: who holds one connection and waits for another can wait for ever.
            off = frozenset([key for key in KNOWN if not await means.flags.is_on(key, actor.tenant_id)])
            async with database.tenant(actor.tenant_id) as session:
                work = Work(
                    session, actor, replace(means, files=staged), prune=prune, dry_run=dry_run, switched_off=off
                )
                await _one_at_a_time(session, actor)
                for section in SECTIONS:
                    part = getattr(wanted, section.name)
                    if part is not None:
                        await section.apply(work, part)
                if dry_run:
                    raise _Rehearsed
                if any(change.action != "leave" for change in work.changes):
                    await record_audit(session, actor, "configuration.apply", detail=_counted(work))
                await session.flush()
                await staged.store()
                transaction = (
                    await session.scalar(text("select coalesce(pg_current_xact_id_if_assigned()::text, '')")) or ""
                )
                # Only now: whatever ended it until here undid all of it.
                bound.reschedule(asyncio.get_running_loop().time() + COMMIT_SECONDS)
    except _Rehearsed:
        pass
    except (TimeoutError, DBAPIError, OSError) as error:
        if transaction:
            await _require_committed(database, actor, transaction)
        elif isinstance(error, TimeoutError):
            raise Unavailable("Applying this took too long, and nothing of it was done. Apply it in parts.") from None
        else:
            raise
    return work.result()


async def _require_committed(database: Database, actor: Actor, transaction: str) -> None:
    """Find out what became of a commit that broke off. Raises `Unavailable`, which says so, unless it was done."""
    asked = text("select pg_xact_status(cast(cast(:transaction as text) as xid8))")
    status: str | None = "in progress"
    for _ in range(ASKED):
        try:
            async with asyncio.timeout(COMMIT_SECONDS), database.tenant(actor.tenant_id) as session:
                status = await session.scalar(asked, {"transaction": transaction})
        except (DBAPIError, OSError, TimeoutError):
            status = "in progress"
        if status == "committed":
            return
        if status == "aborted":
            raise Unavailable("The database broke off as this was stored, and nothing of it was done. Apply it again.")
        await asyncio.sleep(ASKED_EVERY)
    raise Unavailable(
        "The database does not say whether this was stored. Apply it again in a minute: what was done stays as it is."
    )


async def _one_at_a_time(session: AsyncSession, actor: Actor) -> None:
    """Two at once would each make what the other makes."""
    name = func.hashtextextended(f"{actor.tenant_id}:configuration", 0)
    if not await session.scalar(select(func.pg_try_advisory_xact_lock(name))):
        raise Conflict("A configuration is being applied at this moment. Try again.", headers={"Retry-After": "5"})


def _counted(work: Work) -> dict[str, Any]:
    actions = [change.action for change in work.changes]
    return {action: actions.count(action) for action in ("create", "change", "remove")} | {"pruned": work.prune}
