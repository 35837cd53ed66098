"""Every model says what its table says: columns, types, nullability, keys and indexes."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

import stonechat
from stonechat.db.tenancy import Base
from support.postgres import TestDatabase

WITHOUT_MODELS = frozenset({"alembic_version", "stonechat_partitioned"})
"""Tables that only SQL touches."""
_SOURCES = Path(stonechat.__file__).parent


def import_models() -> None:
    """Import every module that maps a table."""
    for path in sorted(_SOURCES.rglob("*.py")):
        if "__tablename__" in path.read_text():
            importlib.import_module(".".join(("stonechat", *path.relative_to(_SOURCES).with_suffix("").parts)))


def differences(connection: Connection, metadata: Any = Base.metadata) -> list[str]:
    """What Alembic would change to make the database like the models. Foreign keys stand in the migrations alone."""
    partitions = set(connection.scalars(text("select relname from pg_class where relispartition")))

    def include(_object: object, name: str | None, kind: str, _reflected: bool, _compared_to: object) -> bool:
        return kind != "foreign_key_constraint" and not (kind == "table" and name in partitions | WITHOUT_MODELS)

    options = {"include_object": include, "compare_type": True}
    return [_named(step) for step in compare_metadata(MigrationContext.configure(connection, opts=options), metadata)]


def _named(step: Any) -> str:
    """A step of Alembic's in one line: `modify_type memberships.role …`, `remove_index …`."""
    if isinstance(step, list):  # the changes of one column
        return "; ".join(f"{change[0]} {change[2]}.{change[3]} {change[-2]!r} {change[-1]!r}" for change in step)
    return " ".join(getattr(part, "name", None) or str(part) for part in step if part is not None)


async def test_models_and_tables_are_the_same(test_database: TestDatabase) -> None:
    import_models()
    engine = create_async_engine(test_database.admin_url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.connect() as connection:
            assert await connection.run_sync(differences) == []
    finally:
        await engine.dispose()


async def test_a_difference_would_be_seen(test_database: TestDatabase) -> None:
    import_models()
    engine = create_async_engine(test_database.admin_url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with engine.connect() as connection:
            await connection.execute(text("alter table agents alter column name type varchar(500), add extra int"))
            found = str(await connection.run_sync(differences))
            await connection.rollback()
    finally:
        await engine.dispose()
    assert "modify_type" in found
    assert "extra" in found
