"""Connections, sessions and transactions. Only this file commits.

A process has one `Database`: an SQLAlchemy engine in the role `stonechat_app`, a few raw asyncpg connections in the same role
for the chat's hot path (one SQL function a phase, one round trip), and an engine in the role `stonechat_platform` for
sweepers and operators. The login may differ from the roles: each connection takes its role when it starts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
from sqlalchemy import AsyncAdaptedQueuePool, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session, SessionTransaction

from stonechat.db.hot import HotConnections
from stonechat.db.tenancy import APP, PLATFORM, TENANT_SETTING, USER_SETTING

STATEMENT_TIMEOUT_SECONDS = 30
POOL_TIMEOUT_SECONDS = 10


class _TenantSession(Session):
    """A session that sets its tenant (and user) at the start of every transaction, for row-level security."""


_SET_TENANT = f"select set_config('{TENANT_SETTING}', $1, true), set_config('{USER_SETTING}', $2, true)"


@event.listens_for(_TenantSession, "after_begin")
def _set_tenant(session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
    tenant_id = session.info.get("tenant_id")
    if tenant_id is not None:
        connection.exec_driver_sql(_SET_TENANT, (str(tenant_id), session.info.get("user_id") or ""))


def server_settings(role: str, *, login: str | None) -> dict[str, str]:
    """What every connection asks of Postgres when it starts. A login that *is* the role need not take it."""
    settings = {
        "application_name": "stonechat",
        "timezone": "UTC",
        "statement_timeout": f"{STATEMENT_TIMEOUT_SECONDS}s",
        "idle_in_transaction_session_timeout": "60s",
        "jit": "off",
    }
    return settings if login == role else settings | {"role": role}


class Database:
    """All of a process's connections to Postgres. Opens nothing until first used; `close` when done.

    `pool_size` is the process's total, shared between the general engine and the hot pool; the platform engine has two
    connections of its own.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        parsed = make_url(url)
        self._dsn = parsed.set(drivername="postgresql")
        hot_size = max(1, pool_size // 2)
        self.engine = self._engine(APP, pool_size=max(1, pool_size - hot_size))
        self.platform_engine = self._engine(PLATFORM, pool_size=2)
        self.hot = HotConnections(self._connect, size=hot_size, wait_seconds=POOL_TIMEOUT_SECONDS)
        """Those of the chat's hot path. Its SQL functions set their tenant themselves."""
        self._sessions = async_sessionmaker(self.engine, sync_session_class=_TenantSession, expire_on_commit=False)
        self._platform_sessions = async_sessionmaker(
            self.platform_engine, sync_session_class=_TenantSession, expire_on_commit=False
        )

    def _engine(self, role: str, *, pool_size: int) -> AsyncEngine:
        return create_async_engine(
            self._dsn.set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_pre_ping=True,
            hide_parameters=True,  # errors are logged, and parameters are what people wrote
            connect_args={"server_settings": server_settings(role, login=self._dsn.username), "timeout": 10},
        )

    @asynccontextmanager
    async def tenant(self, tenant_id: UUID, *, user_id: str | None = None) -> AsyncIterator[AsyncSession]:
        """One transaction as one tenant (and, if given, one of its users): commits at the end, rolls back on error."""
        async with self._sessions(info={"tenant_id": tenant_id, "user_id": user_id}) as session, session.begin():
            yield session

    @asynccontextmanager
    async def directory(self) -> AsyncIterator[AsyncSession]:
        """One transaction as nobody: sees the directory, and no tenant's rows."""
        async with self._sessions() as session, session.begin():
            yield session

    @asynccontextmanager
    async def platform(self) -> AsyncIterator[AsyncSession]:
        """One transaction that may read across tenants, for sweepers and operators; it writes only `PLATFORM_TABLES`."""
        async with self._platform_sessions() as session, session.begin():
            yield session

    async def _connect(self) -> asyncpg.Connection:
        # The functions' statements are look-ups by key: planning them anew never pays.
        asked = server_settings(APP, login=self._dsn.username) | {"plan_cache_mode": "force_generic_plan"}
        return await asyncpg.connect(
            self._dsn.render_as_string(hide_password=False),
            server_settings=asked,
            timeout=10,
            command_timeout=STATEMENT_TIMEOUT_SECONDS,
        )

    def pools(self) -> dict[str, tuple[int, int]]:
        """By pool, how many connections are lent and how many there may be."""
        return {
            "general": _lent(self.engine),
            "platform": _lent(self.platform_engine),
            "hot": (self.hot.in_use, self.hot.size),
        }

    async def close(self) -> None:
        """Close every connection; the next use opens new ones."""
        await self.hot.close()
        await self.engine.dispose()
        await self.platform_engine.dispose()


def _lent(engine: AsyncEngine) -> tuple[int, int]:
    pool = engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)  # noqa: S101
    return pool.checkedout(), pool.size()
