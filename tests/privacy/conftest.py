"""Whoever sweeps through all tenants goes through this room's only."""

from __future__ import annotations

from support.databases import database, make_tenant, tenant_id, test_database

__all__ = ["database", "make_tenant", "tenant_id", "test_database"]
