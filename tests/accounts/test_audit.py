"""What was done is written down with it, in order, for good."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from stonechat.accounts.actor import Actor, system
from stonechat.accounts.api_keys import create_api_key
from stonechat.accounts.audit import AuditView, list_audit, record_audit
from stonechat.accounts.memberships import add_member
from stonechat.db.session import Database
from stonechat.errors import InvalidCursor, ScopeMissing
from stonechat.web.paging import Page, encode_cursor


async def test_pages_neither_skip_nor_repeat(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        for number in range(7):
            await record_audit(session, system(tenant_id), "test.count", subject_id=str(number), detail={"n": number})
    seen, cursor = [], None
    async with database.tenant(tenant_id) as session:
        while True:
            page = await list_audit(session, system(tenant_id), limit=3, cursor=cursor)
            seen += [entry.subject_id for entry in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    "cursor", ["", "nonsense", encode_cursor("yesterday", "aud_1"), encode_cursor("2026-01-01T00:00:00", "aud_1")]
)
async def test_cursors_of_others_making_are_refused(database: Database, tenant_id: UUID, cursor: str) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(InvalidCursor):
            await list_audit(session, system(tenant_id), cursor=cursor)


async def test_only_admins_read_it(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await list_audit(session, Actor(tenant_id, "person", "per_1", frozenset({"write"})))


@pytest.mark.parametrize(
    "statement", ["update audit_log set action = 'x'", "delete from audit_log", "truncate audit_log"]
)
async def test_the_application_cannot_change_it(database: Database, tenant_id: UUID, statement: str) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with database.tenant(tenant_id) as session:
            await session.execute(text(statement))


async def test_an_action_that_is_rolled_back_leaves_no_entry(database: Database, tenant_id: UUID) -> None:
    async def fail() -> None:
        async with database.tenant(tenant_id) as session:
            await record_audit(session, system(tenant_id), "test.fail")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.tenant(tenant_id) as session:
        assert (await list_audit(session, system(tenant_id))).data == []


async def test_it_is_filtered_by_who_and_by_what(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        member = await add_member(
            session, system(tenant_id), email=f"anna-{tenant_id.hex}@shop.example", role="admin", name="Anna"
        )
        anna = Actor(tenant_id, "person", member.id, frozenset({"admin"}))
        key, _ = await create_api_key(session, anna, name="Nightly script", scopes=["admin"])
        robot = Actor(tenant_id, "api_key", key.id, frozenset({"admin"}))
        await record_audit(session, robot, "agent.edit", subject_id="agt_1")
        await record_audit(session, robot, "agent.publish", subject_id="agt_1")
        await record_audit(session, anna, "agent_story.tell", subject_id="agt_1")

        def read(page: Page[AuditView]) -> list[tuple[str, str | None]]:
            return [(entry.action, entry.actor_name) for entry in page.data]

        assert read(await list_audit(session, anna, actor_id=key.id)) == [
            ("agent.publish", "Nightly script"),
            ("agent.edit", "Nightly script"),
        ]
        assert read(await list_audit(session, anna, action="agent.edit")) == [("agent.edit", "Nightly script")]
        assert [action for action, _ in read(await list_audit(session, anna, action="agent"))] == [
            "agent.publish",
            "agent.edit",
        ]
        assert ("api_key.create", "Anna") in read(await list_audit(session, anna, actor_id=member.id))
        assert ("member.add", None) in read(await list_audit(session, anna))
        assert (await list_audit(session, anna, action="a\x00")).data == []
