"""A tenant whose published agent answers with a model of a fake host."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import text

from stonechat import ids
from stonechat.db.session import Database
from support.assistant import add_provider


@dataclass(frozen=True)
class Site:
    tenant_id: UUID
    agent_id: str
    model: str


async def open_site(
    database: Database,
    tenant_id: UUID,
    *,
    model: str,
    api_key: str | None = None,
    base_url: str | None = None,
    **config: Any,
) -> Site:
    """An agent with this model, and its provider if there is a key: OpenAI's own without a `base_url`."""
    if api_key is not None:
        kind: Any = "openai" if base_url is None else "openai_compatible"
        name = model.partition("/")[0]
        await add_provider(database, tenant_id, name=name, kind=kind, base_url=base_url, api_key=api_key)
    agent_id = ids.new_id("agt")
    values = {"tenant": tenant_id, "agent": agent_id, "config": json.dumps({"name": "Shop", "model": model} | config)}
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                "values (:tenant, :agent, 'Shop', cast(:config as jsonb), 1)"
            ),
            values,
        )
        await session.execute(
            text(
                "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                "values (:tenant, :agent, 1, cast(:config as jsonb), 'test')"
            ),
            values,
        )
    return Site(tenant_id, agent_id, model)
