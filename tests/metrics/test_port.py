"""The port itself: apart from the public one, bounded in what it tells, silent about who was there."""

from __future__ import annotations

import re
import secrets
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from pydantic import ValidationError
from sqlalchemy import text

from stonechat import __version__, clock, metrics
from stonechat.db.session import Database
from stonechat.doctor import examine
from stonechat.errors import Unavailable
from stonechat.jobs import enqueue
from stonechat.scraping import open_metrics_port
from stonechat.settings import Settings
from support.chat import create
from support.metrics import Measured, a_port, open_measured, sample, worker_read
from support.platform import Platform
from support.postgres import TestDatabase
from support.responders import Gate, speak

DOCUMENT = Path(__file__).parents[2] / "docs" / "operators.md"


async def test_the_public_port_tells_nothing(measured: Measured) -> None:
    for path in ("/metrics", "/metrics/", "/api/v1/metrics"):
        assert (await measured.platform.http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/metrics", 405), ("HEAD", "/metrics", 200)],
)
async def test_the_metrics_port_answers_one_question(measured: Measured, method: str, path: str, status: int) -> None:
    assert (await measured.reader.http.request(method, path)).status_code == status


async def test_it_speaks_openmetrics_to_who_asks_for_it(measured: Measured) -> None:
    wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = await measured.reader.http.get("/metrics", headers=wanted)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family.type for family in openmetrics(answer.text)}
    assert families["stonechat_runs_started"] == "counter"
    assert families["stonechat_run_duration_seconds"] == "histogram"


async def test_it_tells_of_the_process_and_the_build(measured: Measured) -> None:
    read = await measured.reader.text()
    assert "\nprocess_resident_memory_bytes " in read
    assert "\npython_gc_collections_total" in read
    assert (await measured.reader.samples())[sample("stonechat_build_info", version=__version__)] == 1


async def test_answers_in_the_making_and_connections_go_up_and_down(measured: Measured) -> None:
    platform, gate = measured.platform, Gate()
    platform.script(lambda thread, new_id: speak(thread, new_id("message"), ["Hello"], pause=gate))
    running, lent = (
        sample("stonechat_runs_in_progress"),
        sample("stonechat_database_connections_in_use", pool="general"),
    )
    before = await measured.reader.samples()
    visitor = platform.visitor(await platform.agent())
    run = await platform.services.chat.start(create("Hello?"), visitor.caller)
    async with platform.services.database.directory() as session:
        await session.execute(text("select 1"))
        during = await measured.reader.samples()
    gate.let(10)
    while not run.finished:
        await run.wait(len(run.frames))
    after = await measured.reader.samples()
    assert during[running] - before[running] == 1
    assert after[running] == before[running]
    assert during[lent] == after[lent] + 1
    assert after[sample("stonechat_database_connections_limit", pool="hot")] == platform.services.database.hot.size


async def _as_administrator(test_database: TestDatabase, statement: str, tenant_id: UUID) -> None:
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        await connection.execute(statement, tenant_id)
    finally:
        await connection.close()


async def test_workers_tell_how_long_jobs_wait_but_not_those_of_suspended_tenants(
    measured: Measured, database: Database, test_database: TestDatabase
) -> None:
    kind, platform = f"test-{uuid4().hex[:8]}", measured.platform
    async with database.tenant(platform.tenant_id) as session:
        for delay in (timedelta(seconds=-90), timedelta(0), timedelta(hours=1)):
            await enqueue(session, platform.tenant_id, kind, {}, delay=delay)
    waiting, oldest = (
        sample("stonechat_jobs_waiting", kind=kind),
        sample("stonechat_jobs_oldest_wait_seconds", kind=kind),
    )
    async with worker_read(database) as reader:
        read = await reader.samples()
        assert (read[waiting], 89 < read[oldest] < 3600) == (2, True)
        async with database.tenant(platform.tenant_id) as session:
            await enqueue(session, platform.tenant_id, kind, {})
        assert (await reader.samples())[waiting] == 2, "asked once in 15 seconds, however often it is read"
    async with worker_read(database) as reader:
        assert (await reader.samples())[waiting] == 3
    suspend = "insert into suspended_tenants (tenant_id, reason, suspended_by) values ($1, 'test', 'test')"
    await _as_administrator(test_database, suspend, platform.tenant_id)
    async with worker_read(database) as reader:
        assert waiting not in await reader.samples()
    resume = "delete from suspended_tenants where tenant_id = $1"
    await _as_administrator(test_database, resume, platform.tenant_id)
    assert waiting not in await measured.reader.samples(), "told by workers alone"


async def test_workers_tell_what_stripe_is_still_to_be_told(
    measured: Measured, database: Database, tenant_id: UUID
) -> None:
    waiting = sample("stonechat_meter_outbox_waiting")
    async with worker_read(database) as reader:
        before = (await reader.samples())[waiting]
    hour = clock.now().replace(minute=0, second=0, microsecond=0)
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text(
                "insert into meter_outbox (tenant_id, slice_start, seq, slice_end, tokens, identifier, customer_id,"
                " next_attempt_at, created_at) values (:t, :h, 1, :end, 5, :i, 'cus_1', :h, :old)"
            ),
            {
                "t": tenant_id,
                "h": hour,
                "i": uuid4().hex,
                "end": hour + timedelta(hours=1),
                "old": hour - timedelta(days=400),
            },
        )
    async with worker_read(database) as reader:
        read = await reader.samples()
    assert read[waiting] == before + 1
    assert read[sample("stonechat_meter_outbox_oldest_wait_seconds")] >= 400 * 86_400


