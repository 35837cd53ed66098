"""What a suspended tenant may still do: read, export and delete. Nothing else is done for it, and what waits goes on later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from sqlalchemy import text

from stonechat import worker
from stonechat.accounts.suspension import is_open_to
from stonechat.chat.links import FileKey
from stonechat.jobs import enqueue
from stonechat.knowledge.stuck import revive_stuck
from stonechat.knowledge.tasks import PAUSED, job_handlers
from stonechat.knowledge.web.service import start_due_syncs
from stonechat.operator import levers
from stonechat.operator.support import list_grants
from support.console import ConsoleWorld
from support.furnishing import furniture
from support.identity import PLATFORM
from support.jobs import jobs_of, running, until
from support.operators import at_desk, make_operator, press
from support.postgres import TestDatabase

NO_TENANTS = (
    "/console/login",
    "/console/logout",
    "/console/forgot",
    "/console/sign-up",
    "/console/invitation",
    "/console/account/",
    "/console/tenants",
)
"""Forms about a person, not about the tenant where the person is at work."""


@asynccontextmanager
async def suspended(world: ConsoleWorld, tenant_id: UUID) -> AsyncIterator[None]:
    """The tenant is suspended, and this process knows it; resumed at the end."""
    operator, database, known = await make_operator(world), world.services.database, world.services.suspensions
    async with database.platform() as platform:
        await levers.suspend_tenant(platform, operator, tenant_id, database=database, reason="Does not answer")
    known._read_at = float("-inf")
    try:
        yield
    finally:
        async with database.platform() as platform:
            await levers.resume_tenant(platform, operator, tenant_id, database=database, reason="Answered")
        known._read_at = float("-inf")


def changes(app: FastAPI, prefix: str) -> Iterator[tuple[str, str]]:
    """Method and address of everything below `prefix` that changes something, about things that are not there."""
    for context in iter_route_contexts(app.routes):
        path = context.path or ""
        for method in sorted((context.methods or set()) - {"GET", "HEAD", "OPTIONS"}):
            if path.startswith(prefix) and not is_open_to(method, path):
                yield method, path.replace("{", "").replace("}", "")


async def test_its_api_keys_read_export_and_delete_and_change_nothing(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Paused")
    async with furniture(world, tenant_id) as things:
        thread = await things._thread_id({})
        async with suspended(world, tenant_id):
            for path in ("/agents", f"/conversations/{thread}", f"/conversations/{thread}/export", "/usage/export"):
                assert (await things.api.get(path)).status_code == 200, path
            tried = 0
            for method, path in changes(world.app, "/api/v1/"):
                answer = await things.api.request(method, PLATFORM + path, json={})
                assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended"), f"{method} {path}"
                tried += 1
            assert tried > 40
            assert "read, export and delete" in answer.json()["detail"]
            assert (await things.api.delete(f"/conversations/{thread}")).status_code == 204
        assert (await things.api.post("/agents", json={"name": "Robin", "model": "extractive"})).status_code == 201


async def test_its_people_read_export_and_delete_and_change_nothing(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Paused, too")
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    async with furniture(world, tenant_id) as things:
        thread = await things._thread_id({})
        async with suspended(world, tenant_id):
            page = await owner.page("/console/conversations")
            assert "You can read, export and delete what there is" in page.one(".notice-warning").text()
            await owner.page(f"/console/conversations/{thread}")
            tried = 0
            for method, path in changes(world.app, "/console/"):
                if not path.startswith(NO_TENANTS):
                    answer = await owner.htmx(method, path, {}, status=403)
                    assert "is suspended" in answer.toast, f"{method} {path}"
                    tried += 1
            assert tried > 40
            await owner.page("/console/knowledge/search?q=returns", status=403)  # which would ask a model
            await owner.htmx("DELETE", f"/console/conversations/{thread}")
        assert "suspended" not in (await owner.page("/console/conversations")).text


async def test_an_operators_look_reads_and_deletes_and_spends_nothing(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Looked at")
    desk = await at_desk(world)
    asked = {"reason": "They wrote to us", "minutes": "60", "access": "write"}
    async with furniture(world, tenant_id) as things:
        thread, document = await things._thread_id({}), await things._document_id({})
        await press(desk, f"/operator/tenants/{tenant_id}/grants", asked)
        async with world.services.database.tenant(tenant_id) as session:
            (grant,) = await list_grants(session, tenant_id)
        await press(desk, f"/operator/tenants/{tenant_id}/grants/{grant.id}/enter")
        async with suspended(world, tenant_id):
            page = await desk.page(f"/console/conversations/{thread}")
            assert "You can read, export and delete what there is" in page.text
            await desk.page("/console/knowledge/search")
            await desk.page("/console/knowledge/search?q=returns", status=403)  # which would ask a model
            tried = 0
            for method, path in changes(world.app, "/console/"):
                if not path.startswith(NO_TENANTS):
                    answer = await desk.htmx(method, path, {}, status=403)
                    assert "is suspended" in answer.toast, f"{method} {path}"
                    tried += 1
            assert tried > 40
            await desk.htmx("DELETE", f"/console/knowledge/documents/{document}")
        assert "suspended" not in (await desk.page("/console/conversations")).text
        await desk.page("/console/knowledge/search?q=returns")


async def test_its_visitors_send_no_files_say_nothing_and_take_up_no_answer(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant("Silent")
    async with furniture(world, tenant_id) as things:
        await things._thread_id({})
        headers = await things.visitor()
        link = world.services.chat.uploads.attachments.links.to_upload(
            FileKey(tenant_id, "usr_1", "atc_1"), kinds=frozenset({"image"})
        )
        transcribe = {"type": "input.transcribe", "params": {"audio_base64": "AAAA", "mime_type": "audio/webm"}}
        announce = {
            "type": "attachments.create",
            "params": {"name": "a.png", "size": 10, "mime_type": "image/png"},
        }

        async def asked() -> list[tuple[int, Any]]:
            answers = [
                await things.api.put(link, content=b"x", headers={"Authorization": ""}),
                await things.api.get(f"{PLATFORM}/chatkit/runs/{things._run}/events", headers=headers),
                await things.api.post(f"{PLATFORM}/chatkit", json=transcribe, headers=headers),
                await things.api.post(f"{PLATFORM}/chatkit", json=announce, headers=headers),
            ]
            return [
                (each.status_code, each.json().get("code") if "json" in each.headers["content-type"] else None)
                for each in answers
            ]

        async with suspended(world, tenant_id):
            assert await asked() == [(403, "tenant_suspended")] * 4
            taken = await things.api.get(f"{PLATFORM}/v1/me/export", headers=headers)
            assert taken.status_code == 200
            assert (await things.api.delete(f"{PLATFORM}/v1/me", headers=headers)).status_code == 204
        assert all(code != "tenant_suspended" for _, code in await asked())


async def test_what_spends_or_reaches_out_waits_in_the_queue(world: ConsoleWorld, test_database: TestDatabase) -> None:
    services, tenant_id, other = world.services, await world.another_tenant("Waiting"), world.tenant_id
    costly, free = f"test.costly.{uuid4().hex[:8]}", f"test.free.{uuid4().hex[:8]}"
    done: list[tuple[UUID, str]] = []

    def handler(kind: str) -> Any:
        async def handle(tenant: UUID, _payload: dict[str, Any]) -> None:
            done.append((tenant, kind))

        return handle

    url = services.settings.direct_database_url
    assert url is not None
    async with running(url, {kind: handler(kind) for kind in (costly, free)}, paused={costly}):
        async with suspended(world, tenant_id):
            for each in (tenant_id, other):
                async with services.database.tenant(each) as session:
                    await enqueue(session, each, costly, {})  # first, and passed over
                    await enqueue(session, each, free, {})
            await until(lambda: len(done) == 3)
            assert sorted(done, key=str) == sorted([(tenant_id, free), (other, costly), (other, free)], key=str)
            jobs = await jobs_of(test_database.admin_url, costly)
            (waiting,) = (job for job in jobs if str(tenant_id) in job["headers"])
            assert (waiting["status"], waiting["attempts"]) == ("queued", 0)
        await until(lambda: (tenant_id, costly) in done)
    assert len(done) == 4


async def test_a_document_is_read_once_its_tenant_is_open_again(world: ConsoleWorld) -> None:
    services, tenant_id = world.services, await world.another_tenant("Unread")
    url = services.settings.direct_database_url
    assert url is not None
    async with furniture(world, tenant_id) as things:

        async def state(document: str) -> str:
            return str((await things.api.get(f"/knowledge/documents/{document}")).json()["status"])

        document, gone = await things._document_id({}), await things._document_id({})
        source = await things._source_id({})
        async with suspended(world, tenant_id):
            assert (await things.api.delete(f"/knowledge/documents/{gone}")).status_code == 204
            async with services.database.tenant(tenant_id) as session:
                ours = {"tenant": tenant_id, "source": source}
                await session.execute(
                    text("""update sources set next_sync_at = now() - interval '1 hour'
                            where tenant_id = :tenant and source_id = :source"""),
                    ours,
                )
                stale = "update documents set updated_at = now() - interval '1 hour' where tenant_id = :tenant"
                await session.execute(text(stale), ours)
                await session.execute(
                    text("delete from jobs.pgqueuer where headers->>'tenant' = :tenant and entrypoint = :kind"),
                    {"tenant": str(tenant_id), "kind": "knowledge.sync"},
                )
            await start_due_syncs(services.database)
            await revive_stuck(services.database)
            async with running(url, job_handlers(services.knowledge), paused=PAUSED):

                async def purged() -> bool:
                    async with services.database.tenant(tenant_id) as session:
                        left = text("select count(*) from documents where tenant_id = :tenant and document_id = :id")
                        return not await session.scalar(left, {"tenant": tenant_id, "id": gone})

                await until(purged)  # what deletes goes on
            assert await state(document) == "pending"
            async with services.database.tenant(tenant_id) as session:
                planned = "select next_sync_at < now() from sources where tenant_id = :tenant and source_id = :source"
                assert await session.scalar(text(planned), ours) is True
        async with running(url, job_handlers(services.knowledge), paused=PAUSED):

            async def read() -> bool:
                return await state(document) == "ready"

            await until(read)


async def test_the_worker_pauses_these_kinds(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    class Built(Exception):
        pass

    def runner(*_handlers: Any, paused: frozenset[str], **_options: Any) -> None:
        assert paused >= PAUSED
        raise Built

    monkeypatch.setattr(worker, "JobRunner", runner)
    services = world.services
    with pytest.raises(Built):
        async with worker.running_worker(services.settings, services.database, services.knowledge):
            pass
    assert set(job_handlers(services.knowledge)) >= PAUSED
