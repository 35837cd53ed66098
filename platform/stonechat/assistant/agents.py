"""What can be done with an agent: create, edit the draft, publish, roll back, archive, delete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Select, and_, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.assistant.config import AgentConfig, merge_patch, parse_config
from stonechat.assistant.models import Agent, AgentVersion
from stonechat.assistant.plan_features import features_of
from stonechat.errors import AgentNotPublished, Conflict, EditConflict, InvalidInput, NotFound
from stonechat.plans.entitlements import require_feature, require_room
from stonechat.plans.terms import Feature
from stonechat.providers.service import require_model
from stonechat.settings import Settings
from stonechat.web.paging import MAX_PAGE, Page, decode_cursor, encode_cursor
from stonechat.webhooks.fan_out import tell

MAX_AGENTS = 200
"""Per tenant, archived ones included."""
_MAX_VERSION = 2**31 - 1


class AgentView(BaseModel):
    """An agent as its tenant sees it."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    draft: AgentConfig
    draft_revision: int
    published_version: int | None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    archived_at: AwareDatetime | None


class AgentVersionView(BaseModel):
    """One published version."""

    model_config = ConfigDict(frozen=True)

    agent_id: str
    version: int
    config: AgentConfig
    published_by: str
    published_at: AwareDatetime


async def create_agent(session: AsyncSession, actor: Actor, *, config: Mapping[str, Any]) -> AgentView:
    """A new agent whose draft is `config`; nothing is published. Raises `InvalidInput`, `PlanLimitReached`, `FeatureNotInPlan`."""
    actor.require("write")
    draft = parse_config(config)
    held = await session.scalar(select(func.count()).select_from(Agent).where(Agent.tenant_id == actor.tenant_id))
    if (held or 0) >= MAX_AGENTS:
        raise Conflict(f"There are already {MAX_AGENTS} agents. Delete one that is not used.")
    await require_agent(session, actor.tenant_id)
    await require_feature(session, actor.tenant_id, *features_of(draft))
    agent = Agent(tenant_id=actor.tenant_id, agent_id=ids.new_id("agt"), name=draft.name, draft=draft.as_json())
    session.add(agent)
    await session.flush()
    await session.refresh(agent)
    await record_audit(session, actor, "agent.create", subject_id=agent.agent_id)
    return _view(agent)


async def get_agent(session: AsyncSession, actor: Actor, *, agent_id: str) -> AgentView:
    """One agent, archived or not, or `NotFound`."""
    actor.require("read")
    return _view(await _load(session, actor.tenant_id, agent_id))


async def list_agents(
    session: AsyncSession, actor: Actor, *, limit: int = 20, cursor: str | None = None, archived: bool = False
) -> Page[AgentView]:
    """The tenant's agents, newest first, without the archived ones unless `archived`."""
    actor.require("read")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_PAGE}.")
    chosen = select(Agent).where(Agent.tenant_id == actor.tenant_id).order_by(Agent.agent_id.desc()).limit(limit + 1)
    if not archived:
        chosen = chosen.where(Agent.archived_at.is_(None))
    if cursor is not None:
        (last,) = decode_cursor(cursor, str)
        chosen = chosen.where(Agent.agent_id < last)
    agents = list(await session.scalars(chosen))
    more = len(agents) > limit
    page = agents[:limit]
    return Page(data=[_view(agent) for agent in page], next_cursor=encode_cursor(page[-1].agent_id) if more else None)


async def patch_draft(
    session: AsyncSession, actor: Actor, *, agent_id: str, patch: Mapping[str, Any], revision: int | None = None
) -> AgentView:
    """Lay `patch` over the draft (RFC 7396: null means the default). A patch that changes nothing keeps the revision.

    Raises `EditConflict` when `revision` is given and the draft has moved on since.
    """
    actor.require("write")
    agent = await _load(session, actor.tenant_id, agent_id, lock=True)
    if revision is not None and revision != agent.draft_revision:
        raise EditConflict(
            "Someone else changed this agent in the meantime. Load it again and repeat the change.",
            draft_revision=agent.draft_revision,
        )
    draft = parse_config(merge_patch(agent.draft, patch))
    if draft.as_json() != agent.draft:
        held = features_of(AgentConfig.model_validate(agent.draft))
        await require_feature(session, actor.tenant_id, *(features_of(draft) - held))
        agent.name, agent.draft = draft.name, draft.as_json()
        agent.draft_revision += 1
        agent.updated_at = clock.now()
        changed = {"revision": agent.draft_revision, "fields": sorted(patch)}
        await record_audit(session, actor, "agent.edit", subject_id=agent_id, detail=changed)
    return _view(agent)


