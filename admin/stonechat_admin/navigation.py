"""What stands in the sidebar: the pages that exist, to those whose role reaches them."""

from __future__ import annotations

from collections.abc import Callable
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
        "Your agents",
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
            Entry("billing", "Plan and billing", "/console/billing", "credit-card"),
            Entry("identity-keys", "Identity keys", "/console/identity-keys", "fingerprint"),
        ),
    ),
    (
        "Team",
        (
            Entry("members", "Members", "/console/members", "users"),
            Entry("api-keys", "API keys", "/console/api-keys", "key-round", "admin"),
            Entry("webhooks", "Webhooks", "/console/webhooks", "send", "admin"),
            Entry("audit-log", "Audit log", "/console/audit-log", "scroll-text", "admin"),
            Entry("support", "Support access", "/console/support", "eye", "admin"),
        ),
    ),
)


OPERATOR_GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    (
        "Customers",
        (
            Entry("tenants", "Tenants", "/operator/tenants", "users"),
            Entry("announcements", "Announcements", "/operator/announcements", "send"),
        ),
    ),
    (
        "Money",
        (
            Entry("revenue", "Revenue and margin", "/operator/revenue", "chart-column"),
            Entry("plans", "Plans", "/operator/plans", "scroll-text"),
            Entry("replay", "Replay on a plan", "/operator/replay", "history"),
        ),
    ),
    (
        "Machinery",
        (
            Entry("events", "Inbound events", "/operator/events", "zap"),
            Entry("deliveries", "Outbound webhooks", "/operator/deliveries", "link"),
            Entry("jobs", "Jobs", "/operator/jobs", "refresh-cw"),
            Entry("mail", "Mail", "/operator/mail", "mail"),
            Entry("flags", "Feature flags", "/operator/flags", "settings"),
        ),
    ),
    (
        "Platform",
        (
            Entry("settings", "Settings", "/operator/settings", "palette"),
            Entry("operators", "Operators", "/operator/operators", "shield-check"),
            Entry("audit", "Audit", "/operator/audit", "fingerprint"),
        ),
    ),
)
"""The operators' room has a sidebar of its own."""


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
    hidden = frozenset() if console.standing.sells else frozenset({"billing"})
    return _navigation(request, GROUPS, console.may, hidden=hidden)


def operator_navigation(request: Request) -> Navigation:
    """The sidebar of the operators' room."""
    return _navigation(request, OPERATOR_GROUPS, lambda _role: True)


def _navigation(
    request: Request,
    listed: tuple[tuple[str, tuple[Entry, ...]], ...],
    may: Callable[[Role], bool],
    *,
    hidden: frozenset[str] = frozenset(),
) -> Navigation:
    paths = _paths(request.app)
    groups = []
    for label, entries in listed:
        seen = tuple(e for e in entries if e.href in paths and may(e.role) and e.key not in hidden)
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
