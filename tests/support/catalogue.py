"""Reads a database's own catalogue and lists everything in it that would let one tenant see another."""

from __future__ import annotations

import asyncpg

from stonechat.db.directory import DIRECTORY_TABLES, PLATFORM_TABLES
from stonechat.db.tenancy import APP, OWNER, PLATFORM

DEFINER_FUNCTIONS = frozenset({"stonechat_ensure_partitions", "stonechat_purge_run_events", "stonechat_purge_traces"})
"""Functions that run with their owner's rights and that the application may call. Each needs a reason."""

SEEN_BY_OTHER_USERS = frozenset({"users"})
"""Tables with a `user_id` that are found by other means than by who is asking: a returning visitor has no id yet."""

_IS_TENANT = (
    "(tenant_id = ( SELECT (NULLIF(current_setting('stonechat.tenant_id'::text, true), ''::text))::uuid AS \"nullif\"))"
)
_POLICIES = {
    "tenant_isolation": ([APP], "*", _IS_TENANT, _IS_TENANT),
    "owner_all": ([OWNER], "*", "true", "true"),
    "platform_read": ([PLATFORM], "r", "true", None),
}
_TABLES = """
    select oid, relname, relrowsecurity, relforcerowsecurity, relispartition from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'f') order by relname"""
_POLICIES_OF = """
    select polname, polcmd::text, polpermissive, pg_get_expr(polqual, polrelid) as qual,
        pg_get_expr(polwithcheck, polrelid) as checked,
        array(select coalesce(rolname, 'public') from unnest(polroles) as r left join pg_roles on oid = r) as roles
    from pg_policy where polrelid = $1"""
_NAMES_USERS = "select count(*) > 0 from pg_attribute where attrelid = $1 and attname = 'user_id' and not attisdropped"
_UNIQUES_OF = """
    select c.relname, a.attname, i.indisprimary from pg_index i
    join pg_class c on c.oid = i.indexrelid
    left join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = $1 and i.indisunique"""
_KEYS_OF = """
    select conname, confrelid::regclass::text as target, confdeltype::text as on_delete,
        (select attname from pg_attribute where attrelid = conrelid and attnum = conkey[1]) as first,
        (select attname from pg_attribute where attrelid = confrelid and attnum = confkey[1]) as first_there,
        array(select attname from pg_attribute where attrelid = conrelid
              and attnum = any(coalesce(confdelsetcols, conkey)))::text[] as cleared
    from pg_constraint where conrelid = $1 and contype = 'f' and conparentid = 0"""
_OWNED = """
    select 'table ' || oid::regclass as thing from pg_class where relowner = $1::regrole
    union all select 'function ' || oid::regprocedure from pg_proc where proowner = $1::regrole
    union all select 'type ' || oid::regtype from pg_type where typowner = $1::regrole
    union all select 'schema ' || nspname from pg_namespace where nspowner = $1::regrole"""


async def faults(connection: asyncpg.Connection) -> list[str]:
    """One sentence per fault; empty when the schema keeps tenants apart."""
    found: list[str] = []
    for table in await connection.fetch(_TABLES):
        name = table["relname"]
        if table["relispartition"]:
            found += await _partition_faults(connection, name)
        elif name in PLATFORM_TABLES:
            found += await _platform_table_faults(connection, name)
        elif name not in DIRECTORY_TABLES:
            found += await _tenant_table_faults(connection, table)
        for verb in ("truncate", "references", "trigger"):
            for role in (APP, PLATFORM):
                if await connection.fetchval("select has_table_privilege($1, $2::oid, $3)", role, table["oid"], verb):
                    found.append(f"{role} may {verb} {name}")
    return found + await _role_faults(connection) + await _code_faults(connection)


async def _partition_faults(connection: asyncpg.Connection, name: str) -> list[str]:
    """A partition named directly is read past its parent's policies, so nobody may read it."""
    question = (
        "select has_any_column_privilege($1, $2, 'select, insert, update') or has_table_privilege($1, $2, 'delete')"
    )
    return [
        f"{role} may reach partition {name}"
        for role in (APP, PLATFORM)
        if await connection.fetchval(question, role, name)
    ]


async def _platform_table_faults(connection: asyncpg.Connection, name: str) -> list[str]:
    """What is no tenant's, the application at most reads and adds to."""
    question = "select has_any_column_privilege($1, $2, 'update') or has_table_privilege($1, $2, 'delete')"
    return [f"{APP} may change {name}"] if await connection.fetchval(question, APP, name) else []