async def publish_agent(
    session: AsyncSession, actor: Actor, *, agent_id: str, settings: Settings, revision: int | None = None
) -> AgentVersionView:
    """Make the draft what visitors meet. An unchanged draft gives the version that is already published.

    Raises `ModelUnknown` when nothing here could answer with the draft's model, and `EditConflict` when `revision` is given
    and the draft has moved on since, so that nobody publishes what they have not seen.
    """
    actor.require("write")
    agent = await _load_active(session, actor, agent_id)
    if revision is not None and revision != agent.draft_revision:
        raise EditConflict(
            "Someone else changed this agent in the meantime. Look at what would be published, then publish.",
            draft_revision=agent.draft_revision,
        )
    return await _publish(session, actor, agent, config=parse_config(agent.draft), settings=settings)


async def publish_config(
    session: AsyncSession, actor: Actor, *, agent_id: str, config: AgentConfig, settings: Settings
) -> AgentVersionView:
    """Publish a configuration, whatever the draft is, which stays as it is. The same gives the version that is published."""
    actor.require("write")
    return await _publish(
        session, actor, await _load_active(session, actor, agent_id), config=config, settings=settings
    )


async def rollback_agent(
    session: AsyncSession, actor: Actor, *, agent_id: str, version: int, settings: Settings
) -> AgentVersionView:
    """Publish a copy of an earlier version as the next one. The draft stays as it is."""
    actor.require("write")
    agent = await _load_active(session, actor, agent_id)
    earlier = await _load_version(session, actor.tenant_id, agent_id, version)
    return await _publish(session, actor, agent, config=parse_config(earlier.config), settings=settings)


async def list_versions(
    session: AsyncSession, actor: Actor, *, agent_id: str, limit: int = 50, before: int | None = None
) -> list[AgentVersionView]:
    """The newest `limit` versions, newest first; of those before version `before`."""
    actor.require("read")
    await _load(session, actor.tenant_id, agent_id)
    chosen = select(AgentVersion).where(AgentVersion.tenant_id == actor.tenant_id, AgentVersion.agent_id == agent_id)
    if before is not None:
        chosen = chosen.where(AgentVersion.version < min(max(before, 0), _MAX_VERSION))
    rows = await session.scalars(chosen.order_by(AgentVersion.version.desc()).limit(min(max(limit, 1), MAX_PAGE + 1)))
    return [_version_view(row) for row in rows]


async def live_versions(
    session: AsyncSession, actor: Actor, *, agent_ids: Sequence[str]
) -> dict[str, AgentVersionView]:
    """What visitors meet of each of these agents, by agent; agents that were never published are left out."""
    actor.require("read")
    rows = await session.scalars(
        select(AgentVersion)
        .join(
            Agent,
            and_(
                Agent.tenant_id == AgentVersion.tenant_id,
                Agent.agent_id == AgentVersion.agent_id,
                Agent.published_version == AgentVersion.version,
            ),
        )
        .where(AgentVersion.tenant_id == actor.tenant_id, AgentVersion.agent_id.in_(agent_ids[:MAX_AGENTS]))
    )
    return {row.agent_id: _version_view(row) for row in rows}


async def archive_agent(session: AsyncSession, actor: Actor, *, agent_id: str) -> AgentView:
    """Retire an agent: it answers no one and leaves the lists; conversations stay. Twice changes nothing."""
    actor.require("write")
    agent = await _load(session, actor.tenant_id, agent_id, lock=True)
    if agent.archived_at is None:
        agent.archived_at = agent.updated_at = clock.now()
        await record_audit(session, actor, "agent.archive", subject_id=agent_id)
    return _view(agent)


async def restore_agent(session: AsyncSession, actor: Actor, *, agent_id: str) -> AgentView:
    """Take back `archive_agent`: what was published answers again. Twice changes nothing."""
    actor.require("write")
    agent = await _load(session, actor.tenant_id, agent_id, lock=True)
    if agent.archived_at is not None:
        await require_agent(session, actor.tenant_id)
        agent.archived_at, agent.updated_at = None, clock.now()
        await record_audit(session, actor, "agent.restore", subject_id=agent_id)
    return _view(agent)


async def delete_agent(session: AsyncSession, actor: Actor, *, agent_id: str) -> None:
    """Delete an agent, its versions and its domain keys. Conversations stay, without their agent."""
    actor.require("admin")
    await _load(session, actor.tenant_id, agent_id, lock=True)
    await session.execute(delete(Agent).where(Agent.tenant_id == actor.tenant_id, Agent.agent_id == agent_id))
    await record_audit(session, actor, "agent.delete", subject_id=agent_id)


