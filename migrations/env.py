"""Alembic's environment. `stonechat.db.migrate` hands over an open connection; nothing is configured by file."""

from alembic import context

from stonechat.db.tenancy import Base

connection = context.config.attributes["connection"]

context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
