"""For test suites outside this project: a store on real tables that needs no set-up and no event loop of its own."""

from __future__ import annotations

import asyncio
import atexit
import secrets
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.chat.store import PostgresStore
from stonechat.db.migrate import is_current
from stonechat.db.session import Database
from stonechat.local import local_services, prepare_given_database
from stonechat.settings import Settings

Result = TypeVar("Result")

_NO_SUCH_ROLE = frozenset({"22023", "42501", "42704", "28000"})
"""What Postgres answers to a login that asks for a role that it may not take, or that does not exist yet."""
_THIS_PROCESS = uuid.uuid4()
"""Names are of one process: those of another run, or of another process, are other tenants."""


class DetachedPostgresStore(PostgresStore[Any]):
    """A `PostgresStore` that is built without I/O and used from any event loop.

    Each name is a tenant of its own, without a name the store has one to itself. The context is any object with
    `user_id`, or a mapping. Postgres is found when it is first needed: `DATABASE_URL`, brought to the newest schema if it is not, or the
    embedded one under `STONECHAT_DATA_DIR`.
    """

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.tenant_id = uuid.uuid5(_THIS_PROCESS, name if name is not None else f"\x00{secrets.token_hex(16)}")
        self._tenant_exists = False

    def scope(self, context: Any) -> tuple[UUID, str]:
        user_id = context["user_id"] if isinstance(context, Mapping) else context.user_id
        return self.tenant_id, str(user_id)

    def agent_of(self, context: Any) -> str | None:  # noqa: ARG002  threads here belong to no agent
        return None

    @asynccontextmanager
    async def _open(self, context: Any) -> AsyncIterator[tuple[AsyncSession, UUID, str]]:
        tenant_id, user_id = self.checked_scope(context)
        database = _elsewhere.database
        if not self._tenant_exists:
            async with database.tenant(tenant_id) as session:
                await session.execute(
                    text("insert into tenants (tenant_id, name) values (:id, :name) on conflict do nothing"),
                    {"id": tenant_id, "name": "Detached store"},
                )
            self._tenant_exists = True
        async with database.tenant(tenant_id, user_id=user_id) as session:
            yield session, tenant_id, user_id


class _Elsewhere:
    """A thread with an event loop and the database, started when first used and ended with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._database: Database | None = None
        self._thread: threading.Thread | None = None
        self._stopping = asyncio.Event()

    @property
    def database(self) -> Database:
        assert self._database is not None, "asked within the thread, which has opened it"  # noqa: S101
        return self._database

    async def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do the work on the thread's loop, and wait for it on this one."""
        loop = await asyncio.to_thread(self._started)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                ready: Future[asyncio.AbstractEventLoop] = Future()
                self._thread = threading.Thread(target=self._live, args=(ready,), name="stonechat-testing", daemon=True)
                self._thread.start()
                self._loop = ready.result()
                atexit.register(self.stop)
            return self._loop

    def _live(self, ready: Future[asyncio.AbstractEventLoop]) -> None:
        try:
            given = Settings()
            with local_services(given) as settings:
                if given.database_url is not None:
                    asyncio.run(_prepare(given))
                asyncio.run(self._serve(settings, ready))
        except BaseException as error:
            if ready.done():
                raise
            ready.set_exception(error)

    async def _serve(self, settings: Settings, ready: Future[asyncio.AbstractEventLoop]) -> None:
        assert settings.database_url is not None  # noqa: S101
        self._stopping = asyncio.Event()
        self._database = Database(settings.database_url, pool_size=4)
        try:
            ready.set_result(asyncio.get_running_loop())
            await self._stopping.wait()
        finally:
            await self._database.close()

    def stop(self) -> None:
        """Close the database and end the thread; the next use starts anew."""
        atexit.unregister(self.stop)
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is not None and self._thread is not None:
                loop.call_soon_threadsafe(self._stopping.set)
                self._thread.join(timeout=30)


async def _prepare(settings: Settings) -> None:
    """Roles and schema, where the database that `DATABASE_URL` names lacks them.

    A login that may not look into the schema's version may not change it either: it works with what an owner prepared.
    """
    assert settings.owner_database_url is not None  # noqa: S101
    try:
        if await is_current(settings.owner_database_url):
            return
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in _NO_SUCH_ROLE:
            raise
    connection = await asyncpg.connect(settings.database_url, timeout=10)
    try:
        prepared = await connection.fetchval("select to_regclass('public.threads') is not null")
        may = await connection.fetchval("select rolsuper or rolcreaterole from pg_roles where rolname = current_user")
    finally:
        await connection.close()
    if may or not prepared:
        await prepare_given_database(settings)


_elsewhere = _Elsewhere()


def _detached(name: str) -> Any:
    inner = getattr(PostgresStore, name)

    async def method(self: DetachedPostgresStore, *args: Any, **kwargs: Any) -> Any:
        return await _elsewhere.run(inner(self, *args, **kwargs))

    method.__name__, method.__doc__ = name, inner.__doc__
    return method


for _name in (
    "load_thread",
    "save_thread",
    "load_threads",
    "delete_thread",
    "load_thread_items",
    "load_visible_items",
    "add_thread_item",
    "save_item",
    "load_item",
    "delete_thread_item",
    "delete_items_after",
    "save_feedback",
    "save_attachment",
    "load_attachment",
    "delete_attachment",
):
    setattr(DetachedPostgresStore, _name, _detached(_name))
