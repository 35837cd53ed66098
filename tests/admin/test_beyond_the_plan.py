"""Whoever is over what its plan includes, or whose plan lapsed, can read, export and delete all that it has."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Iterator
from uuid import UUID

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from stonechat.plans.entitlements import entitlements
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import Status, set_subscription
from stonechat.usage.allowance import allowance_state, refresh_allowance
from stonechat.usage.quota import budget_reached
from support.console import ConsoleWorld, console_world
from support.furnishing import Furniture, furniture
from support.identity import PLATFORM
from support.postgres import TestDatabase

NO_PAGE = {
    "/console/knowledge/progress": "empty while nothing is being read",
    "/console/billing/returned": "on the way to another page",
    "/console/login": "for those who are not signed in",
    "/console/forgot": "for those who are not signed in",
    "/console/sign-up": "for those who are not signed in",
    "/console/invitation": "for those who are not signed in",
    "/console/conversations/{thread_id}/citations": "there is none in what is made here",
    "/console/knowledge/documents/{document_id}/edit": "only texts that were written here",
    "/console/knowledge/documents/{document_id}/edit/text": "only texts that were written here",
    "/console/knowledge/documents/{document_id}/edit/pairs": "only question-answer pairs",
}
"""Addresses of the console that have nothing to show here, and why."""
QUESTIONS = {
    "/console/billing/change": "?plan=pro",
    "/console/billing/change/cost": "?plan=pro",
    "/console/agents/{agent_id}/playground/passages": "?thread={thread_id}&item={item_id}",
}
MADE_AS = {"domain_key_id": "key_id"}
"""What the API calls otherwise than the console."""


@pytest.fixture(scope="module")
async def walked(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    folder = tmp_path_factory.mktemp("beyond")
    async with console_world(test_database.web_url, folder, configured_ip_requests_per_minute=1_000_000) as world:
        yield world


def routes(app: FastAPI, prefix: str, method: str) -> Iterator[str]:
    for context in iter_route_contexts(app.routes):
        if (context.path or "").startswith(prefix) and method in (context.methods or ()):
            yield context.path or ""


async def furnished(things: Furniture, paths: Iterable[str]) -> list[str]:
    """The paths, with ids of one thing of each kind, made for them."""
    templates = list(paths)
    names = dict.fromkeys(MADE_AS.get(name, name) for path in templates for name in re.findall(r"{(\w+)}", path))
    ids = await things.make(list(names))
    return [
        path.format(**ids, **{name: ids[made] for name, made in MADE_AS.items() if made in ids}) for path in templates
    ]


async def end_the_plan(world: ConsoleWorld, tenant_id: UUID, how: str) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        if how == "over its limits":
            await set_subscription(session, tenant_id, plan_key="free", provider="manual", status="active")
        else:
            status: Status = "unpaid" if how == "unpaid" else "canceled"
            await set_subscription(session, tenant_id, plan_key="business", provider="manual", status=status)
        if how == "over its limits":
            for field in ("included_messages", "included_tokens", "agents", "seats", "sources"):
                await add_override(
                    session, tenant_id, field=field, value=0, reason="A test.", expires_at=None, by="a test"
                )
        await refresh_allowance(session, tenant_id)
        if how != "over its limits":
            assert (await entitlements(session, tenant_id)).lapsed
        else:
            assert (await allowance_state(session, tenant_id)).over == "hard"
            assert await budget_reached(session, tenant_id)


@pytest.mark.parametrize("how", ["unpaid", "canceled", "over its limits"])
async def test_all_that_is_there_can_be_read_exported_and_deleted(walked: ConsoleWorld, how: str) -> None:
    tenant_id = await walked.another_tenant()
    async with furniture(walked, tenant_id) as things:
        read = await furnished(things, routes(walked.app, "/api/v1", "GET"))
        shown = [path for path in routes(walked.app, "/console", "GET") if path not in NO_PAGE]
        shown = [path for path in shown if not path.startswith("/console/assets/")]
        pages = await furnished(things, (path + QUESTIONS.get(path, "") for path in shown))
        removed = [path for each in routes(walked.app, "/api/v1", "DELETE") for path in await furnished(things, [each])]
        console = [
            path for each in routes(walked.app, "/console", "DELETE") for path in await furnished(things, [each])
        ]
        owner = await walked.signed_in("owner", tenant_id=tenant_id)
        visitor = await things.visitor()
        await end_the_plan(walked, tenant_id, how)
        refused = await things.api.post("/agents", json={"name": "One more"})
        assert refused.json()["code"] == "plan_limit", "the bound holds for what is new"

        wrong = []
        for path in read:
            if (answer := await things.api.get(path.removeprefix("/api/v1"))).status_code != 200:
                wrong.append(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        for path in pages:  # and files
            answer = await owner.http.get(path)
            if answer.status_code != 200 or not answer.content:
                wrong.append(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        if (export := await things.api.get(f"{PLATFORM}/v1/me/export", headers=visitor)).status_code != 200:
            wrong.append(f"a visitor's export: {export.status_code} {export.text[:200]}")
        if (gone := await things.api.delete(f"{PLATFORM}/v1/me", headers=visitor)).status_code != 204:
            wrong.append(f"a visitor's erasure: {gone.status_code} {gone.text[:200]}")
        for path in removed:
            if (answer := await things.api.delete(path.removeprefix("/api/v1"))).status_code != 204:
                wrong.append(f"DELETE {path}: {answer.status_code} {answer.text[:200]}")
        for path in console:
            if (done := await owner.request("DELETE", path, partial=True)).status not in (200, 204):
                wrong.append(f"DELETE {path}: {done.status} {done.toast or done.text[:200]}")
        assert not wrong, "\n".join(wrong)
        assert len(pages) > 40
        assert min(len(read), len(removed), len(console)) >= 8
