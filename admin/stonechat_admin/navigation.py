"""What stands in the sidebar: the pages that exist, to those whose role reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import Request

from stonechat.accounts.models import Role

if TYPE_CHECKING:
    from stonechat_admin.auth import Console


@dataclass(frozen=True, slots=True)
class Entry:
    """One link. It shows once a view answers at `href`."""

    key: str
    label: str
    href: str
    icon: str
    role: Role = "viewer"


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("", (Entry("start", "Start", "/console", "house"),)),
    (
        "Assistants",
        (
            Entry("agents", "Agents", "/console/agents", "bot"),
            Entry("knowledge", "Knowledge", "/console/knowledge", "book-open"),
            Entry("conversations", "Conversations", "/console/conversations", "messages-square"),
            Entry("model-providers", "Model providers", "/console/model-providers", "sparkles"),
            Entry("secrets", "Secrets", "/console/secrets", "lock"),
        ),
    ),
    (
        "Your site",
        (
            Entry("install", "Install", "/console/install", "code"),
            Entry("limits", "Limits", "/console/limits", "gauge"),
            Entry("usage", "Usage", "/console/usage", "chart-column"),
            Entry("identity-keys", "Identity keys", "/console/identity-keys", "fingerprint"),
        ),
    ),
    (
        "Team",
        (
            Entry("members", "Members", "/console/members", "users"),
            Entry("api-keys", "API keys", "/console/api-keys", "key-round", "admin"),
            Entry("audit-log", "Audit log", "/console/audit-log", "scroll-text", "admin"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Group:
    label: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Navigation:
    groups: tuple[Group, ...]
    current: str
    """The key of the entry that the page belongs to."""


def navigation_for(request: Request, console: Console | None) -> Navigation:
    """The sidebar of one request; empty for who is not signed in."""
    if console is None:
        return Navigation((), "")
    paths = _paths(request.app)
    groups = []
    for label, entries in GROUPS:
        seen = tuple(entry for entry in entries if entry.href in paths and console.may(entry.role))
        if seen:
            groups.append(Group(label, seen))
    path = request.url.path
    within = [
        entry
        for group in groups
        for entry in group.entries
        if path == entry.href or (entry.key != "start" and path.startswith(entry.href + "/"))
    ]
    return Navigation(tuple(groups), within[0].key if within else "")


@cache
def _paths(app: FastAPI) -> frozenset[str]:
    return frozenset(context.path for context in iter_route_contexts(app.routes) if context.path is not None)
