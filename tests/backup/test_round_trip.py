"""A platform with everything in it, backed up and put back by the commands: the other one is the same."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from click.testing import Result
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import ids
from stonechat.accounts.people import set_password
from stonechat.accounts.secrets import open_secrets
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.backup.manifest import FOLDERS, file_name, meaning_of
from stonechat.chat.attachments import object_name
from stonechat.demo.seed import seed_demo, wait_until_read
from stonechat.identity.caller import Caller
from stonechat.knowledge.service import original_of, replaced_original
from stonechat.settings import Settings
from support.api import message
from support.backups import KEY, bare_database, command, files_of, rows_of, shape_of
from support.identity import PLATFORM
from support.postgres import TestDatabase, migrated_database
from support.world import ORIGIN, User, client, open_world

PASSWORD = "correct horse battery"
REINDEXED = "public.knowledge_checks"
"""Notes that its rows were compared with the index, which is new."""


@dataclass
class Copy:
    """A platform, and what was made of its backup."""

    there: TestDatabase
    """Restored."""
    folder: Path
    archive: Path
    backed_up: Result
    restored: Result
    rows: dict[str, tuple[int, str]]
    """Of the first, by table."""
    shape: list[tuple[Any, ...]]
    files: dict[str, bytes]
    anna: User
    tenant_id: UUID
    other: UUID


@pytest.fixture(scope="module")
async def copy(postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Copy]:
    folder, archive = tmp_path_factory.mktemp("world"), tmp_path_factory.mktemp("backups") / "one.tar.gz"
    with pytest.MonkeyPatch.context() as patch:
        async with (
            migrated_database(postgres_admin_url, f"stonechat_backup_{os.getpid()}") as here,
            bare_database(postgres_admin_url, f"stonechat_restore_{os.getpid()}") as there,
        ):
            await add_a_month_long_ago(here)
            async with open_world("as built", here, folder) as world:
                services, anna = world.services, world.ours.anna
                await seed_demo(services.settings, services.database, services.knowledge.files)
                await wait_until_read(services.database)
                await set_password(services.database, world.ours.ids["person_id"], password=PASSWORD)
                await services.chat.attachments.files.put(
                    world.ours.tenant_id, object_name(anna.attachment), data=b"What Anna attached."
                )
                stray = original_of(ids.new_id("doc"))
                await services.knowledge.files.put(world.ours.tenant_id, stray, data=b"Of no row.")
            backed_up = await command("backup", archive, database=here, folder=folder, patch=patch)
            assert backed_up.exit_code == 0, backed_up.output
            await services.knowledge.files.delete(world.ours.tenant_id, stray)
            elsewhere = tmp_path_factory.mktemp("restored")
            restored = await command("restore", archive, database=there, folder=elsewhere, patch=patch)
            assert restored.exit_code == 0, restored.output
            yield Copy(
                there, elsewhere, archive, backed_up, restored, await rows_of(here.admin_url), await shape_of(here.admin_url),
                files_of(folder / "files"), anna, world.ours.tenant_id, world.theirs.tenant_id,
            )  # fmt: skip


async def add_a_month_long_ago(database: TestDatabase) -> None:
    """A partition that no migration of today makes, with a row."""
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute("""
        set role stonechat_owner;
        create table audit_log_202412 partition of audit_log
            for values from ('2024-12-01 00:00:00+00') to ('2025-01-01 00:00:00+00')""")
    await connection.execute(
        "insert into audit_log (tenant_id, audit_id, occurred_at, actor_kind, action) "
        "values (gen_random_uuid(), 'aud_old', '2024-12-31 23:59:59.999+00', 'system', E'line\\n\\t\\\\. \\u00fc')"
    )
    await connection.close()


@pytest.fixture
async def platform(copy: Copy) -> AsyncIterator[FastAPI]:
    """The restored one, started."""
    settings = Settings().model_copy(
        update={
            "data_dir": copy.folder,
            "secret_keys": (SecretStr(KEY),),
            "database_url": copy.there.web_url,
            "configured_owner_database_url": copy.there.admin_url,
            "configured_public_url": "http://platform.example",
        }
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


async def test_every_row_of_every_table_is_the_same(copy: Copy) -> None:
    rows = await rows_of(copy.there.admin_url)
    different = {name for name in copy.rows.keys() | rows.keys() if copy.rows.get(name) != rows.get(name)}
    assert different <= {REINDEXED}
    filled = {name for name, (count, _) in rows.items() if count}
    assert len(filled) > 30, "the world has much of everything"
    assert {"public.thread_items", "public.run_events", "public.tenant_keys", "jobs.pgqueuer_log"} <= filled


async def test_the_catalogue_is_the_same(copy: Copy) -> None:
    assert await shape_of(copy.there.admin_url) == copy.shape


async def test_files_are_the_same_but_for_those_of_no_row(copy: Copy) -> None:
    there = files_of(copy.folder / "files")
    assert there == copy.files
    assert len(there) > 20
    assert b"What Anna attached." in there.values()


def test_the_commands_say_what_was_done(copy: Copy) -> None:
    total = sum(count for count, _ in copy.rows.values())
    assert f"{total:,} rows of {len(copy.rows)} tables and {len(copy.files)} files" in copy.backed_up.stdout
    assert "without its" in copy.backed_up.stdout
    assert f"Restored: {total:,} rows" in copy.restored.stdout
    assert "passages written" in copy.restored.stderr
    assert copy.archive.stat().st_mode & 0o777 == 0o600
    assert KEY not in copy.backed_up.output


async def test_it_answers_from_its_knowledge_and_goes_on_with_a_conversation(copy: Copy, platform: FastAPI) -> None:
    headers = copy.anna.headers | {"Stonechat-Stream": "resumable"}
    async with client(platform) as browser:
        body = message("Where is the heliotrope kept?", copy.anna.thread)
        turn = await browser.post("/chatkit", json=body, headers=headers)
        assert turn.status_code == 200, turn.text
    events = [json.loads(line[6:]) for line in turn.text.splitlines() if line.startswith("data: ")]
    (answer,) = [
        event["item"]
        for event in events
        if event["type"] == "thread.item.done" and event["item"]["type"] == "assistant_message"
    ]
    content = answer["content"][0]
    assert "second door" in content["text"]
    assert [each["source"]["title"] for each in content["annotations"]] == ["heliotrope"]


async def test_people_sign_in_and_keys_still_work(copy: Copy, platform: FastAPI) -> None:
    async with client(platform, Origin=PLATFORM) as browser:
        form = {"email": "owner@heliotrope.example", "password": PASSWORD}
        signed_in = await browser.post("/console/login", data=form, headers={"Origin": "http://platform.example"})
        assert (signed_in.status_code, signed_in.headers["location"]) == (303, "/console")
        wrong = await browser.post(
            "/console/login", data=form | {"password": "no"}, headers={"Origin": "http://platform.example"}
        )
        assert wrong.status_code != 303


async def test_what_was_encrypted_is_decrypted(copy: Copy, platform: FastAPI) -> None:
    services: Services = platform.state.services
    async with services.database.tenant(copy.tenant_id) as session:
        opened = await open_secrets(session, copy.tenant_id, keyring=services.keyring, names=["heliotrope"])
    assert opened["heliotrope"].value == "the heliotrope is a lie"


async def test_tenants_do_not_meet(copy: Copy, platform: FastAPI) -> None:
    services: Services = platform.state.services
    asked = text("select distinct tenant_id from thread_items")
    async with services.database.tenant(copy.tenant_id) as session:
        assert list(await session.scalars(asked)) == [copy.tenant_id]
    async with services.database.directory() as session:
        assert list(await session.scalars(asked)) == []
    async with services.database.platform() as session:
        assert {copy.tenant_id, copy.other} <= set(await session.scalars(asked))


async def test_new_rows_come_after_the_old_ones(copy: Copy, platform: FastAPI) -> None:
    services: Services = platform.state.services
    caller = Caller(
        tenant_id=copy.tenant_id, user_id=ids.new_id("usr"), agent_id=copy.anna.caller.agent_id, origin=ORIGIN
    )
    token, _ = services.session_tokens.mint(caller)
    async with services.database.tenant(copy.tenant_id) as session:
        before = await session.scalar(text("select max(seq) from threads"))
    async with client(platform) as browser:
        turn = await browser.post(
            "/chatkit", json=message("Hello?"), headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN}
        )
        assert turn.status_code == 200
    async with services.database.tenant(copy.tenant_id) as session:
        seq = await session.scalar(text("select seq from threads where user_id = :user"), {"user": caller.user_id})
    assert before is not None
    assert seq > before


async def test_a_second_time_is_refused(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await rows_of(copy.there.admin_url)
    again = await command("restore", copy.archive, database=copy.there, folder=copy.folder, patch=monkeypatch)
    assert again.exit_code == 1
    assert "The database is not empty: there are rows in" in again.stderr
    assert await rows_of(copy.there.admin_url) == before


async def test_a_folder_gets_a_file_named_by_the_time(
    copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await command("backup", tmp_path, database=copy.there, folder=copy.folder, patch=monkeypatch)
    assert answer.exit_code == 0, answer.output
    (made,) = tmp_path.iterdir()
    assert made.match("stonechat-20??????T??????Z.tar.gz")
    with_another = await command(
        "backup", tmp_path / "x.tar.gz", database=copy.there, folder=copy.folder, key="x" * 40, patch=monkeypatch
    )
    assert with_another.exit_code == 1
    assert "STONECHAT_SECRET_KEYS lacks the key" in with_another.stderr
    assert list(tmp_path.iterdir()) == [made]


def test_the_folders_are_those_that_rooms_use() -> None:
    for name in (original_of("doc_1"), replaced_original("doc_1", b"\xff" * 32), object_name("atc_1")):
        assert name.split("/")[0] in FOLDERS
        assert meaning_of(file_name(UUID(int=1), name)) is not None