async def _hostile(platform: Platform, word: str) -> None:
    caller = {"Authorization": f"Bearer {word}", "Origin": f"https://{word}.example", "Host": f"{word}.example"}
    for method, path in (
        ("GET", f"/{word}"),
        ("GET", f"/console/{word}/{word}"),
        ("GET", f"/api/v1/agents/{word}"),
        ("PUT", f"/api/v1/agents/{word}"),
        ("DELETE", f"/chatkit/runs/{word}/events"),
        ("GET", f"/chatkit/runs/{word}/events"),
        ("POST", f"/chatkit?{word}"),
        (word.upper(), "/chatkit"),
        (word.upper(), f"/{word}"),
        ("GET", f"/e/pk_{word}.js"),
        ("GET", f"/embed/{word}/embed.js"),
        ("POST", f"/webhooks/{word}"),
        ("GET", f"/%00{word}"),
        ("GET", f'/{word}\u202e"}}%0a'),
    ):
        answer = await platform.http.request(method, path, headers=caller, content=word)
        assert answer.status_code < 500


async def test_what_strangers_send_makes_no_series(measured: Measured) -> None:
    words = [f"w{secrets.token_hex(12)}" for _ in range(3)]
    await _hostile(measured.platform, words[0])
    known = set(await measured.reader.samples())
    for word in words[1:]:
        await _hostile(measured.platform, word)
    assert set(await measured.reader.samples()) == known
    read = (await measured.reader.text()).lower()
    assert not any(word in read for word in words)
    platform = measured.platform
    platform.script()
    agent_id = await platform.agent(name="Robin of Sherwood")
    visitor = platform.visitor(agent_id)
    await visitor.say("What is the airspeed of a swallow?")
    read = await measured.reader.text()
    for told in (
        platform.tenant_id.hex,
        str(platform.tenant_id),
        agent_id,
        visitor.caller.user_id,
        "Sherwood",
        "swallow",
    ):
        assert told not in read


async def test_routes_are_named_as_they_stand_in_the_code(measured: Measured) -> None:
    await _hostile(measured.platform, "someword")
    routes = {
        dict(labels)["route"]
        for name, labels in await measured.reader.samples()
        if name == "stonechat_http_requests_total"
    }
    assert {"/chatkit", metrics.UNMATCHED, "/api/v1/agents/{agent_id}"} <= routes
    methods = {
        dict(labels)["method"]
        for name, labels in await measured.reader.samples()
        if name == "stonechat_http_requests_total"
    }
    assert methods <= set(metrics.METHODS)


def test_labels_from_the_code_are_bounded_all_the_same() -> None:
    made = metrics.Series(
        "stonechat_test_total", "Only of this test.", "counter", {"kind": metrics.FROM_CODE}, metrics.Count
    )
    metrics.SERIES.remove(made)
    for number in range(metrics.MAX_CHILDREN + 50):
        made.of(str(number)).add()
    children = dict(made.children())
    assert len(children) == metrics.MAX_CHILDREN + 1
    assert children[(metrics.OTHER,)].value == 50


async def test_the_port_ends_with_the_application(test_database: TestDatabase, tmp_path: Path) -> None:
    async with open_measured(test_database, tmp_path) as own:
        url = str(own.reader.http.base_url).rstrip("/")
        assert (await own.reader.http.get("/metrics")).status_code == 200
    with pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient(trust_env=False) as http:
            await http.get(f"{url}/metrics")


def test_a_port_that_is_taken_is_told_in_a_sentence() -> None:
    with a_port() as taken:
        settings = Settings(metrics_port=taken.getsockname()[1])
        with pytest.raises(Unavailable, match="STONECHAT_METRICS_PORT"):
            open_metrics_port(settings)


def test_it_is_off_unless_it_is_asked_for_and_never_the_public_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_metrics_port(Settings()) is None
    monkeypatch.setenv("STONECHAT_METRICS_PORT", "")
    assert Settings().metrics_port is None
    with pytest.raises(ValidationError, match="must not be PORT"):
        Settings(port=9000, metrics_port=9000)
    assert Settings(metrics_port=9464).metrics_host == "127.0.0.1"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({}, "STONECHAT_METRICS_PORT is not set"),
        ({"metrics_port": 9464}, "http://127.0.0.1:9464/metrics"),
        ({"metrics_port": 9464, "metrics_host": "0.0.0.0"}, "whoever reaches"),
    ],
)
async def test_doctor_says_where_they_are(tmp_path: Path, chosen: dict[str, object], said: str) -> None:
    findings = await examine(Settings(data_dir=tmp_path, **chosen))  # type: ignore[arg-type]
    (found,) = [finding for finding in findings if finding.subject == "Metrics"]
    assert found.ok
    assert said in found.detail


def test_names_follow_the_conventions() -> None:
    names = [series.name for series in metrics.SERIES]
    assert len(names) == len(set(names))
    for series in metrics.SERIES:
        assert re.fullmatch(r"stonechat(_[a-z]+)+", series.name)
        assert series.name.endswith("_total") == (series.kind == "counter")
        assert series.name.endswith("_seconds") or series.kind != "histogram"
        assert series.text[0].isupper() or series.text[0].isdigit()
        assert series.text.endswith(".")


def test_the_operators_table_is_the_registrys() -> None:
    rows = [
        f"| `{series.name}` | {series.kind} | {', '.join(f'`{label}`' for label in series.labels) or '—'} | {series.text} |"
        for series in metrics.SERIES
    ]
    told = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("| `stonechat_")]
    assert told == rows, "\n".join(rows)


def test_alerts_ask_for_series_that_there_are() -> None:
    alerts = (
        DOCUMENT.read_text(encoding="utf-8")
        .partition("### What to be woken for")[2]
        .partition("```yaml")[2]
        .partition("```")[0]
    )
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bstonechat_\w+", alerts)}
    assert asked
    assert asked <= {series.name for series in metrics.SERIES}
