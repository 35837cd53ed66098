"""The platform's plans and settings, changed for a test and put back after it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import delete

from stonechat.db.session import Database
from stonechat.plans.models import PlanVersionRow
from stonechat.plans.platform_settings import list_settings, put_setting

OPERATOR = "opr_test"


async def set_platform(database: Database, **settings: Any) -> None:
    """Change settings; None takes one away."""
    async with database.platform() as session:
        for key, value in settings.items():
            await put_setting(session, key, value=value, by=OPERATOR)


@asynccontextmanager
async def platform_put_back(database: Database) -> AsyncIterator[None]:
    """Whatever is set or published meanwhile, is not afterwards."""
    async with database.platform() as session:
        before = await list_settings(session)
    try:
        yield
    finally:
        async with database.platform() as session:
            after = await list_settings(session)
            await session.execute(delete(PlanVersionRow))
        await set_platform(database, **dict.fromkeys(after))
        await set_platform(database, **before)
