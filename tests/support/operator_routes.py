"""Addresses of the operators' room, read from the application: a new page is walked as soon as it answers."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

DOOR = frozenset({"/operator/login", "/operator/code", "/operator/logout"})


def operator_routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of each."""
    for context in iter_route_contexts(app.routes):
        path = context.path or ""
        if path.startswith("/operator"):
            for method in sorted((context.methods or set()) - {"HEAD", "OPTIONS"}):
                yield method, path


def operator_pages(app: FastAPI, tenant_id: UUID) -> Iterator[str]:
    """Every page and file behind the door, about this tenant where it is about one."""
    for method, path in operator_routes(app):
        if method == "GET" and path not in DOOR:
            yield path.format(tenant_id=tenant_id)
            if path == "/operator/jobs":
                yield from (f"{path}?status={status}" for status in ("queued", "picked"))
            if path.startswith("/operator/replay"):
                yield f"{path}?on=pro"
