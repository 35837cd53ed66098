"""The same key and request: the same answer, and nothing done twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, UploadFile
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import authenticate_api_key, create_api_key
from stonechat.accounts.audit import list_audit, record_audit
from stonechat.api.idempotency import SESSION, Idempotency, IdempotentRoute
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import InvalidInput
from stonechat.web.problems import install_problem_handlers


@dataclass
class Site:
    """A small application with one tenant's API key, and what its routes were made to do."""

    app: FastAPI
    client: httpx.AsyncClient
    tenant_id: UUID
    database: Database
    fail: str = ""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event | None = None

    async def post(self, path: str, key: str | None = "k1", **options: Any) -> httpx.Response:
        return await self.client.post(path, headers={"Idempotency-Key": key} if key else {}, **options)

    async def done(self) -> list[str | None]:
        """What was really done, oldest first."""
        async with self.database.tenant(self.tenant_id) as session:
            page = await list_audit(session, system(self.tenant_id))
        return [entry.subject_id for entry in reversed(page.data) if entry.action == "test.do"]


@pytest.fixture
async def site(database: Database, tenant_id: UUID) -> AsyncIterator[Site]:
    app = FastAPI()
    app.state.idempotency = Idempotency(database, Keyring(["k" * 40]))
    install_problem_handlers(app)
    async with database.tenant(tenant_id) as session:
        _, secret = await create_api_key(session, system(tenant_id), name="CI", scopes=["admin"])
    authorization = {"Authorization": f"Bearer {secret}"}
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=authorization) as client:
        made = Site(app, client, tenant_id, database)
        app.state.site = made
        app.include_router(_router(made), prefix="/api/v1")
        yield made


async def tenant_session(request: Request) -> AsyncIterator[AsyncSession]:
    """As the real routes have it: one transaction, open until the answer is made."""
    site: Site = request.app.state.site
    actor = await authenticate_api_key(site.database, request.headers.get("authorization"))
    async with site.database.tenant(actor.tenant_id) as session:
        setattr(request.state, SESSION, session)
        yield session
        if site.fail == "commit":
            raise RuntimeError("the commit failed")


TenantSession = Annotated[AsyncSession, Depends(tenant_session, scope="function")]


def _router(site: Site) -> APIRouter:
    router = APIRouter(route_class=IdempotentRoute)

    @router.post("/things", status_code=201)
    async def make(body: dict[str, str], session: TenantSession) -> dict[str, str]:
        await record_audit(session, system(site.tenant_id), "test.do", subject_id=body["name"])
        site.started.set()
        if site.hold is not None:
            await site.hold.wait()
        if site.fail == "input":
            raise InvalidInput("not that")
        if site.fail == "crash":
            raise RuntimeError("a bug")
        return {"secret": f"secret of {body['name']}"}

    @router.post("/uploads", status_code=201)
    async def upload(file: UploadFile, session: TenantSession) -> dict[str, int]:
        data = await file.read()
        await record_audit(session, system(site.tenant_id), "test.do", subject_id=data.decode())
        return {"bytes": len(data)}

    @router.post("/large")
    async def large(session: TenantSession) -> dict[str, str]:
        return {"text": "x" * 300_000}

    @router.post("/nothing", status_code=204)
    async def nothing(session: TenantSession) -> None:
        await record_audit(session, system(site.tenant_id), "test.do", subject_id="nothing")

    @router.get("/things")
    async def look() -> dict[str, str]:
        return {}

    return router


