"""Every route, with another tenant's ids: not found, and nothing touched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from stonechat.chat.links import FileKey
from support.api import message
from support.world import ORIGIN, User, World, client

BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("PATCH", "/agents/{agent_id}"): {"greeting": "Taken over"},
    ("POST", "/agents/{agent_id}/publish"): {},
    ("POST", "/agents/{agent_id}/rollback"): {"version": 1},
    ("POST", "/agents/{agent_id}/preview-session"): {},
    ("POST", "/agents/{agent_id}/domain-keys"): {"name": "x", "environment": "production", "origins": [ORIGIN]},
    ("PATCH", "/agents/{agent_id}/domain-keys/{domain_key_id}"): {"name": "x"},
    ("POST", "/agents/{agent_id}/domain-keys/{domain_key_id}/rotate"): {},
    ("POST", "/knowledge/documents/{document_id}/reprocess"): {},
    ("POST", "/knowledge/documents/{document_id}/cancel"): {},
    ("PATCH", "/knowledge/sources/{source_id}"): {"name": "Taken over"},
    ("POST", "/knowledge/sources/{source_id}/sync"): {},
    ("POST", "/knowledge/sources/{source_id}/cancel"): {},
    ("PUT", "/knowledge/documents/{document_id}/tags"): {"tags": ["taken over"]},
    ("POST", "/knowledge/unanswered/{group_id}/answer"): {"question": "Who?", "answer": "Taken over"},
    ("POST", "/agents/{agent_id}/ask"): {"question": "Who?"},
    ("POST", "/conversations/{thread_id}/reply"): {"text": "Taken over"},
    ("POST", "/conversations/{thread_id}/close"): {"reason": "Taken over"},
    ("PATCH", "/members/{person_id}"): {"role": "viewer"},
    ("PATCH", "/model-providers/{provider_id}"): {"api_key": "sk-taken-over"},
    ("PATCH", "/webhook-endpoints/{endpoint_id}"): {"description": "Taken over"},
    ("POST", "/webhook-endpoints/{endpoint_id}/replay"): {"since": "2026-01-01T00:00:00Z"},
}
"""A valid body for each route that takes one, so that it is the id that is refused."""


def management_routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for context in iter_route_contexts(app.routes):
        path = context.path or ""
        if path.startswith("/api/v1"):
            for method in sorted(context.methods or ()):
                if method not in ("HEAD", "OPTIONS"):
                    yield method, path.removeprefix("/api/v1")


async def test_foreign_ids_are_not_found(world: World) -> None:
    before = await world.rows_of(world.theirs)
    tried = 0
    for method, path in management_routes(world.app):
        names = re.findall(r"{(\w+)}", path)
        if not names:
            continue
        unknown = set(names) - world.theirs.ids.keys()
        assert not unknown, f"{path}: say in support/world.py which id of a tenant's {unknown} is"
        # The last id is theirs, and those before it are theirs as well, or ours.
        for first in (world.theirs.ids, world.ours.ids):
            values = {name: first[name] for name in names} | {names[-1]: world.theirs.ids[names[-1]]}
            options = {"json": BODIES.get((method, path), {})} if method in ("POST", "PUT", "PATCH") else {}
            answer = await world.ours.api.request(method, path.format(**values), **options)
            if method == "GET" and answer.status_code == 200:
                assert answer.json() == {"data": [], "next_cursor": None}, f"{method} {path}: {answer.text}"
            else:
                assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (
                    f"{method} {path}: {answer.status_code} {answer.text}"
                )
            assert not any(value in answer.text for value in world.theirs.all_ids - set(values.values()))
            tried += 1
    assert tried > 30
    assert await world.rows_of(world.theirs) == before


async def test_lists_hold_only_ones_own(world: World) -> None:
    listed = 0
    for method, path in management_routes(world.app):
        if method != "GET" or "{" in path:
            continue
        answer = await world.ours.api.get(path, params={"limit": 100} if path != "/limits" else {})
        assert answer.status_code == 200, f"{path}: {answer.text}"
        for value in world.theirs.all_ids:
            assert value not in answer.text, path
        listed += 1
    assert listed >= 6


async def test_a_configuration_with_anothers_ids_is_ones_own(world: World) -> None:
    before = await world.rows_of(world.theirs)
    document = (await world.theirs.api.get("/config", params={"content": True})).json()
    told = (await world.ours.api.get("/config", params={"content": True})).json()
    for part in ("agents", "secrets", "model_providers", "identity_keys"):
        assert len(told[part]) == 1, f"{part}: {told[part]}"
    answer = await world.ours.api.put("/config", params={"dry_run": True, "prune": True}, json=document)
    assert answer.status_code == 200, answer.text
    removed = [change["name"] for change in answer.json()["changes"] if change["action"] == "remove"]
    assert world.ours.secret_word in removed
    assert world.theirs.secret_word not in removed
    assert await world.rows_of(world.theirs) == before


async def test_search_finds_only_ones_own(world: World) -> None:
    query = {"query": world.theirs.secret_word, "limit": 50}
    found = (await world.ours.api.post("/knowledge/search", json=query)).json()["results"]
    assert all(world.theirs.secret_word not in result["text"] for result in found)
    with_agent = await world.ours.api.post("/knowledge/search", json=query | {"agent_id": world.theirs.ids["agent_id"]})
    assert with_agent.status_code == 404


def requests_about(victim: User) -> list[tuple[str, dict[str, Any]]]:
    """Every request type of the protocol that names something of the victim's."""
    thread = {"thread_id": victim.thread}
    words = message("Hello", victim.thread)["params"]["input"]
    return [
        ("threads.get_by_id", thread),
        ("threads.add_user_message", thread | {"input": words}),
        ("threads.add_client_tool_output", thread | {"result": {}}),
        ("threads.add_structured_input", thread | {"item_id": victim.item, "input": {}}),
        ("threads.retry_after_item", thread | {"item_id": victim.question}),
        ("threads.custom_action", thread | {"item_id": victim.item, "action": {"type": "x"}}),
        ("threads.sync_custom_action", thread | {"item_id": victim.item, "action": {"type": "x"}}),
        ("threads.update", thread | {"title": "Taken over"}),
        ("threads.delete", thread),
        ("items.list", thread),
        ("items.feedback", thread | {"item_ids": [victim.item], "kind": "negative"}),
        ("threads.create", {"input": words | {"attachments": [victim.attachment]}}),
        ("attachments.delete", {"attachment_id": victim.attachment}),
    ]


