"""Agents: their drafts, what of them is published, and the keys under which sites show them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import cast

from sqlalchemy import select

from stonechat.assistant import agents as verbs
from stonechat.assistant.agents import MAX_AGENTS
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.models import Agent, AgentVersion
from stonechat.configuration.document import AgentEntry, DomainKeyEntry
from stonechat.configuration.plan import Work, differing, paired
from stonechat.errors import Conflict
from stonechat.identity import domain_keys
from stonechat.identity.domain_keys import DomainKeyPatch, NewDomainKey
from stonechat.identity.models import DomainKey
from stonechat.identity.origins import Environment, normalise_origins

MAX_DOMAIN_KEYS = 5_000
"""Of all agents together, in one document."""


async def read_agents(work: Work) -> list[AgentEntry]:
    """The agents at work, in the order in which they were made. Retired ones are left out."""
    rows = [row for row in await _agents(work) if row.archived_at is None]
    published = await _published(work, rows)
    keys = await _domain_keys(work)
    return [
        AgentEntry(
            id=row.agent_id,
            draft=(draft := AgentConfig.model_validate(row.draft)),
            published="draft" if published.get(row.agent_id) == draft else published.get(row.agent_id),
            domain_keys=[_key_entry(key) for key in keys[row.agent_id]],
        )
        for row in rows
    ]


async def apply_agents(work: Work, entries: Sequence[AgentEntry]) -> None:
    """Make and change agents, publish what is to be published, and set up their domain keys.

    A retired agent that is named by its id comes back. Agents that are not named are retired, where that is asked for.
    """
    named = {entry.id for entry in entries}
    found, others = paired(
        entries,
        [row for row in await _agents(work) if row.archived_at is None or row.agent_id in named],
        path="agents",
        entry_id=lambda entry: entry.id,
        row_id=lambda row: row.agent_id,
        entry_name=lambda entry: entry.draft.name,
        row_name=lambda row: row.name,
    )
    for row in others:
        if work.left_over("agent", row.name):
            await verbs.archive_agent(work.session, work.actor, agent_id=row.agent_id)
    published = await _published(work, [row for row in found if row is not None])
    keys = await _domain_keys(work)
    for number, (entry, agent) in enumerate(zip(entries, found, strict=True)):
        path = f"agents.{number}"
        agent_id = await _apply_agent(work, entry, agent, published.get(agent.agent_id) if agent else None, path=path)
        if entry.domain_keys is not None:
            await _apply_keys(work, agent_id, entry, keys[agent_id], path=path)


async def _apply_agent(
    work: Work, entry: AgentEntry, row: Agent | None, published: AgentConfig | None, *, path: str
) -> str:
    """The agent's id, once its draft and what visitors meet are as the document says."""
    session, actor, draft = work.session, work.actor, entry.draft
    changed: list[str] = []
    if row is None:
        with work.at(f"{path}.draft"):
            agent_id = (await verbs.create_agent(session, actor, config=draft.as_json())).id
    else:
        agent_id = row.agent_id
        if row.archived_at is not None:
            with work.at(path):
                await verbs.restore_agent(session, actor, agent_id=agent_id)
            changed.append("retired")
        before, after = AgentConfig.model_validate(row.draft).as_json(), draft.as_json()
        if before != after:
            patch = {name: value for name, value in after.items() if value != before[name]}
            with work.at(f"{path}.draft"):
                await verbs.patch_draft(session, actor, agent_id=agent_id, patch=patch)
            changed += [f"draft.{name}" for name in differing(before, after)]
    wanted = draft if entry.published == "draft" else entry.published
    if wanted is not None and wanted != published and await _publish(work, agent_id, wanted, path=path):
        changed.append("published")
    if row is None:
        work.done("create", "agent", draft.name, path=path)
    elif changed:
        work.done("change", "agent", draft.name, path=path, fields=changed)
    else:
        work.same()
    return agent_id


async def _publish(work: Work, agent_id: str, config: AgentConfig, *, path: str) -> bool:
    """Publish, unless its model waits for a key that nobody has given yet: that is asked for."""
    provider = config.model.partition("/")[0]
    if "/" in config.model and provider in work.waiting_providers:
        work.ask(f"{path}.published", f"The agent “{config.name}” is published once “{provider}” has its key.")
        return False
    with work.at(f"{path}.published"):
        work.require_flag("publishing")
        await verbs.publish_config(
            work.session, work.actor, agent_id=agent_id, config=config, settings=work.means.settings
        )
    return True


