"""Each series moves when its event happens: the events are made, and the port is read over the loopback before and after."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from stonechat import ids, metrics
from stonechat.accounts.actor import system
from stonechat.assistant.guardrails.findings import Finding, record
from stonechat.assistant.guardrails.moderation import moderate
from stonechat.assistant.trace import Trace
from stonechat.billing import webhooks as stripe_webhooks
from stonechat.db.hot import HotConnections
from stonechat.db.session import Database
from stonechat.errors import BudgetUsedUp, RateLimited, StonechatError, Unavailable, UpstreamFailed
from stonechat.identity.caller import Caller
from stonechat.jobs import GiveUp, enqueue
from stonechat.jobs.attempts import Work
from stonechat.jobs.runner import _scheduled
from stonechat.knowledge.embeddings import Embedder, EmbeddingModel
from stonechat.knowledge.index import IndexPoint
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.limits.limiter import PRIVACY_PER_MINUTE
from stonechat.mail import Mail, job_handlers
from stonechat.providers.breaker import FAILURES, Breakers
from stonechat.providers.transcription import transcribe
from stonechat.usage.quota import Budget, UsageBudgetRow, put_budget, require_budget
from support.billing import SECRET, signature, snapshot
from support.chat_replies import chat_text
from support.fake_openai import SILENCE, fake_openai, refusal
from support.jobs import running, until
from support.loopback import plain, serve
from support.metrics import Measured, Sample, sample, worker_read
from support.platform import platform_of
from support.postgres import TestDatabase
from support.responders import speak
from support.webhooks import at, hooks_of

Happen = Callable[[Measured, TestDatabase, Path], Awaitable[None]]
WEBM = b"\x1aE\xdf\xa3" + b"\0" * 100
EVENTS: dict[str, tuple[Happen, list[Sample]]] = {}


def moves(*samples: Sample) -> Callable[[Happen], Happen]:
    """What the event below adds to."""

    def note(happen: Happen) -> Happen:
        EVENTS[happen.__name__] = happen, list(samples)
        return happen

    return note


@moves(
    sample("stonechat_http_requests_total", route="/chatkit", method="POST", status="2xx"),
    sample("stonechat_http_request_duration_seconds_count", route="/chatkit"),
    sample("stonechat_runs_started_total"),
    sample("stonechat_runs_ended_total", outcome="done"),
    sample("stonechat_run_duration_seconds_count"),
    sample("stonechat_run_first_event_seconds_count"),
    sample("stonechat_run_events_total"),
    sample("stonechat_run_event_bytes_total"),
)
async def an_answer(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    measured.platform.script()
    await measured.platform.visitor(await measured.platform.agent()).say("Hello?")


@moves(sample("stonechat_runs_ended_total", outcome="failed"))
async def an_answer_that_breaks(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    async def broken(thread, new_id):
        async for event in speak(thread, new_id("message"), ["Hello"]):
            yield event
            raise UpstreamFailed("no")

    measured.platform.script(broken)
    await measured.platform.visitor(await measured.platform.agent()).say("Hello?")


@moves(sample("stonechat_http_requests_total", route="/chatkit", method="POST", status="4xx"))
async def a_visitor_without_a_session(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    assert (await measured.platform.http.post("/chatkit", json={})).status_code == 401


@moves(
    sample("stonechat_http_requests_total", route="/api/v1/agents/{agent_id}", method="GET", status="4xx"),
    sample("stonechat_http_request_duration_seconds_count", route="/api/v1/agents/{agent_id}"),
)
async def a_route_of_the_api(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    assert (await measured.platform.http.get("/api/v1/agents/agt_1")).status_code == 401


@moves(sample("stonechat_http_requests_total", route="/chatkit/runs/{run}/events", method="GET", status="4xx"))
async def a_route_beside_the_framework(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    assert (await measured.platform.http.get("/chatkit/runs/run_1/events")).status_code == 401


@moves(
    sample("stonechat_model_calls_total", provider="compatible", outcome="answered"),
    sample("stonechat_model_call_duration_seconds_count", provider="compatible"),
    *(sample("stonechat_model_tokens_total", provider="compatible", direction=way) for way in ("in", "out")),
)
async def a_model_that_answers(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    platform = measured.platform
    platform.services.chat.responder = platform.assistant
    async with fake_openai(chat_text("Hello", " there")) as fake:
        name = f"q{uuid4().hex[:8]}"
        await platform.provider(fake.url, name=name)
        await platform.visitor(await platform.agent(model=f"{name}/large")).say("Hello?")


@moves(sample("stonechat_model_calls_total", provider="built-in", outcome="answered"))
async def a_built_in_model(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    measured.platform.services.chat.responder = measured.platform.assistant
    await measured.platform.visitor(await measured.platform.agent(model="scripted")).say("Hello?")


@moves(
    *(
        sample("stonechat_model_side_calls_total", purpose=purpose, outcome=outcome)
        for purpose in metrics.SIDE_PURPOSES
        for outcome in ("answered", "not_reached", "refused", "stopped")
    ),
    *(sample("stonechat_model_side_call_duration_seconds_count", purpose=purpose) for purpose in metrics.SIDE_PURPOSES),
)
async def what_providers_are_asked_beside_answers(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    async with platform_of(measured.platform.app) as platform, fake_openai([SILENCE]) as fake:
        dictation, tenant_id = platform.services.chat.dictation, platform.tenant_id
        assert dictation is not None
        providers = dictation._providers
        await platform.provider(fake.url)
        embedder, model = Embedder(platform.services.database, providers), EmbeddingModel("acme", "small")
        vector = {"data": [{"index": 0, "embedding": [1.0] * 8, "object": "embedding"}], "object": "list"}
        verdict = {
            "id": "modr_1",
            "model": "m",
            "results": [{"flagged": False, "categories": {}, "category_scores": {}}],
        }
        for answer, ask in (
            (vector, lambda: embedder.embed_query(tenant_id, model, "Hello?")),
            ({"text": "Hello"}, lambda: transcribe(providers, tenant_id, model="acme/whisper", audio=WEBM)),
            (verdict, lambda: moderate(providers, tenant_id, provider="acme", model="", text="Hi", stage="input")),
        ):
            said = [plain(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})]
            for reply in (said, refusal(500), refusal(400), [SILENCE]):
                fake.replies[:] = [reply]
                asked = len(fake.requests)
                asking = asyncio.ensure_future(ask())
                async with asyncio.timeout(20):
                    while len(fake.requests) == asked:
                        await asyncio.sleep(0.01)
                if reply == [SILENCE]:
                    asking.cancel()
                with suppress(StonechatError, asyncio.CancelledError):
                    await asking


@moves(
    *(sample("stonechat_model_breaker_changes_total", to=to) for to in ("open", "half_open", "closed")),
    sample("stonechat_model_breaker_refusals_total"),
)
async def a_provider_that_rests_and_recovers(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    now = [1000.0]
    breakers, key = Breakers(clock=lambda: now[0]), (uuid4(), "prv")
    for _ in range(FAILURES):
        with breakers.calling(key) as call:
            call.failed()
    with pytest.raises(StonechatError), breakers.calling(key):
        pass
    now[0] += 1000
    with breakers.calling(key) as call:
        call.succeeded()


@moves(sample("stonechat_guardrail_trips_total", rule="blocked_topic", action="blocked"))
async def a_blocked_topic(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    record(Trace(), [Finding("input", "blocked_topic", "blocked", "what the tenant calls it")])


@moves(sample("stonechat_limit_refusals_total", scope="privacy"))
async def a_limit_that_is_used_up(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    caller = Caller(tenant_id=uuid4(), user_id="usr_1", agent_id="agt_1", origin=None)
    limiter = measured.platform.services.limiter
    for _ in range(PRIVACY_PER_MINUTE):
        await limiter.check_privacy(caller)
    with pytest.raises(RateLimited):
        await limiter.check_privacy(caller)


@moves(*(sample("stonechat_budget_refusals_total", reason=reason) for reason in ("tokens", "aside")))
async def a_budget_that_is_used_up(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    async with platform_of(measured.platform.app) as platform:
        platform.script()
        visitor = platform.visitor(await platform.agent())
        database, tenant_id = platform.services.database, platform.tenant_id
        async with database.tenant(tenant_id) as session:
            await put_budget(session, system(tenant_id), budget=Budget(max_tokens=1))
        async with database.tenant(tenant_id) as session:
            row = await session.get(UsageBudgetRow, tenant_id)
            assert row is not None
            row.used_tokens = 5
        await visitor.say("Hello?")
        with pytest.raises(BudgetUsedUp):
            async with database.tenant(tenant_id) as session:
                await require_budget(session, tenant_id)


@moves(
    *(
        sample("stonechat_jobs_total", kind="test-metrics", outcome=outcome)
        for outcome in ("done", "retried", "given_up")
    ),
    sample("stonechat_job_duration_seconds_count", kind="test-metrics"),
)
async def jobs_done_and_not(measured: Measured, database: TestDatabase, _folder: Path) -> None:
    ended: list[str] = []

    async def handle(_tenant: UUID, payload: dict[str, object]) -> None:
        ended.append(str(payload["end"]))
        if payload["end"] == "never":
            raise GiveUp("Never.")
        if payload["end"] == "later" and ended.count("later") < 2:
            raise ConnectionResetError("not yet")

    tenant_id = measured.platform.tenant_id
    async with measured.platform.services.database.tenant(tenant_id) as session:
        for end in ("well", "later", "never"):
            await enqueue(session, tenant_id, "test-metrics", {"end": end})
    async with running(database.web_url, {"test-metrics": handle}):
        await until(lambda: sorted(ended) == ["later", "later", "never", "well"])


@moves(*(sample("stonechat_scheduled_work_total", outcome=outcome) for outcome in ("done", "failed")))
async def work_by_the_clock(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    async def well() -> None:
        pass

    async def badly() -> None:
        raise ValueError

    for work in (well, badly):
        with suppress(ValueError):
            await _scheduled(Work(timedelta(seconds=5)), work)(None)  # type: ignore[arg-type]


@moves(*(sample("stonechat_mails_total", outcome=outcome) for outcome in ("sent", "failed")))
async def mails(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    class Post:
        async def send(self, mail: Mail) -> None:
            if mail.subject == "lost":
                raise UpstreamFailed("no")

    (send,) = job_handlers(Post()).values()
    for subject in ("kept", "lost"):
        mail = Mail(to="ada@example.com", subject=subject, text="Hello", html="<p>Hello</p>")
        with suppress(UpstreamFailed):
            await send(uuid4(), mail.model_dump())


@moves(*(sample("stonechat_webhook_attempts_total", outcome=outcome) for outcome in ("delivered", "failed", "gone")))
async def webhooks_delivered_and_not(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    for status in (200, 500, 410):
        async with (
            platform_of(measured.platform.app) as platform,
            serve(plain(status=status)) as receiver,
            hooks_of(platform.services.database, platform.tenant_id) as hooks,
        ):
            endpoint = await hooks.endpoint(at(receiver.port))
            await hooks.happen()
            await hooks.deliver(endpoint.id)


@moves(
    *(sample("stonechat_stripe_webhooks_total", outcome=outcome) for outcome in ("new", "again")),
    *(
        sample("stonechat_stripe_webhooks_refused_total", reason=why)
        for why in ("unsigned", "wrong_signature", "malformed")
    ),
)
async def what_stripe_says_and_what_it_does_not(measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    database, payload = measured.platform.services.database, snapshot(ids.new_id("cus"))
    for body, signed in (
        (payload, signature(payload)),
        (payload, signature(payload)),
        (payload, None),
        (payload, signature(payload, secret="whsec_guessed_by_somebody_else_000")),
        (b"{}", signature(b"{}")),
    ):
        with suppress(StonechatError):
            await stripe_webhooks.receive(database, body, signature=signed, secrets=[SECRET])


@moves(*(sample("stonechat_database_hot_waits_total", outcome=outcome) for outcome in ("served", "timeout")))
async def a_busy_hot_path(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    class Connection:
        def is_closed(self) -> bool:
            return False

    async def connect() -> Connection:
        return Connection()

    connections = HotConnections(connect, size=1, wait_seconds=0.05)
    lent = await connections.take()
    with pytest.raises(TimeoutError):
        await connections.take()
    waiting = asyncio.create_task(connections.take())
    await asyncio.sleep(0)
    connections.give_back(lent, None)
    await waiting


@moves(
    *(
        sample("stonechat_index_operations_total", operation=operation, outcome="done")
        for operation in metrics.INDEX_OPERATIONS
    ),
    *(
        sample("stonechat_index_operation_duration_seconds_count", operation=operation)
        for operation in metrics.INDEX_OPERATIONS
    ),
    sample("stonechat_index_operations_total", operation="search", outcome="failed"),
)
async def an_index_at_work(_measured: Measured, _database: TestDatabase, folder: Path) -> None:
    index, tenant_id = EdgeIndex(folder / "index"), uuid4()
    await index.upsert(tenant_id, [IndexPoint("doc_1", f"chk_{uuid4().hex}", "Refunds take ten days.")])
    await index.search(tenant_id, "refunds", limit=3)
    await index.nearest(tenant_id, [0.1], limit=3)
    await index.label_document(tenant_id, "doc_1", source_id=None, tags=["x"])
    await index.count(tenant_id)
    await index.held(tenant_id)
    await index.delete_document(tenant_id, "doc_1")
    await index.drop_tenant(tenant_id)
    await index.close()
    with pytest.raises(Unavailable):
        await index.search(tenant_id, "refunds", limit=3)


@moves(sample("stonechat_metrics_questions_failed_total"))
async def a_database_that_does_not_answer(_measured: Measured, _database: TestDatabase, _folder: Path) -> None:
    away = Database("postgresql://nobody:nothing@127.0.0.1:9/nothing")
    async with worker_read(away) as reader:
        read = await reader.samples()
    assert not any(name in ("stonechat_jobs_waiting", "stonechat_meter_outbox_waiting") for name, _ in read)
    await away.close()


@pytest.mark.parametrize("event", list(EVENTS))
async def test_a_series_moves_when_its_event_happens(
    measured: Measured, test_database: TestDatabase, tmp_path: Path, event: str
) -> None:
    happen, samples = EVENTS[event]
    before = await measured.reader.samples()
    await happen(measured, test_database, tmp_path)
    after = await measured.reader.samples()
    still = [each for each in samples if not after[each] > before.get(each, 0)]
    assert still == []


def test_no_series_is_without_its_event() -> None:
    moved = {name.removesuffix("_count") for _, samples in EVENTS.values() for name, _ in samples}
    counted = {series.name for series in metrics.SERIES if isinstance(series, metrics.Series)}
    assert counted - moved == {"stonechat_runs_in_progress"}, "see test_port.py"
    assert moved - counted == set()