@pytest.mark.parametrize("whose", ["another tenant's", "another user's of the same tenant"])
async def test_the_chat_does_not_find_what_belongs_to_others(world: World, whose: str) -> None:
    attacker = world.ours.anna
    victim = world.theirs.anna if whose == "another tenant's" else world.ours.ben
    victims_tenant = world.theirs if whose == "another tenant's" else world.ours
    before = await world.rows_of(victims_tenant)
    async with client(world.app) as browser:
        for kind, params in requests_about(victim):
            answer = await browser.post("/chatkit", json={"type": kind, "params": params}, headers=attacker.headers)
            assert answer.status_code == 404, f"{kind}: {answer.status_code} {answer.text}"
            assert answer.headers["content-type"] == "application/problem+json", "a problem before any stream"
        # A link that we signed ourselves, for the attacker: all that stands between is whose the file is.
        links = world.services.chat.uploads.attachments.links
        stolen = FileKey(attacker.caller.tenant_id, attacker.caller.user_id, victim.attachment)
        put = links.to_upload(stolen, kinds=frozenset({"document"}))
        for answer in (await browser.get(links.to_view(stolen)), await browser.put(put, content=b"x")):
            assert answer.status_code == 404, answer.text
        for method, path in (("GET", "events"), ("POST", "cancel")):
            answer = await browser.request(
                method,
                f"/chatkit/runs/{victim.run}/{path}",
                headers=attacker.headers | {"Last-Event-ID": f"{victim.run}:0"},
            )
            assert answer.status_code == 404, f"{path}: {answer.status_code} {answer.text}"
        cited = {"thread": victim.thread, "item": victim.item, "index": "0"}
        answer = await browser.get("/chatkit/sources", params=cited, headers=attacker.headers)
        assert answer.status_code == 404, answer.text
        own = cited | {"thread": attacker.thread, "item": attacker.item}
        assert (await browser.get("/chatkit/sources", params=own, headers=attacker.headers)).status_code == 200
        listed = await browser.post(
            "/chatkit", json={"type": "threads.list", "params": {"limit": 100}}, headers=attacker.headers
        )
        assert attacker.thread in listed.text
        assert victim.thread not in listed.text
        taken = await browser.get("/v1/me/export", headers=attacker.headers)
        assert attacker.thread in taken.text
        assert not any(part in taken.text for part in (victim.thread, victim.item, victim.attachment))
        # Someone of the attacker's tenant erases themselves, whatever else there is under that tenant.
        token, _ = world.services.session_tokens.mint(replace(attacker.caller, user_id="usr_leaving"))
        gone = await browser.delete("/v1/me", headers=attacker.headers | {"Authorization": f"Bearer {token}"})
        assert gone.status_code == 204
    assert await world.rows_of(victims_tenant) == before
