"""What is told: every kind of the catalogue is recorded somewhere, with the fields that its example shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from sqlalchemy import text

import stonechat
from stonechat import clock
from stonechat.webhooks.catalogue import CATALOGUE, KINDS, TEST, data_of
from stonechat.webhooks.fan_out import body_of, subscribers, tell
from support.webhooks import Hooks

SOURCES = Path(stonechat.__file__).parent


def test_kinds_are_named_as_the_specification_recommends() -> None:
    assert len(KINDS) == len(CATALOGUE)
    assert TEST not in KINDS
    for kind in CATALOGUE:
        assert re.fullmatch(r"[a-z]+(\.[a-z_]+)+", kind.name)
        assert kind.sentence.endswith(".")
        assert len(body_of(kind.name, occurred_at=clock.now(), data=kind.example)) < 20_000


def test_every_kind_is_recorded_somewhere_and_told_to_the_room(hooks: Hooks) -> None:
    written = "\n".join(path.read_text() for path in SOURCES.rglob("*.py") if path.name != "catalogue.py")
    written += "document.ready document.failed"  # told by one line for both
    for kind in CATALOGUE:
        noun, verb = kind.name.split(".")
        assert kind.name in written or f'"{noun}.{{_PAST' in written, kind.name
        assert verb
    assert subscribers(hooks.database).keys() == KINDS.keys()


def test_of_a_payload_only_the_fields_of_the_catalogue_are_told() -> None:
    for kind in CATALOGUE:
        assert data_of(kind.name, {**kind.example, "more": 1}) == dict(kind.example)


@pytest.mark.parametrize("wanted", [["document.ready"], None, ["source.synced"], "nobody"])
async def test_what_only_webhooks_are_for_is_recorded_where_one_wants_it(
    hooks: Hooks, wanted: list[str] | str | None
) -> None:
    if not isinstance(wanted, str):
        await hooks.endpoint("http://one.test/hook", events=wanted)
    async with hooks.database.tenant(hooks.tenant_id) as session:
        await tell(session, hooks.tenant_id, "document.ready", {"document_id": "doc_1"})
    expected = ["document.ready"] if wanted in (["document.ready"], None) else []
    assert [event.kind for event in await hooks.recorded()] == expected


def test_a_body_that_is_too_long_is_cut_rather_than_not_sent() -> None:
    data = {"conversation_id": "thr_1", "reason": "ä" * 60_000, "title": None}
    body = body_of("conversation.closed", occurred_at=clock.now(), data=data)
    assert len(body.encode()) < 65_536
    assert json.loads(body)["data"] == {"conversation_id": "thr_1", "reason": "ä" * 1000, "title": None}


async def test_what_was_told_of_a_conversation_goes_with_it(hooks: Hooks) -> None:
    endpoint = await hooks.endpoint("http://one.test/hook")
    for thread_id in ("thr_gone", "thr_kept"):
        async with hooks.database.tenant(hooks.tenant_id) as session:
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at) "
                    "values (:tenant, :thread, 'usr_1', now())"
                ),
                {"tenant": hooks.tenant_id, "thread": thread_id},
            )
        payload = {"conversation_id": thread_id, "user_id": "usr_1", "title": "Private words"}
        await hooks.dispatch(await hooks.happen("conversation.closed", payload))
    assert len(await hooks.deliveries(endpoint.id)) == 2
    async with hooks.database.tenant(hooks.tenant_id, user_id="usr_1") as session:  # as the visitor themselves
        await session.execute(text("delete from threads where thread_id = 'thr_gone'"))
    assert [event.payload["conversation_id"] for event in await hooks.recorded()] == ["thr_kept"]
    (left,) = await hooks.deliveries(endpoint.id)
    assert json.loads(left.body)["data"]["conversation_id"] == "thr_kept"
