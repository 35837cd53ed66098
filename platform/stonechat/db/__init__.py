"""Postgres: sessions, tenancy, the directory, migrations, and the embedded server."""
