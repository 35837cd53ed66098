"""Roles, database and schema: what `stonechat migrate` does.

`ensure_roles` needs a login that may create roles (the embedded superuser, or an administrator's); `migrate` runs in the
role `stonechat_owner`, one migration a transaction, with a lock timeout so that it gives way rather than blocks the site.
"""

from __future__ import annotations

import re
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

import stonechat
from stonechat.db.session import server_settings
from stonechat.db.tenancy import APP, BACKUP, OWNER, PLATFORM
from stonechat.errors import Unavailable

LOCK_TIMEOUT_SECONDS = 5
_MIGRATION_LOCK = 7_265_001
_SAFE_NAME = re.compile(r"\A[A-Za-z_][A-Za-z0-9_-]{0,62}\Z")


def migrations_folder() -> Path:
    """Inside the installed package, or beside the sources."""
    package = Path(stonechat.__file__).parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent.parent / "migrations"


async def create_database(admin_url: str, name: str) -> None:
    """Create the database, owned by `stonechat_owner`, unless it exists. Roles must exist."""
    _check_name(name)
    connection = await asyncpg.connect(admin_url)
    try:
        if not await connection.fetchval("select 1 from pg_database where datname = $1", name):
            await connection.execute(f'create database "{name}" owner {OWNER}')
    finally:
        await connection.close()


async def ensure_roles(admin_url: str, *, logins: dict[str, str] | None = None, web_login: str | None = None) -> None:
    """Create the four roles where missing, and let them into the database of `admin_url`.

    `logins` (name → password) are made and become members of app and platform; `web_login` exists already and becomes
    one. The administrator becomes a member of the owner role, so that the same URL can run migrations. What was done
    before, by this or by hand, is left alone. Raises `Unavailable` where the administrator's rights do not suffice.
    """
    connection = await asyncpg.connect(admin_url)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            for role in (OWNER, APP, PLATFORM):
                await _ensure_role(connection, role, "nologin")
            if await connection.fetchval("select rolsuper from pg_roles where rolname = current_user"):
                await _ensure_role(connection, BACKUP, "nologin bypassrls")
                await connection.execute(f"grant pg_read_all_data to {BACKUP}")
            user = await connection.fetchval("select current_user")
            for role in (OWNER, APP, PLATFORM):
                await _ensure_member(connection, user, role)
            for login, password in (logins or {}).items():
                _check_name(login)
                literal = await connection.fetchval("select quote_literal($1::text)", password)
                await _ensure_role(connection, login, "login noinherit")
                await connection.execute(f'alter role "{login}" password {literal}')
            for login in {*(logins or {}), *([web_login] if web_login else [])} - {user}:
                _check_name(login)
                for role in (APP, PLATFORM):
                    await _ensure_member(connection, login, role)
            await _admit_owner(connection)
    except asyncpg.InsufficientPrivilegeError as error:
        raise Unavailable(
            f"The database login may not prepare the roles ({error}). Let an administrator run `stonechat migrate` once "
            "with STONECHAT_OWNER_DATABASE_URL, or create the roles by hand as docker/postgres-init.sh does."
        ) from None
    finally:
        await connection.close()


async def migrate(owner_url: str, *, revision: str = "head") -> list[str]:
    """Bring the schema up to `revision`. Returns the revisions that were applied, oldest first."""
    engine = _owner_engine(owner_url)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("select pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.commit()
            before = await connection.run_sync(_current)
            await connection.commit()
            await connection.run_sync(_upgrade, revision)
            await connection.commit()
            after = await connection.run_sync(_current)
            await connection.execute(text("select pg_advisory_unlock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.commit()
    finally:
        await engine.dispose()
    if after is None or before == after:
        return []
    script = ScriptDirectory.from_config(_config())
    return [step.revision for step in script.iterate_revisions(after, before)][::-1]


async def is_current(owner_url: str) -> bool:
    """Whether the schema is at the newest revision that this version of Stonechat knows."""
    engine = _owner_engine(owner_url)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_current) == head_revision()
    finally:
        await engine.dispose()


def head_revision() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def revisions() -> list[str]:
    """Every revision that this version of Stonechat knows, oldest first."""
    return [step.revision for step in ScriptDirectory.from_config(_config()).walk_revisions()][::-1]


def _owner_engine(owner_url: str) -> AsyncEngine:
    url: URL = make_url(owner_url).set(drivername="postgresql+asyncpg")
    settings = server_settings(OWNER, login=url.username) | {
        "lock_timeout": f"{LOCK_TIMEOUT_SECONDS}s",
        "statement_timeout": "0",
        "application_name": "stonechat-migrate",
    }
    return create_async_engine(url, poolclass=NullPool, connect_args={"server_settings": settings, "timeout": 10})


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def _current(connection: Connection) -> str | None:
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


async def _ensure_role(connection: asyncpg.Connection, role: str, options: str) -> None:
    if not await connection.fetchval("select 1 from pg_roles where rolname = $1", role):
        await connection.execute(f'create role "{role}" {options}')


async def _ensure_member(connection: asyncpg.Connection, login: str, role: str) -> None:
    """Let a login take a role, unless it may already."""
    may = "select pg_has_role($1, $2, case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end)"
    if not await connection.fetchval(may, login, role):
        await connection.execute(f'grant {role} to "{login}"')


async def _admit_owner(connection: asyncpg.Connection) -> None:
    """Let the owner role make tables and a schema in a database that somebody else owns."""
    rights = f"has_schema_privilege('{OWNER}', 'public', 'create'), has_database_privilege('{OWNER}', current_database(), 'create')"
    in_schema, in_database = await connection.fetchrow(f"select {rights}")
    if not in_schema:
        await connection.execute(f"grant usage, create on schema public to {OWNER}")
    if not in_database:
        name = await connection.fetchval("select quote_ident(current_database())")
        await connection.execute(f"grant create on database {name} to {OWNER}")


def _check_name(name: str) -> None:
    if not _SAFE_NAME.match(name):
        raise ValueError(f"not a usable name for a role or database: {name!r}")
