"""The metrics port: a listener of its own, apart from the public one, where Prometheus reads what `metrics.py` counted.

`serve` and `worker` have one each, and `up` too, where `STONECHAT_METRICS_PORT` is set. It answers `GET /metrics` in the text
format or as OpenMetrics, whichever is asked for, and nothing else. What only the database knows (the queue, the outbox) is
asked for by processes that work, at most every `ASK_SECONDS`, however often they are read; while it cannot be asked, its
series are missing rather than wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

import uvicorn
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import text
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from stonechat import __version__, metrics
from stonechat.billing.meters import outbox_depth
from stonechat.db.session import Database
from stonechat.jobs.queue import waiting_jobs
from stonechat.metrics import Asked, Count, Series, Spread
from stonechat.serving import listen_on
from stonechat.settings import Settings

ASK_SECONDS = 15.0
"""What the database said is told for so long."""
ANSWER_SECONDS = 3.0
MAX_READERS = 16
_log = logging.getLogger(__name__)
_EACH_ITS_OWN = "Set STONECHAT_METRICS_PORT to another port: each process on a machine needs one of its own, and none is the public one."

Figures = Mapping[Asked, Iterable[tuple[tuple[str, ...], float]]]
"""Of series that are asked for: the labels' values, and the value."""


def open_metrics_port(settings: Settings) -> socket.socket | None:
    """The listener, taken before anything else starts; None where no port is set. Raises `Unavailable` for one that is taken."""
    if settings.metrics_port is None:
        return None
    return listen_on(settings.metrics_host, settings.metrics_port, backlog=MAX_READERS, remedy=_EACH_ITS_OWN)


@contextlib.asynccontextmanager
async def answering_metrics(listener: socket.socket | None, *, database: Database, works: bool) -> AsyncIterator[None]:
    """Answer on `listener` while the context is open. `works` says that this process does jobs, and so tells of the queue."""
    if listener is None:
        yield
        return
    server = _Server(
        uvicorn.Config(
            _Page(database, works=works),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MAX_READERS,
            timeout_keep_alive=75,  # longer than people leave between two readings
            timeout_graceful_shutdown=2,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.wait([task], timeout=5)
        listener.close()


class _Server(uvicorn.Server):
    """uvicorn, which leaves signals to the process that it is a guest of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Page:
    """The one page."""

    def __init__(self, database: Database, *, works: bool) -> None:
        self._collected = _Collected(database)
        self._asking = _Asking(database) if works else None
        self._registry = CollectorRegistry()
        self._registry.register(self._collected)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._one_at_a_time = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await (await self._answer(scope))(scope, receive, send)

    async def _answer(self, scope: Scope) -> ASGIApp:
        if scope["path"] != "/metrics":
            return PlainTextResponse("Only /metrics is here.\n", 404)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Only to be read.\n", 405, {"Allow": "GET, HEAD"})
        encode, content_type = choose_encoder(Headers(scope=scope).get("accept", ""))
        async with self._one_at_a_time:
            if self._asking is not None:
                self._collected.asked = await self._asking.figures()
            # Beside the loop: writing thousands of lines takes milliseconds, and answers are streaming.
            body = await asyncio.to_thread(encode, self._registry)
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})


class _Asking:
    """What the database knows, asked for now and then."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._figures: Figures = {}
        self._asked_at = float("-inf")

    async def figures(self) -> Figures:
        """At most `ASK_SECONDS` old; empty while the database does not answer."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at >= ASK_SECONDS:
            self._asked_at = now
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    self._figures = await self._ask()
            except Exception as error:
                # Whatever it is, the rest is to be read all the same.
                metrics.QUESTIONS_FAILED.add()
                _log.warning("The database could not be asked for metrics: %s: %s", type(error).__name__, error)
                self._figures = {}
        return self._figures

    async def _ask(self) -> Figures:
        async with self._database.platform() as session:
            await session.execute(text(f"set local statement_timeout = '{ANSWER_SECONDS - 1:g}s'"))
            waiting = await waiting_jobs(session)
            rows, oldest = await outbox_depth(session)
        # Of kinds of which nothing waits, too, so that an alert sees them come down.
        kinds = {kind for (kind, _), _ in metrics.JOBS.children()} | set(waiting)
        counts = {kind: waiting.get(kind, (0, 0.0)) for kind in sorted(kinds)}
        return {
            metrics.JOBS_WAITING: [((kind,), number) for kind, (number, _) in counts.items()],
            metrics.JOBS_OLDEST: [((kind,), age) for kind, (_, age) in counts.items()],
            metrics.METER_WAITING: [((), rows)],
            metrics.METER_OLDEST: [((), oldest)],
        }


class _Collected(Collector):
    """All of our own series, as the library writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.asked: Figures = {}

    def collect(self) -> Iterator[Metric]:
        figures = {**self.asked, **self._own()}
        for series in metrics.SERIES:
            if isinstance(series, Series):
                yield _family(series)
            elif series in figures:
                family = GaugeMetricFamily(series.name, series.text, labels=series.labels)
                for values, value in figures[series]:
                    family.add_metric(values, value)
                yield family

    def _own(self) -> Figures:
        pools = self._database.pools()
        return {
            metrics.DB_IN_USE: [((name,), lent) for name, (lent, _) in pools.items()],
            metrics.DB_LIMIT: [((name,), size) for name, (_, size) in pools.items()],
            metrics.BUILD: [((__version__,), 1)],
        }


def _family(series: Series[Count] | Series[Spread]) -> Metric:
    if series.kind == "histogram":
        spread = HistogramMetricFamily(series.name, series.text, labels=series.labels)
        for values, child in series.children():
            if isinstance(child, Spread):
                spread.add_metric(values, child.cumulative(), child.total)
        return spread
    made = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = made(series.name, series.text, labels=series.labels)
    for values, child in series.children():
        if isinstance(child, Count):
            family.add_metric(values, child.value)
    return family
