"""Every route of the console, by every role: what a role may is done, the rest is refused by the server.

The routes are read from the application, and the role that each asks for from its dependency: a new page is walked as
soon as it answers. A page that asks for no role is a failure, but for those that people without one need.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from stonechat.accounts.models import Role
from stonechat_admin.auth import require
from stonechat_admin.render import POLICY
from support.console import ROLES, Answer, Browser, ConsoleWorld, console_world
from support.furnishing import Furniture, furniture
from support.postgres import TestDatabase

FOR_ANYBODY = {"/console/login", "/console/forgot", "/console/sign-up", "/console/invitation", "/setup"}
FOR_THE_SIGNED_IN = {"/console/logout", "/console/tenants"}
"""People who are members of nothing, too."""
ASSETS = "/console/assets/"
ROLE_IN_THE_VIEW: dict[tuple[str, str], Role] = {
    ("POST", "/console/model-providers/{provider_id}/test"): "editor",
    ("POST", "/console/agents/{agent_id}/abilities/try"): "editor",
    ("POST", "/console/agents/{agent_id}/abilities/offers"): "editor",
    ("GET", "/console/billing/change/cost"): "admin",
    ("POST", "/console/billing/change"): "admin",
    ("POST", "/console/billing/portal"): "admin",
    ("GET", "/console/billing/returned"): "admin",
    ("POST", "/console/billing/cancel"): "admin",
    ("POST", "/console/billing/resume"): "admin",
    ("POST", "/console/billing/overage"): "admin",
    ("GET", "/console/billing/conversations.jsonl"): "admin",
}
"""Routes that ask for their role themselves, because they hold no transaction meanwhile."""

FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/console/agents"): {"data": {"name": "Robin"}},
    ("POST", "/console/agents/{agent_id}/rollback"): {"data": {"version": "1"}},
    ("POST", "/console/agents/{agent_id}/abilities/tools/{tool_name}/remove"): {"data": {"revision": "2"}},
    ("POST", "/console/api-keys"): {"data": {"name": "Import", "scopes": "read"}},
    ("POST", "/console/knowledge/documents"): {"files": {"file": ("a.md", b"# A\n\nB.")}},
    ("POST", "/console/knowledge/texts"): {"data": {"name": "Hours", "text": "Open from nine to five."}},
    ("POST", "/console/knowledge/questions"): {"data": {"question": "When?", "answer": "From nine to five."}},
    ("POST", "/console/invitations"): {"data": {"email": "somebody-new@example.com", "role": "viewer"}},
    ("POST", "/console/members/{person_id}/role"): {"data": {"role": "editor"}},
    ("POST", "/console/install/{agent_id}/keys"): {"data": {"name": "Shop", "site": "https://shop.example"}},
    ("POST", "/console/install/{agent_id}/keys/{key_id}"): {
        "data": {"name": "Shop", "environment": "production", "site": "https://shop.example"}
    },
    ("POST", "/console/knowledge/sites"): {"data": {"type": "url", "url": "https://shop.example/help"}},
    ("POST", "/console/knowledge/sites/{source_id}/schedule"): {"data": {"schedule": "daily"}},
    ("POST", "/console/knowledge/unanswered/{group_id}/answer"): {
        "data": {"question": "Where?", "answer": "In the north."}
    },
    ("POST", "/console/conversations/{thread_id}/reply"): {"data": {"text": "I am here."}},
    ("POST", "/console/conversations/{thread_id}/status"): {"data": {"status": "locked"}},
    ("GET", "/console/conversations/{thread_id}/citations"): {"params": {"item": "{item_id}", "index": "0"}},
    ("POST", "/console/limits"): {
        "data": {
            "visitor_messages": "20",
            "visitor_concurrent": "3",
            "agent_messages": "600",
            "tenant_messages": "1200",
        }
    },
    ("POST", "/console/model-providers/{provider_id}/key"): {"data": {"api_key": "sk-another"}},
    ("POST", "/console/webhooks"): {"data": {"url": "https://shop.example/hooks", "all": "on"}},
    ("GET", "/console/billing/change"): {"params": {"plan": "pro"}},
    ("POST", "/console/billing/change"): {"data": {"plan": "pro"}},
    ("GET", "/console/agents/{agent_id}/playground/passages"): {
        "params": {"thread": "{thread_id}", "item": "{item_id}"}
    },
}
"""What somebody types there. A route that is not here is sent an empty form, and may find fault with it."""

NOTHING_THERE = {
    "/console/conversations/{thread_id}/citations",
    "/console/knowledge/documents/{document_id}/edit",
    "/console/knowledge/documents/{document_id}/edit/text",
    "/console/knowledge/documents/{document_id}/edit/pairs",
}
"""What is found in some conversations and documents only, and not in those made here; 404 is right for others."""

NOTHING_SOLD = {
    ("POST", "/console/billing/change"),
    ("POST", "/console/billing/portal"),
    ("POST", "/console/billing/cancel"),
    ("POST", "/console/billing/resume"),
}
"""What there is nobody for to do it, where no plans are sold: see `test_billing.py` for where they are."""
ELSEWHERE = {"/console/billing/returned"}
"""Where people come by on their way to another page."""

ASKED_BY_SCRIPTS = {"/console/agents/{agent_id}/playground/session"}
"""What no form is sent to."""

DOWNLOADS = {
    "/console/agents/{agent_id}/look/frame",
    "/console/billing/conversations.jsonl",
    "/console/knowledge/documents/{document_id}/original",
}
"""What is no page of the console's frame: the widget's document, which has a stricter policy of its own, and files."""


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    role: Role | None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def names(self) -> list[str]:
        """Whose ids it takes, in its path and after it."""
        return re.findall(
            r"{(\w+)}", self.path + "".join(FORMS.get((self.method, self.path), {}).get("params", {}).values())
        )

    def options(self, ids: dict[str, str]) -> dict[str, Any]:
        options = dict(FORMS.get((self.method, self.path), {}))
        if "params" in options:
            options["params"] = {key: value.format(**ids) for key, value in options["params"].items()}
        return options

    def lower(self) -> list[Role]:
        return list(ROLES[: ROLES.index(self.role)]) if self.role else []

    def enough(self) -> list[Role]:
        return list(ROLES[ROLES.index(self.role) :]) if self.role else []


def role_asked(dependant: Dependant) -> Role | None:
    """The role of `auth.require` among a route's dependencies, at any depth."""
    ours = require("viewer").__qualname__
    for inner in dependant.dependencies:
        if getattr(inner.call, "__qualname__", "") == ours:
            role: Role = inspect.getclosurevars(inner.call).nonlocals["role"]  # type: ignore[arg-type]
            return role
        if (found := role_asked(inner)) is not None:
            return found
    return None


