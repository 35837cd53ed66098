"""A tenant made on the command line, driven only over `/api/v1`, gives a session and a cited answer."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import httpx
import pytest
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

from stonechat.web import encode_cursor
from support.api import Tenant, new_tenant
from support.running import Running

ORIGIN = "https://garden.example"


def pdf(*pages: str) -> bytes:
    """A PDF with one paragraph a page."""
    style = getSampleStyleSheet()["BodyText"]
    story = [flowable for page in pages for flowable in (Paragraph(page, style), PageBreak())]
    buffer = io.BytesIO()
    SimpleDocTemplate(buffer, title="Garden handbook").build(story)
    return buffer.getvalue()


@pytest.fixture(scope="module")
async def tenant(stonechat: Running) -> AsyncIterator[Tenant]:
    async with new_tenant(stonechat, "Garden centre") as tenant:
        yield tenant


async def test_from_a_pdf_to_a_cited_answer(tenant: Tenant) -> None:
    handbook = pdf(
        "The garden centre opens at nine in the morning from March to October.",
        "Fruit trees are guaranteed for two years if they were planted by our own gardeners.",
    )
    document = await tenant.document("handbook.pdf", handbook, title="Handbook")
    assert document["status"] == "ready", document
    assert document["chunks"] >= 1
    assert document["bytes"] == len(handbook)
    found = await tenant.call("POST", "/knowledge/search", json={"query": "guarantee on fruit trees"})
    assert found["results"][0]["document_id"] == document["id"]

    agent = await tenant.agent()
    key = await tenant.domain_key(agent, ORIGIN)
    session = await tenant.session(key, ORIGIN)
    assert session["token_type"] == "Bearer"
    assert session["agent"]["name"] == "Helper"
    answer = await tenant.ask(session["token"], ORIGIN, "How long are fruit trees guaranteed?")
    assert "two years" in answer.text
    assert answer.sources[0]["title"] == "Handbook"


async def test_every_list_comes_in_pages(tenant: Tenant) -> None:
    agent = await tenant.agent()
    for number in (1, 2):
        await tenant.call("PATCH", f"/agents/{agent}", json={"greeting": f"Hello {number}"})
        await tenant.call("POST", f"/agents/{agent}/publish", json={})
        await tenant.call("POST", "/api-keys", 201, json={"name": f"Key {number}", "scopes": ["read"]})
        provider = {"name": f"model-{number}", "kind": "openai", "api_key": "sk-none"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
    for path, key in ((f"/agents/{agent}/versions", "version"), ("/api-keys", "id"), ("/model-providers", "name")):
        whole = (await tenant.call("GET", path, params={"limit": 100}))["data"]
        paged, cursor = [], None
        while cursor or not paged:
            page = await tenant.call("GET", path, params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
            paged += page["data"]
            cursor = page["next_cursor"]
        assert len(paged) >= 2
        assert [row[key] for row in paged] == [row[key] for row in whole]
        await tenant.call("GET", path, 400, params={"cursor": "x" * 5000})
        await tenant.call("GET", path, 422, params={"limit": 101})
    far = encode_cursor(2**62)
    assert (await tenant.call("GET", f"/agents/{agent}/versions", params={"cursor": far}))["data"]


async def test_a_deleted_document_never_answers_again(tenant: Tenant) -> None:
    document = await tenant.document("ponds.txt", b"Ponds are drained and cleaned every seventh of November.")
    agent = await tenant.agent()
    session = await tenant.session(await tenant.domain_key(agent, ORIGIN), ORIGIN)
    assert "November" in (await tenant.ask(session["token"], ORIGIN, "When are ponds drained and cleaned?")).text
    await tenant.call("DELETE", f"/knowledge/documents/{document['id']}", 204)
    assert "November" not in (await tenant.ask(session["token"], ORIGIN, "When are ponds drained and cleaned?")).text
    await tenant.call("GET", f"/knowledge/documents/{document['id']}", 404)


async def test_visitors_meet_the_published_version_not_the_draft(tenant: Tenant) -> None:
    agent = await tenant.agent(greeting="First")
    key = await tenant.domain_key(agent, ORIGIN)
    await tenant.call("PATCH", f"/agents/{agent}", json={"greeting": "Second"})
    assert (await tenant.session(key, ORIGIN))["agent"]["greeting"] == "First"
    published = await tenant.call("POST", f"/agents/{agent}/publish", json={})
    assert published["version"] == 2
    assert (await tenant.session(key, ORIGIN))["agent"]["greeting"] == "Second"
    await tenant.call("POST", f"/agents/{agent}/rollback", json={"version": 1})
    assert (await tenant.session(key, ORIGIN))["agent"]["greeting"] == "First"


async def test_a_visitor_comes_back_to_their_own_threads_only(tenant: Tenant) -> None:
    agent = await tenant.agent(model="scripted")
    key = await tenant.domain_key(agent, ORIGIN)
    anna = await tenant.session(key, ORIGIN)
    thread = (await tenant.ask(anna["token"], ORIGIN, "Hello")).thread
    again = await tenant.session(key, ORIGIN, visitor=anna["visitor"])
    assert again["user"]["id"] == anna["user"]["id"]
    stranger = await tenant.session(key, ORIGIN)

    async def load(token: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN}
        body = {"type": "threads.get_by_id", "params": {"thread_id": thread}}
        return await tenant.api.post(f"{tenant.url}/chatkit", json=body, headers=headers)

    assert (await load(again["token"])).status_code == 200
    refused = await load(stranger["token"])
    assert refused.status_code == 404
    assert refused.headers["content-type"] == "application/problem+json"


async def test_limits_are_read_written_and_felt(stonechat: Running) -> None:
    async with new_tenant(stonechat, "A strict company") as tenant:
        limits = await tenant.call("GET", "/limits")
        limits["visitor"]["messages_per_minute"] = 2
        assert (await tenant.call("PUT", "/limits", json=limits))["visitor"]["messages_per_minute"] == 2
        agent = await tenant.agent(model="scripted")
        key = await tenant.domain_key(agent, ORIGIN)
        session = await tenant.session(key, ORIGIN)
        for _ in range(2):
            await tenant.ask(session["token"], ORIGIN, "Hello")
        from support.api import message

        refused = await tenant.api.post(
            f"{tenant.url}/chatkit",
            json=message("Once more"),
            headers={"Authorization": f"Bearer {session['token']}", "Origin": ORIGIN},
        )
        assert refused.status_code == 429
        assert refused.json()["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_signed_users_are_recognised(tenant: Tenant) -> None:
    import time

    import jwt

    made = await tenant.call("POST", "/identity-keys", 201, json={"kind": "hs256"})
    agent = await tenant.agent(model="scripted")
    key = await tenant.domain_key(agent, ORIGIN)
    now = int(time.time())
    claims = {"sub": "customer-42", "iat": now, "exp": now + 300, "name": "Ada"}
    token = jwt.encode(claims, made["secret"], algorithm="HS256", headers={"kid": made["kid"]})
    one = await tenant.session(key, ORIGIN, user_token=token)
    two = await tenant.session(key, ORIGIN, user_token=token)
    assert one["user"]["verified"] is True
    assert one["user"]["id"] == two["user"]["id"], "the same person on two devices"
    forged = jwt.encode(claims, "x" * 40, algorithm="HS256", headers={"kid": made["kid"]})
    refused = await tenant.api.post(
        f"{tenant.url}/v1/sessions", json={"domain_key": key, "user_token": forged}, headers={"Origin": ORIGIN}
    )
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_user_token")


async def test_an_idempotency_key_makes_one_agent(tenant: Tenant) -> None:
    headers = {"Idempotency-Key": "make-one"}
    body = {"name": "Once", "model": "extractive"}
    one = await tenant.call("POST", "/agents", 201, json=body, headers=headers)
    two = await tenant.call("POST", "/agents", 201, json=body, headers=headers)
    assert one["id"] == two["id"]
    other = await tenant.call("POST", "/agents", 409, json=body | {"name": "Other"}, headers=headers)
    assert other["code"] == "idempotency_key_reused"


async def test_keys_can_be_revoked(stonechat: Running) -> None:
    async with new_tenant(stonechat, "Key company") as tenant:
        made = await tenant.call("POST", "/api-keys", 201, json={"name": "Reader", "scopes": ["read"]})
        reader = httpx.AsyncClient(
            base_url=tenant.api.base_url, headers={"Authorization": f"Bearer {made['secret']}"}, trust_env=False
        )
        async with reader:
            assert (await reader.get("/agents")).status_code == 200
            refused = await reader.post("/agents", json={"name": "No", "model": "extractive"})
            assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
            await tenant.call("DELETE", f"/api-keys/{made['id']}", 204)
            assert (await reader.get("/agents")).status_code == 401