async def published_version(session: AsyncSession, tenant_id: UUID, *, agent_id: str) -> int:
    """The version that visitors meet now. Raises `NotFound` (also when archived) or `AgentNotPublished`."""
    agent = await _load(session, tenant_id, agent_id)
    if agent.archived_at is not None:
        raise NotFound("This agent was retired.")
    if agent.published_version is None:
        raise AgentNotPublished
    return agent.published_version


async def load_config(
    session: AsyncSession, tenant_id: UUID, *, agent_id: str, version: int | Literal["draft"]
) -> AgentConfig:
    """The configuration of one version (never changes; see `ConfigCache`), or of the draft as it is now."""
    if version == "draft":
        return AgentConfig.model_validate((await _load(session, tenant_id, agent_id)).draft)
    return AgentConfig.model_validate((await _load_version(session, tenant_id, agent_id, version)).config)


async def require_agent(session: AsyncSession, tenant_id: UUID) -> None:
    """Raise `PlanLimitReached` unless the plan has room for another agent; retired ones take none."""
    await require_room(session, tenant_id, "agents", used=agents_at_work(tenant_id))


def agents_at_work(tenant_id: UUID) -> Select[int]:
    """The query that counts agents that are not retired."""
    return select(func.count()).select_from(Agent).where(Agent.tenant_id == tenant_id, Agent.archived_at.is_(None))


async def _publish(
    session: AsyncSession, actor: Actor, agent: Agent, *, config: AgentConfig, settings: Settings
) -> AgentVersionView:
    await require_model(session, actor, model=config.model, settings=settings)
    held: frozenset[Feature] = frozenset()
    if agent.published_version is not None:
        current = await _load_version(session, actor.tenant_id, agent.agent_id, agent.published_version)
        published = AgentConfig.model_validate(current.config)
        if published == config:
            return _version_view(current)
        held = features_of(published)
    # What visitors have been offered may stay published with a change of words; what the plan lacks does not work anyway.
    await require_feature(session, actor.tenant_id, *(features_of(config) - held))
    newest = await session.scalar(
        select(func.max(AgentVersion.version)).where(
            AgentVersion.tenant_id == actor.tenant_id, AgentVersion.agent_id == agent.agent_id
        )
    )
    version = AgentVersion(
        tenant_id=actor.tenant_id,
        agent_id=agent.agent_id,
        version=(newest or 0) + 1,
        config=config.as_json(),
        published_by=f"{actor.kind}:{actor.id}" if actor.id else actor.kind,
        published_at=clock.now(),
    )
    session.add(version)
    agent.published_version = version.version
    agent.updated_at = clock.now()
    await record_audit(session, actor, "agent.publish", subject_id=agent.agent_id, detail={"version": version.version})
    told = {"agent_id": agent.agent_id, "name": agent.name, "version": version.version}
    await tell(session, actor.tenant_id, "agent.published", told)
    return _version_view(version)


async def _load(session: AsyncSession, tenant_id: UUID, agent_id: str, *, lock: bool = False) -> Agent:
    chosen = select(Agent).where(Agent.tenant_id == tenant_id, Agent.agent_id == agent_id)
    if lock:
        chosen = chosen.with_for_update().execution_options(populate_existing=True)
    agent = await session.scalar(chosen)
    if agent is None:
        raise NotFound("There is no such agent.")
    return agent


async def _load_active(session: AsyncSession, actor: Actor, agent_id: str) -> Agent:
    agent = await _load(session, actor.tenant_id, agent_id, lock=True)
    if agent.archived_at is not None:
        raise Conflict("This agent is retired. Bring it back, then publish.")
    return agent


async def _load_version(session: AsyncSession, tenant_id: UUID, agent_id: str, version: int) -> AgentVersion:
    if not 1 <= version < 2**31:
        raise NotFound("This agent has no such version.")
    row = await session.scalar(
        select(AgentVersion).where(
            AgentVersion.tenant_id == tenant_id, AgentVersion.agent_id == agent_id, AgentVersion.version == version
        )
    )
    if row is None:
        raise NotFound("This agent has no such version.")
    return row


def _view(agent: Agent) -> AgentView:
    return AgentView(
        id=agent.agent_id,
        name=agent.name,
        draft=AgentConfig.model_validate(agent.draft),
        draft_revision=agent.draft_revision,
        published_version=agent.published_version,
        created_at=agent.created_at,
        updated_at=agent.updated_at,
        archived_at=agent.archived_at,
    )


def _version_view(row: AgentVersion) -> AgentVersionView:
    return AgentVersionView(
        agent_id=row.agent_id,
        version=row.version,
        config=AgentConfig.model_validate(row.config),
        published_by=row.published_by,
        published_at=row.published_at,
    )