async def _apply_keys(work: Work, agent_id: str, entry: AgentEntry, rows: Sequence[DomainKey], *, path: str) -> None:
    session, actor, entries = work.session, work.actor, entry.domain_keys or []
    found, others = paired(
        entries,
        rows,
        path=f"{path}.domain_keys",
        entry_id=lambda key: key.id,
        row_id=lambda row: row.domain_key_id,
        entry_name=lambda key: key.name,
        row_name=lambda row: row.name,
    )
    for row in others:
        if work.left_over("domain key", row.name):
            await domain_keys.revoke_domain_key(session, actor, agent_id=agent_id, domain_key_id=row.domain_key_id)
    for number, (key, held) in enumerate(zip(entries, found, strict=True)):
        where = f"{path}.domain_keys.{number}"
        with work.at(where):
            wanted = key.model_dump(exclude={"id"})
            wanted["origins"] = normalise_origins(key.origins, environment=key.environment)
            if held is None:
                made = await domain_keys.create_domain_key(
                    session, actor, agent_id=agent_id, new=NewDomainKey(**wanted)
                )
                work.done("create", "domain key", key.name, path=where)
                # Of a dry run the key is gone again when this is read.
                which = "the new domain key" if work.dry_run else f"the new domain key {made.key}"
                work.ask(where, f"Put {which} into the pages that show “{entry.draft.name}” ({key.name}).")
            elif changed := differing(_key_entry(held).model_dump(exclude={"id"}), wanted):
                patch = DomainKeyPatch.model_validate({name: wanted[name] for name in changed})
                await domain_keys.patch_domain_key(
                    session, actor, agent_id=agent_id, domain_key_id=held.domain_key_id, patch=patch
                )
                work.done("change", "domain key", key.name, path=where, fields=changed)
            else:
                work.same()


async def _agents(work: Work) -> list[Agent]:
    chosen = select(Agent).where(Agent.tenant_id == work.actor.tenant_id).order_by(Agent.agent_id).limit(MAX_AGENTS)
    return list(await work.session.scalars(chosen.execution_options(populate_existing=True)))


async def _published(work: Work, rows: Sequence[Agent]) -> dict[str, AgentConfig]:
    """What visitors meet, by agent. Nothing of those that were never published."""
    versions = {row.agent_id: row.published_version for row in rows if row.published_version is not None}
    chosen = select(AgentVersion.agent_id, AgentVersion.version, AgentVersion.config).join(
        Agent,
        (Agent.tenant_id == AgentVersion.tenant_id)
        & (Agent.agent_id == AgentVersion.agent_id)
        & (Agent.published_version == AgentVersion.version),
    )
    found = await work.session.execute(
        chosen.where(AgentVersion.tenant_id == work.actor.tenant_id, AgentVersion.agent_id.in_(versions))
    )
    return {agent_id: AgentConfig.model_validate(config) for agent_id, _, config in found}


async def _domain_keys(work: Work) -> defaultdict[str, list[DomainKey]]:
    """The keys that are not revoked, by agent, in the order in which they were made. Raises `Conflict` for too many."""
    row = DomainKey
    chosen = select(row).where(row.tenant_id == work.actor.tenant_id, row.revoked_at.is_(None))
    rows = list(await work.session.scalars(chosen.order_by(row.domain_key_id).limit(MAX_DOMAIN_KEYS + 1)))
    if len(rows) > MAX_DOMAIN_KEYS:
        raise Conflict(f"There are more than {MAX_DOMAIN_KEYS:,} domain keys, which is more than one document holds.")
    found: defaultdict[str, list[DomainKey]] = defaultdict(list)
    for key in rows:
        found[key.agent_id].append(key)
    return found


def _key_entry(row: DomainKey) -> DomainKeyEntry:
    return DomainKeyEntry(
        id=row.domain_key_id,
        name=row.name,
        environment=cast("Environment", row.environment),
        origins=row.origins,
        openai_domain_key=row.openai_domain_key,
    )
