"""What there is in the database, as its catalogue has it: tables in the order of their foreign keys, months, sequences.

Nothing here is written down by hand, so a table that a migration adds is in the next backup.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter

import asyncpg
from sqlalchemy.engine import make_url

from stonechat.db.session import server_settings
from stonechat.db.tenancy import OWNER
from stonechat.errors import Unavailable

OF_THE_SCHEMA = frozenset({"public.alembic_version", "public.stonechat_partitioned"})
"""Written by migrations. Everything else is data."""
_HERE = "n.nspname in ('public', 'jobs')"
_MONTH = re.compile(r"(20[0-9]{2})(0[1-9]|1[0-2])")

_TABLES = f"""
    select n.nspname || '.' || c.relname as name, c.relforcerowsecurity as forced,
        array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
              order by a.attnum) as columns,
        array(select distinct m.nspname || '.' || f.relname from pg_constraint k
              join pg_class f on f.oid = k.confrelid join pg_namespace m on m.oid = f.relnamespace
              where k.conrelid = c.oid and k.contype = 'f') as refers_to,
        array(select t.tgname::text from pg_trigger t
              where t.tgrelid = c.oid and not t.tgisinternal and t.tgtype & 4 <> 0 and t.tgenabled = 'O') as on_insert
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and not c.relispartition and {_HERE} and c.relowner = current_user::regrole
    order by 1"""  # noqa: S608
_STRANGERS = f"""
    select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and {_HERE} and not exists (
        select 1 from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
    order by 1 limit 1"""  # noqa: S608
_PARTITIONS = f"""
    select p.relname::text as parent, c.relname::text as child
    from pg_inherits i join pg_class p on p.oid = i.inhparent join pg_class c on c.oid = i.inhrelid
    join pg_namespace n on n.oid = p.relnamespace
    where p.relkind = 'p' and {_HERE} order by 1, 2"""  # noqa: S608
_SEQUENCES = f"""
    select n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'S' and {_HERE} and c.relowner = current_user::regrole order by 1"""  # noqa: S608
# A policy that hides rows would make a backup that lacks them and says nothing.
_HIDDEN = f"""
    select n.nspname || '.' || c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    cross join lateral (
        select coalesce(bool_or(p.polpermissive and pg_get_expr(p.polqual, c.oid) = 'true'), false) as all_rows,
            coalesce(bool_or(not p.polpermissive), false) as narrowed
        from pg_policy p
        where p.polrelid = c.oid and p.polcmd in ('*', 'r') and exists (
            select 1 from unnest(p.polroles) r
            where case when r = 0 then true else pg_has_role(current_user, r, 'usage') end)
    ) as policies
    where c.relkind in ('r', 'p') and not c.relispartition and {_HERE}
        and c.relrowsecurity and c.relforcerowsecurity and c.relowner = current_user::regrole
        and (narrowed or not all_rows)
    order by 1"""  # noqa: S608


@dataclass(frozen=True)
class Table:
    """One table, partitions counted as their parent's."""

    name: str
    """With its schema: `public.agents`."""
    columns: tuple[str, ...]
    refers_to: frozenset[str]
    """By foreign keys, itself perhaps among them."""
    forced: bool
    """Row-level security binds its owner, too."""
    on_insert: tuple[str, ...]
    """Triggers that its rows have passed once."""

    @property
    def quoted(self) -> str:
        return quoted(self.name)

    @property
    def column_list(self) -> str:
        return ", ".join(f'"{column}"' for column in self.columns)


@asynccontextmanager
async def owner_connection(owner_url: str, *, name: str, role: str | None = OWNER) -> AsyncIterator[asyncpg.Connection]:
    """A connection in the role that owns the tables, which may take its time. `Unavailable` if it cannot be had.

    With `role` None it is the login's own, where there may be no such role yet.
    """
    url = make_url(owner_url)
    settings = server_settings(role or str(url.username), login=url.username) | {
        "application_name": name,
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": "5s",
    }
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = await asyncpg.connect(dsn, server_settings=settings, timeout=10)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError) as error:
        raise Unavailable(
            f"The database login may not take the role {OWNER} ({error}). Set STONECHAT_OWNER_DATABASE_URL to a login that "
            "may, as for `stonechat migrate`."
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(f"The database cannot be reached: {error or type(error).__name__}.") from None
    try:
        yield connection
    finally:
        try:
            await connection.close(timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # what went wrong before is what matters
            connection.terminate()


async def data_tables(connection: asyncpg.Connection) -> list[Table]:
    """Every table of ours that holds data, each after those that its rows refer to."""
    found = {
        row["name"]: Table(
            row["name"],
            tuple(row["columns"]),
            frozenset(row["refers_to"]),
            row["forced"],
            tuple(row["on_insert"]),
        )
        for row in await connection.fetch(_TABLES)
        if row["name"] not in OF_THE_SCHEMA
    }
    graph = {name: (table.refers_to & found.keys()) - {name} for name, table in found.items()}
    return [found[name] for name in TopologicalSorter(graph).static_order()]


async def months_of(connection: asyncpg.Connection) -> dict[str, list[str]]:
    """By partitioned table, the months (`202611`) that have a partition of their own."""
    months: dict[str, list[str]] = {}
    for parent, child in await connection.fetch(_PARTITIONS):
        month = child.removeprefix(f"{parent}_")
        if is_month(month):
            months.setdefault(parent, []).append(month)
    return months


def is_month(text: str) -> bool:
    """Whether this names a month as partitions do."""
    return _MONTH.fullmatch(text) is not None


async def sequences_of(connection: asyncpg.Connection) -> dict[str, tuple[int, bool]]:
    """By name, the last value and whether it was given out. Sequences are of no snapshot: ask after the rows were read."""
    found = {}
    for (name,) in await connection.fetch(_SEQUENCES):
        row = await connection.fetchrow(f"select last_value, is_called from {quoted(name)}")  # noqa: S608
        found[name] = (row["last_value"], row["is_called"])
    return found


async def hidden_tables(connection: asyncpg.Connection) -> list[str]:
    """Tables of which this role would not see every row."""
    return [name for (name,) in await connection.fetch(_HIDDEN)]


async def first_filled(connection: asyncpg.Connection, tables: list[Table]) -> str | None:
    """A table that holds a row; None if all are empty."""
    for table in tables:
        if await connection.fetchval(f"select exists (select 1 from {table.quoted})"):  # noqa: S608
            return table.name
    return None


async def any_table(connection: asyncpg.Connection) -> str | None:
    """A table of whoever's, that no extension brought along; None if there is none."""
    name: str | None = await connection.fetchval(_STRANGERS)
    return name


async def has_roles(connection: asyncpg.Connection) -> bool:
    """Whether the role that owns the tables exists."""
    found: bool = await connection.fetchval("select exists (select 1 from pg_roles where rolname = $1)", OWNER)
    return found


async def revision_of(connection: asyncpg.Connection) -> str | None:
    """Of the schema; None where there is none."""
    if await connection.fetchval("select to_regclass('public.alembic_version')") is None:
        return None
    revision: str | None = await connection.fetchval("select version_num from public.alembic_version")
    return revision


def quoted(name: str) -> str:
    """`"public"."agents"`. Catalogues hold names that need it; ours need none of it."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split(".", 1))