async def _tenant_table_faults(connection: asyncpg.Connection, table: asyncpg.Record) -> list[str]:
    name, found = table["relname"], []
    if not (table["relrowsecurity"] and table["relforcerowsecurity"]):
        found.append(f"{name} does not force row-level security")
    column = await connection.fetchrow(
        "select format_type(atttypid, atttypmod) as type, attnotnull from pg_attribute "
        "where attrelid = $1 and attname = 'tenant_id' and not attisdropped",
        table["oid"],
    )
    if column is None or (column["type"], column["attnotnull"]) != ("uuid", True):
        found.append(f"{name} has no tenant_id of type uuid not null")
    policies = await connection.fetch(_POLICIES_OF, table["oid"])
    found += _policy_faults(name, policies)
    apart = any(p["polname"] == "user_isolation" and not p["polpermissive"] and p["roles"] == [APP] for p in policies)
    names_users = await connection.fetchval(_NAMES_USERS, table["oid"])
    if names_users and not apart and name not in SEEN_BY_OTHER_USERS:
        found.append(f"{name} names users, and keeps them apart by no policy")
    uniques = await connection.fetch(_UNIQUES_OF, table["oid"])
    if not any(unique["indisprimary"] for unique in uniques):
        found.append(f"{name} has no primary key")
    found += [
        f"{name}: unique {u['relname']} does not begin with tenant_id" for u in uniques if u["attname"] != "tenant_id"
    ]
    for key in await connection.fetch(_KEYS_OF, table["oid"]):
        if key["target"] not in DIRECTORY_TABLES | PLATFORM_TABLES and (key["first"], key["first_there"]) != (
            "tenant_id",
            "tenant_id",
        ):
            found.append(f"{name}: foreign key {key['conname']} does not begin with tenant_id")
        if key["on_delete"] in ("n", "d") and "tenant_id" in key["cleared"]:
            found.append(f"{name}: foreign key {key['conname']} would clear tenant_id")
    return found


def _policy_faults(name: str, policies: list[asyncpg.Record]) -> list[str]:
    found = []
    there = {policy["polname"]: policy for policy in policies}
    for wanted, (roles, command, qual, checked) in _POLICIES.items():
        policy = there.get(wanted)
        if policy is None:
            found.append(f"{name} lacks the policy {wanted}")
        elif (policy["roles"], policy["polcmd"], policy["qual"], policy["checked"]) != (roles, command, qual, checked):
            found.append(f"{name}: the policy {wanted} is not the usual one")
    for policy in policies:
        if policy["polpermissive"] and policy["polname"] not in _POLICIES:
            found.append(f"{name}: the policy {policy['polname']} permits more than the usual ones")
    return found


async def _role_faults(connection: asyncpg.Connection) -> list[str]:
    found = []
    for role in (APP, PLATFORM):
        found += [f"{role} owns {row['thing']}" for row in await connection.fetch(_OWNED, role)]
        powers = await connection.fetchrow(
            "select rolsuper or rolbypassrls or rolcreaterole or rolreplication as mighty, "
            "pg_has_role(rolname, $2, 'member') as as_owner from pg_roles where rolname = $1",
            role,
            OWNER,
        )
        if powers["mighty"] or powers["as_owner"]:
            found.append(f"{role} has powers beyond its grants")
        for schema in ("public", "jobs"):
            if await connection.fetchval("select has_schema_privilege($1, $2, 'create')", role, schema):
                found.append(f"{role} may create things in {schema}")
    written = await connection.fetch(
        "select c.oid::regclass::text as name from pg_class c "
        "where relnamespace in ('public'::regnamespace, 'jobs'::regnamespace) and relkind in ('r', 'p', 'v', 'm', 'f') "
        "and (has_any_column_privilege($1, c.oid, 'insert, update') or has_table_privilege($1, c.oid, 'delete'))",
        PLATFORM,
    )
    return found + [f"{PLATFORM} may write to {row['name']}" for row in written if row["name"] not in PLATFORM_TABLES]


async def _code_faults(connection: asyncpg.Connection) -> list[str]:
    functions = await connection.fetch(
        "select proname, coalesce(array_to_string(proconfig, ','), '') as config from pg_proc "
        "where pronamespace in ('public'::regnamespace, 'jobs'::regnamespace) and prosecdef "
        "and has_function_privilege($1, oid, 'execute')",
        APP,
    )
    found = [
        f"{APP} may call {function['proname']}, which runs with its owner's rights"
        for function in functions
        if function["proname"] not in DEFINER_FUNCTIONS
    ]
    found += [f"{f['proname']} trusts the caller's search_path" for f in functions if "search_path=" not in f["config"]]
    views = await connection.fetch(
        "select relname, relkind::text, coalesce(array_to_string(reloptions, ','), '') as options from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind in ('v', 'm') and has_table_privilege($1, oid, 'select')",
        APP,
    )
    return found + [
        f"view {view['relname']} reads with its owner's rights"
        for view in views
        if view["relkind"] == "m"
        or not any(o in view["options"] for o in ("security_invoker=true", "security_invoker=on"))
    ]