def console_routes(app: FastAPI) -> list[Route]:
    routes = []
    for context in iter_route_contexts(app.routes):
        path = context.path or ""
        if not path.startswith(("/console", "/setup")) or path.startswith(ASSETS):
            continue
        for method in sorted((context.methods or set()) - {"HEAD", "OPTIONS"}):
            role = ROLE_IN_THE_VIEW.get((method, path)) or role_asked(context.dependant)
            routes.append(Route(method, path, role))
    return routes


def for_roles(world: ConsoleWorld) -> list[Route]:
    return [route for route in console_routes(world.app) if route.role is not None]


@pytest.fixture(scope="module")
async def walked(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    """A console of this file's own, which nobody's haste is limited in."""
    folder = tmp_path_factory.mktemp("roles")
    async with console_world(test_database.web_url, folder, configured_ip_requests_per_minute=1_000_000) as world:
        yield world


@pytest.fixture(scope="module")
async def things(walked: ConsoleWorld) -> AsyncIterator[Furniture]:
    async with furniture(walked, walked.tenant_id) as things:
        yield things


class Standing:
    """One of everything, made when first asked for, for requests that change nothing: looks, and what is refused."""

    def __init__(self, things: Furniture) -> None:
        self._things = things
        self._made: dict[tuple[str, ...], dict[str, str]] = {}

    async def ids(self, names: list[str]) -> dict[str, str]:
        key = tuple(names)
        if key not in self._made:
            self._made[key] = await self._things.make(names)
        return dict(self._made[key])


@pytest.fixture(scope="module")
async def standing(walked: ConsoleWorld) -> AsyncIterator[Standing]:
    async with furniture(walked, walked.tenant_id) as things:
        yield Standing(things)


async def send(browser: Browser, route: Route, ids: dict[str, str], *, partial: bool | None = None) -> Answer:
    """As a browser would: pages by address, everything else by htmx, with the session's token."""
    partial = route.method != "GET" if partial is None else partial
    return await browser.request(route.method, route.path.format(**ids), partial=partial, **route.options(ids))


def placeholders(route: Route) -> dict[str, str]:
    """Ids of nothing: who may not come in learns nothing from them."""
    return dict.fromkeys(route.names, "id_of_nothing")


def test_every_route_asks_for_a_role(walked: ConsoleWorld) -> None:
    routes = console_routes(walked.app)
    without = {route.path for route in routes if route.role is None}
    assert without == FOR_ANYBODY | FOR_THE_SIGNED_IN
    assert len([route for route in routes if route.role is not None]) > 50
    assert {(route.method, route.path) for route in routes} >= FORMS.keys() | ROLE_IN_THE_VIEW.keys()


async def test_who_is_not_signed_in_is_asked_to(walked: ConsoleWorld) -> None:
    stranger, wrong = walked.stranger(), []
    routes = [route for route in console_routes(walked.app) if route.path not in FOR_ANYBODY]
    for route in routes:
        page = await send(stranger, route, placeholders(route), partial=False)
        if page.status != 303 or not page.response.headers["location"].startswith("/console/login?next="):
            wrong.append(f"{route}: {page.status}")
        fragment = await send(stranger, route, placeholders(route), partial=True)
        if fragment.status != 401 or not fragment.response.headers["hx-redirect"].startswith("/console/login?next="):
            wrong.append(f"{route} by htmx: {fragment.status}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("role", ROLES[:-1])
async def test_what_a_role_may_not_is_refused_by_the_server(
    walked: ConsoleWorld, standing: Standing, role: Role
) -> None:
    browser, wrong, tried = await walked.signed_in(role), [], 0
    for route in for_roles(walked):
        if role not in route.lower():
            continue
        ids = await standing.ids(route.names)
        sentence = f"This needs the role {route.role}; yours is {role}."
        for partial in {route.method != "GET", True}:
            answer = await send(browser, route, ids, partial=partial)
            told = answer.toast if partial else answer.text
            if answer.status != 403 or sentence not in told:
                wrong.append(f"{route}: {answer.status} {told[:100]}")
            if partial and answer.response.headers.get("hx-reswap") != "none":
                wrong.append(f"{route}: the refusal would be put into the page")
        tried += 1
    assert not wrong, "\n".join(wrong)
    assert tried >= {"viewer": 30, "editor": 10, "admin": 0, "owner": 0}[role]


@pytest.mark.parametrize("role", ROLES)
async def test_what_a_role_may_is_done(walked: ConsoleWorld, things: Furniture, standing: Standing, role: Role) -> None:
    wrong, tried = [], 0
    reader = await walked.signed_in(role)
    for route in for_roles(walked):
        if role not in route.enough():
            continue
        # An action may end the session that it is done in, or the membership.
        browser = reader if route.method == "GET" else await walked.signed_in(role)
        if "session_id" in route.names:
            ids = {"session_id": await session_of(walked, browser)}
        elif route.method == "GET":
            ids = await standing.ids(route.names)
        else:
            ids = await things.make(route.names)
        if (route.method, route.path) == ("DELETE", "/console/members/{person_id}") and role in ("viewer", "editor"):
            ids = {"person_id": browser.person_id}  # everybody may leave; to remove others is the admin's
        if route.path in DOWNLOADS:
            answer = Answer(await browser.http.get(route.path.format(**ids)), [])
        else:
            answer = await send(browser, route, ids)
        expected = (200,) if route.method == "GET" else (200, 204, 303)
        if not route.options(ids) and route.method != "GET":
            expected = (*expected, 422)
        if route.path in NOTHING_THERE:
            expected = (404,)
        if (route.method, route.path) in NOTHING_SOLD:
            expected = (409,)
        if route.path in ELSEWHERE:
            expected = (303,)
        if answer.status not in expected:
            wrong.append(f"{route}: {answer.status} {answer.toast or answer.text[:200]}")
        tried += 1
    assert not wrong, "\n".join(wrong)
    assert tried >= {"viewer": 20, "editor": 50, "admin": 60, "owner": 60}[role]


@pytest.mark.parametrize("filled", [True, False])
async def test_forms_are_answered_with_whole_pages_where_the_script_did_not_load(
    walked: ConsoleWorld, things: Furniture, filled: bool
) -> None:
    wrong, tried = [], 0
    for route in for_roles(walked):
        if route.method != "POST" or route.path in ASKED_BY_SCRIPTS:
            continue
        browser = await walked.signed_in("owner")
        ids = {"session_id": await session_of(walked, browser)} if "session_id" in route.names else None
        ids = ids or await things.make(route.names)
        options = route.options(ids) if filled else {}
        options["data"] = {"csrf": browser.token} | options.get("data", {})
        answer = await browser.request("POST", route.path.format(**ids), **options)
        whole = answer.response.text.lstrip().startswith("<!doctype html>") and bool(answer.all("h1"))
        if answer.status >= 500 or not (whole or answer.status == 303):
            wrong.append(f"{route}: {answer.status} {answer.response.text[:100]}")
        tried += 1
    assert not wrong, "\n".join(wrong)
    assert tried > 40


async def test_what_belongs_to_another_tenant_is_not_found(walked: ConsoleWorld, standing: Standing) -> None:
    owner, wrong, tried = await walked.signed_in("owner"), [], 0
    async with furniture(walked, await walked.another_tenant()) as things:
        elsewhere = Standing(things)
        for route in for_roles(walked):
            if not route.names:
                continue
            if route.names == ["session_id"]:
                mine, theirs = {}, {"session_id": await session_of(walked, await walked.signed_in("viewer"))}
            else:
                mine, theirs = await standing.ids(route.names), await elsewhere.ids(route.names)
            # All ids are theirs, or one of several.
            for ids in (theirs, *(mine | {name: theirs[name]} for name in route.names)):
                for partial in {route.method != "GET", True}:
                    answer = await send(owner, route, ids, partial=partial)
                    if answer.status != 404:
                        wrong.append(f"{route}: {answer.status} {answer.toast or answer.text[:200]}")
                    if any(secret in answer.response.text for secret in theirs.values()):
                        wrong.append(f"{route}: names what is theirs")
            tried += 1
    assert not wrong, "\n".join(wrong)
    assert tried >= 30


async def session_of(world: ConsoleWorld, browser: Browser) -> str:
    """The id of another session of this person's."""
    await world.sign_in(world.stranger(), browser.person_id)
    page = await browser.page("/console/account")
    action = page.one('form[action^="/console/account/sessions/"][action$="/end"]:not([data-confirm])')
    return (action.attributes["action"] or "").split("/")[-2]


def test_the_policy_that_every_answer_carries_allows_nothing_unsafe() -> None:
    assert "unsafe-" not in POLICY
    assert "default-src 'none'" in POLICY or "default-src 'self'" in POLICY
    assert "script-src 'self'" in POLICY


async def test_a_machine_without_mail_says_so(walked: ConsoleWorld) -> None:
    assert "No mail yet" in (await walked.stranger().page("/dev/mail")).text