async def test_the_same_request_is_answered_from_memory(site: Site) -> None:
    first = await site.post("/api/v1/things", json={"name": "a"})
    again = await site.post("/api/v1/things", json={"name": "a"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.content, again.headers["content-type"]) == (first.content, first.headers["content-type"])
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert await site.done() == ["a"]


async def test_without_a_key_everything_is_done_again(site: Site) -> None:
    for _ in range(2):
        await site.post("/api/v1/things", None, json={"name": "a"})
    assert await site.done() == ["a", "a"]


async def test_another_key_is_another_request(site: Site) -> None:
    for key in ("k1", "k2"):
        await site.post("/api/v1/things", key, json={"name": "a"})
    assert await site.done() == ["a", "a"]


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/v1/things", {"name": "b"}), ("/api/v1/things?x=1", {"name": "a"}), ("/api/v1/nothing", {"name": "a"})],
)
async def test_a_key_cannot_be_used_for_another_request(site: Site, path: str, body: dict[str, str]) -> None:
    await site.post("/api/v1/things", json={"name": "a"})
    refused = await site.post(path, json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_reused")
    assert await site.done() == ["a"]


async def test_a_second_request_does_not_overtake_the_first(site: Site) -> None:
    site.hold = asyncio.Event()
    first = asyncio.create_task(site.post("/api/v1/things", json={"name": "a"}))
    await asyncio.wait_for(site.started.wait(), 30)
    second = await site.post("/api/v1/things", json={"name": "a"})
    assert (second.status_code, second.json()["code"], second.headers["retry-after"]) == (409, "conflict", "1")
    site.hold.set()
    assert (await first).status_code == 201
    assert await site.done() == ["a"]


@pytest.mark.parametrize(("fail", "status"), [("input", 422), ("crash", 500), ("commit", 500)])
async def test_a_request_that_failed_may_be_sent_again(site: Site, fail: str, status: int) -> None:
    site.fail = fail
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == status
    assert await site.done() == []
    site.fail = ""
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == 201
    assert await site.done() == ["a"]


async def test_a_body_that_is_not_valid_leaves_the_key_free(site: Site) -> None:
    assert (await site.post("/api/v1/things", json=["a"])).status_code == 422
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == 201


async def test_a_claim_whose_process_died_is_taken_over(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Idempotency, "release", _forget)
    site.fail = "crash"
    await site.post("/api/v1/things", json={"name": "a"})
    site.fail = ""
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == 409
    later = clock.now() + timedelta(minutes=5, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == 201
    assert await site.done() == ["a"]


async def _forget(*_arguments: object) -> None:
    """What a process that is gone does."""


async def test_one_that_was_overtaken_while_it_slept_does_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.hold = asyncio.Event()
    first = asyncio.create_task(site.post("/api/v1/things", json={"name": "a"}))
    await asyncio.wait_for(site.started.wait(), 30)
    hold, site.hold = site.hold, None
    later = clock.now() + timedelta(minutes=6)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await site.post("/api/v1/things", json={"name": "a"})).status_code == 201
    hold.set()
    assert (await first).status_code == 409
    assert await site.done() == ["a"]


async def test_keys_expire_after_a_day_and_are_swept_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("old", "older"):
        await site.post("/api/v1/things", key, json={"name": "a"})
    later = clock.now() + timedelta(hours=24, seconds=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    await site.post("/api/v1/things", "old", json={"name": "b"})
    assert await site.done() == ["a", "a", "b"]
    async with site.database.tenant(site.tenant_id) as session:
        assert list(await session.scalars(text("select key from idempotency_keys"))) == ["old"]


async def test_an_uploads_boundary_is_chance(site: Site) -> None:
    for boundary in ("one", "two"):
        content = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\nhello\r\n--{boundary}--\r\n'
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Idempotency-Key": "k1"}
        answer = await site.client.post("/api/v1/uploads", content=content.encode(), headers=headers)
        assert (answer.status_code, answer.json()) == (201, {"bytes": 5})
    assert await site.done() == ["hello"]


async def test_an_empty_answer_is_repeated_too(site: Site) -> None:
    answers = [await site.post("/api/v1/nothing") for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    assert await site.done() == ["nothing"]


async def test_an_answer_too_large_to_keep_is_not_given_twice(site: Site) -> None:
    assert (await site.post("/api/v1/large")).status_code == 200
    again = await site.post("/api/v1/large")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")


async def test_no_answer_is_stored_in_plain_text(site: Site) -> None:
    secret = (await site.post("/api/v1/things", json={"name": "a"})).json()["secret"]
    async with site.database.tenant(site.tenant_id) as session:
        sealed = await session.scalar(text("select sealed_body from idempotency_keys"))
    assert secret.encode() not in bytes(sealed)


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "a\tb"])
async def test_keys_have_a_form(site: Site, key: str) -> None:
    answer = await site.client.post("/api/v1/things", json={"name": "a"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


async def test_keys_are_each_api_keys_own(site: Site, database: Database, tenant_id: UUID) -> None:
    await site.post("/api/v1/things", json={"name": "a"})
    async with database.tenant(tenant_id) as session:
        _, secret = await create_api_key(session, system(tenant_id), name="Other", scopes=["admin"])
    headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "k1"}
    assert (await site.client.post("/api/v1/things", json={"name": "b"}, headers=headers)).status_code == 201
    assert await site.done() == ["a", "b"]


async def test_a_stranger_gets_no_answer_from_memory(site: Site) -> None:
    await site.post("/api/v1/things", json={"name": "a"})
    headers = {"Authorization": "Bearer sk_unknown", "Idempotency-Key": "k1"}
    assert (await site.client.post("/api/v1/things", json={"name": "a"}, headers=headers)).status_code == 401


async def test_other_methods_ignore_the_key(site: Site) -> None:
    assert (await site.client.get("/api/v1/things", headers={"Idempotency-Key": "k1"})).status_code == 200


async def test_the_header_is_documented_on_posts_alone(site: Site) -> None:
    paths = site.app.openapi()["paths"]["/api/v1/things"]
    assert [parameter["name"] for parameter in paths["post"]["parameters"]] == ["Idempotency-Key"]
    assert "parameters" not in paths["get"]
