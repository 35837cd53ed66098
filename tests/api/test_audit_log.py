"""`/api/v1/audit-log`, over HTTP: filtered, in pages, and as files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from stonechat import clock
from stonechat.accounts import audit_export
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.web import encode_cursor
from support.management import Keyed, Management, management
from support.postgres import TestDatabase


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("audit")) as opened:
        yield opened


async def with_deeds(house: Management, name: str) -> Keyed:
    shop = await house.tenant(name)
    async with house.services.database.tenant(shop.tenant_id) as session:
        for number in range(5):
            actor = Actor(shop.tenant_id, "person", f"per_{number % 2}")
            await record_audit(session, actor, "agent.edit", subject_id=f"agt_{number}", detail={"note": "=1+1"})
    return shop


async def test_it_is_filtered_by_who_what_and_when(house: Management) -> None:
    shop = await with_deeds(house, "Audit one")
    mine = await shop.call("GET", "/audit-log", params={"actor_id": "per_1"})
    assert [entry["subject_id"] for entry in mine["data"]] == ["agt_3", "agt_1"]
    edits = await shop.call("GET", "/audit-log", params={"action": "agent", "limit": 2})
    rest = await shop.call("GET", "/audit-log", params={"action": "agent", "cursor": edits["next_cursor"]})
    assert [entry["subject_id"] for entry in edits["data"] + rest["data"]] == [f"agt_{n}" for n in (4, 3, 2, 1, 0)]
    middle = edits["data"][1]["occurred_at"]
    since = await shop.call("GET", "/audit-log", params={"action": "agent.edit", "since": middle})
    until = await shop.call("GET", "/audit-log", params={"action": "agent.edit", "until": middle})
    assert [entry["subject_id"] for entry in since["data"]] == ["agt_4", "agt_3"]
    assert [entry["subject_id"] for entry in until["data"]] == ["agt_3", "agt_2", "agt_1", "agt_0"]
    later = (clock.now() + timedelta(days=1)).isoformat()
    assert (await shop.call("GET", "/audit-log", params={"since": later}))["data"] == []


async def test_it_is_taken_away_as_csv_and_as_lines(house: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await with_deeds(house, "Audit two")
    stranger = await with_deeds(house, "Audit three")
    monkeypatch.setattr(audit_export, "MAX_PAGE", 2)
    table = await shop.ask("GET", "/audit-log/export", params={"action": "agent"})
    assert table.headers["content-type"].startswith("text/csv")
    assert "audit-log.csv" in table.headers["content-disposition"]
    head, *rows = csv.reader(io.StringIO(table.text))
    assert head == list(audit_export.COLUMNS)
    assert [row[6] for row in rows] == [f"agt_{n}" for n in (4, 3, 2, 1, 0)]
    lines = await shop.ask("GET", "/audit-log/export", params={"format": "jsonl", "action": "agent"})
    told = [json.loads(line) for line in lines.text.splitlines()]
    assert [entry["detail"] for entry in told] == [{"note": "=1+1"}] * 5
    theirs = {
        json.loads(row)["id"] for row in (await stranger.ask("GET", "/audit-log/export?format=jsonl")).text.split()
    }
    assert not theirs & {entry["id"] for entry in told}


async def test_a_file_has_an_end(house: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = await with_deeds(house, "Audit four")
    monkeypatch.setattr(audit_export, "MAX_PAGE", 2)
    monkeypatch.setattr(audit_export, "MAX_ENTRIES", 4)
    assert len((await shop.ask("GET", "/audit-log/export?format=jsonl")).text.splitlines()) == 4


@pytest.mark.parametrize("path", ["/audit-log", "/audit-log/export"])
async def test_it_is_for_admins_and_refuses_nonsense(house: Management, path: str) -> None:
    shop = await house.tenant("Audit five")
    editor = await house.key(shop.tenant_id, "write")
    assert (await editor.call("GET", path, 403))["code"] == "scope_missing"
    refused = await shop.call("GET", path, 422, params={"since": "yesterday"})
    assert refused["errors"][0]["field"] == "since"
    assert (await shop.ask("GET", path)).headers["ratelimit"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/audit-log?since=0001-01-01T00:00:00%2B14:00", "invalid_input"),
        ("/audit-log?until=9999-12-31T23:59:59-14:00", "invalid_input"),
        ("/audit-log/export?since=0001-01-01T00:00:00%2B14:00", "invalid_input"),
        ("/knowledge/unanswered?since=0001-01-01T00:00:00%2B14:00", "invalid_input"),
        *(
            (f"/{of}?cursor={encode_cursor('0001-01-01T00:00:00+14:00', 'a')}", "invalid_cursor")
            for of in ("audit-log", "members", "invoices")
        ),
    ],
)
async def test_a_time_outside_of_all_days_is_the_callers_mistake(house: Management, path: str, code: str) -> None:
    shop = await house.tenant("Times")
    answer = await shop.ask("GET", path)
    assert (answer.status_code < 500, answer.json()["code"]) == (True, code)
