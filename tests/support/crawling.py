"""A room of knowledge that fetches a made-up site."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from stonechat.db.session import Database
from support.knowledge import scratch_knowledge
from support.site import Crawl, Site, serving, web_access


@asynccontextmanager
async def crawling(database: Database, tenant_id: UUID, folder: Path, **options: Any) -> AsyncIterator[Crawl]:
    async with serving(Site()) as site, scratch_knowledge(database, folder) as room:
        web, backend, resolver = web_access(site, **options)
        yield Crawl(replace(room, web=web), tenant_id, site, backend, resolver)
        await web.aclose()
