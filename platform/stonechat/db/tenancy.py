"""What makes a table a tenant's: the model base here, and the migration operations that put row-level security on it.

Tenancy is enforced twice. Every query names its tenant, and Postgres refuses the rest: each tenant table has
`tenant_id` first in its primary key and in every unique constraint, composite foreign keys, `FORCE ROW LEVEL SECURITY`,
and these policies:

- `tenant_isolation` for `stonechat_app`: rows of the tenant set for this transaction, none when none is set;
- `user_isolation` (restrictive, on tables of visitors' data): once a user is set, only that user's rows;
- `owner_all` for `stonechat_owner`, because FORCE binds the owner too and a backfill that sees nothing changes nothing;
- `platform_read` for `stonechat_platform`: operators and sweepers may look across tenants, and act as one tenant at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import DateTime, MetaData, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OWNER, APP, PLATFORM, BACKUP = "stonechat_owner", "stonechat_app", "stonechat_platform", "stonechat_backup"

TENANT_SETTING = "stonechat.tenant_id"
USER_SETTING = "stonechat.user_id"


class Base(DeclarativeBase):
    """Base of every mapped table."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        }
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy reads this as a class attribute
        str: Text(),
        datetime: DateTime(timezone=True),
        UUID: PG_UUID(as_uuid=True),
        dict[str, Any]: JSONB(),
        list[str]: ARRAY(Text()),
    }


class TenantRow(Base):
    """Base of every row that belongs to one tenant; `tenant_id` leads the primary key."""

    __abstract__ = True

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-1)


class Executes(Protocol):
    """The part of Alembic's `op` that these operations need."""

    def execute(self, sqltext: str) -> None: ...


_TENANT_IS = f"tenant_id = (select nullif(current_setting('{TENANT_SETTING}', true), '')::uuid)"
_USER = f"(select nullif(current_setting('{USER_SETTING}', true), ''))"


def protect_tenant_table(
    op: Executes, table: str, *, grant: str = "select, insert, update, delete", of_user: bool = False
) -> None:
    """Put row-level security on `table` and grant `stonechat_app` what it may do there.

    `of_user` adds the restrictive policy on the column `user_id`. Leave verbs out of `grant` to make a table
    append-only. For a partitioned table call this on the parent alone: partitions are granted to nobody.
    """
    op.execute(f"alter table {table} enable row level security")
    op.execute(f"alter table {table} force row level security")
    op.execute(f"create policy tenant_isolation on {table} to {APP} using ({_TENANT_IS}) with check ({_TENANT_IS})")
    op.execute(f"create policy owner_all on {table} to {OWNER} using (true) with check (true)")
    op.execute(f"create policy platform_read on {table} for select to {PLATFORM} using (true)")
    if of_user:
        own = f"{_USER} is null or user_id = {_USER}"
        op.execute(f"create policy user_isolation on {table} as restrictive to {APP} using ({own}) with check ({own})")
    op.execute(f"grant {grant} on {table} to {APP}")
    op.execute(f"grant select on {table} to {PLATFORM}")


def grant_directory_table(op: Executes, table: str, *, grant: str = "select, insert, update, delete") -> None:
    """Grant the application a look-up table that must be read before the tenant is known (see `db/directory.py`)."""
    op.execute(f"grant {grant} on {table} to {APP}")
    op.execute(f"grant select on {table} to {PLATFORM}")


def grant_platform_table(op: Executes, table: str, *, app: str = "") -> None:
    """Grant operators and sweepers a table that is no tenant's (see `PLATFORM_TABLES` in `db/directory.py`).

    `app` lists what the application may do there as well: nothing, `select`, `insert`, or both.
    """
    op.execute(f"grant select, insert, update, delete on {table} to {PLATFORM}")
    if app:
        op.execute(f"grant {app} on {table} to {APP}")


def partition_by_month(op: Executes, table: str) -> None:
    """Give a table declared `PARTITION BY RANGE` its default partition, the current month and the next two.

    The worker calls `stonechat_ensure_partitions()` daily; the default partition is the net under it.
    """
    op.execute(f"create table {table}_default partition of {table} default")
    op.execute(f"insert into stonechat_partitioned (table_name) values ('{table}')")  # noqa: S608
    op.execute("select stonechat_ensure_partitions()")


@contextmanager
def owner_sees_all(op: Executes, *tables: str) -> Iterator[None]:
    """Within a migration: lift FORCE on `tables` for a backfill over every tenant's rows.

    `row_security = off` turns a table that is still filtered into an error, where it would otherwise silently
    update nothing.
    """
    for table in tables:
        op.execute(f"alter table {table} no force row level security")
    op.execute("set local row_security = off")
    yield
    op.execute("set local row_security = on")
    for table in tables:
        op.execute(f"alter table {table} force row level security")
