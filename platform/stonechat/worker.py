"""Background work: jobs by kind, and what is done by the clock."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sqlalchemy import text

from stonechat import mail
from stonechat.accounts import lockout, resets
from stonechat.accounts import sessions as console_sessions
from stonechat.assistant.trace_store import purge_traces
from stonechat.billing import tasks as billing_tasks
from stonechat.billing.service import BillingService
from stonechat.chat.attachment_sweeper import mark_strays, sweep_attachments
from stonechat.chat.sweeper import purge_run_events, settle_left_runs, sweep_crashed_runs
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.events import Dispatcher
from stonechat.jobs import JobRunner
from stonechat.knowledge.child import warm_up
from stonechat.knowledge.consistency import check_some
from stonechat.knowledge.deps import Knowledge, open_knowledge
from stonechat.knowledge.stuck import revive_stuck
from stonechat.knowledge.tasks import PAUSED, give_up_hooks, job_handlers
from stonechat.knowledge.web.service import start_due_syncs
from stonechat.operator import tasks as operator_tasks
from stonechat.operator.deletion import delete_due_tenants
from stonechat.operator.summaries import refresh_summaries
from stonechat.outbound.client import OutboundClient
from stonechat.privacy.retention import sweep_retention
from stonechat.scraping import answering_metrics, open_metrics_port
from stonechat.settings import Settings
from stonechat.usage import plan_changes
from stonechat.usage.alerts import send_alerts
from stonechat.usage.clockwork import refresh_allowances
from stonechat.usage.quota import recount_budgets
from stonechat.usage.report import roll_up_all
from stonechat.webhooks import tasks as webhook_tasks
from stonechat.webhooks.delivering import Deliverer
from stonechat.webhooks.fan_out import subscribers

SWEEP_SECONDS = 5.0
LEFT_SECONDS = 30.0
FILES_SECONDS = 60.0
STUCK_SECONDS = 60.0
ALERT_SECONDS = 60.0
WEBHOOK_SECONDS = 30.0
_log = logging.getLogger(__name__)


@asynccontextmanager
async def running_worker(settings: Settings, database: Database, knowledge: Knowledge) -> AsyncIterator[JobRunner]:
    """The worker, at work while the context is open; what it cannot finish in time goes back into the queue."""
    url = settings.direct_database_url
    assert url is not None, "local_services() or the environment provides it"  # noqa: S101
    dispatcher = Dispatcher(database, subscribers(database))
    billing = BillingService(settings, database)
    runner = JobRunner(
        url,
        job_handlers(knowledge)
        | dispatcher.job_handlers()
        | mail.job_handlers(mail.open_transport(settings), database)
        | resets.job_handlers(database, public_url=settings.public_url)
        | plan_changes.job_handlers(database)
        | billing_tasks.job_handlers(database, billing)
        | operator_tasks.job_handlers(database, billing),
        {
            "17 3 * * *": lambda: _ensure_partitions(database),
            "13 1 * * *": lambda: _add_up_usage(database),
            "7 * * * *": lambda: _refresh_allowances(database),
            "*/10 * * * *": lambda: _purge_run_events(database),
            "*/15 * * * *": lambda: _purge_console(database),
            "41 3 * * *": lambda: _mark_strays(database),
            "37 2 * * *": lambda: _sweep_retention(database, public_url=settings.public_url),
            "*/5 * * * *": lambda: _start_due_syncs(database),
            "29 * * * *": lambda: _check_knowledge(knowledge),
            "1-59/5 * * * *": lambda: _tell_use(database, billing),
            "53 2 * * *": lambda: billing_tasks.tell_late_use(database, billing),
            "37 * * * *": lambda: _look_at_customers(database, billing, public_url=settings.public_url),
            "23 * * * *": lambda: _purge_traces(database, days=settings.trace_days),
            "3-59/5 * * * *": lambda: refresh_summaries(database),
            "47 * * * *": lambda: _delete_due_tenants(database, knowledge, billing),
            "51 * * * *": lambda: operator_tasks.purge(database),
            "27 * * * *": lambda: _purge_webhooks(database),
        },
        on_give_up=give_up_hooks(knowledge) | billing_tasks.give_up_hooks(database),
        paused=PAUSED,
    )
    outbound = OutboundClient(allowed_networks=settings.outbound_networks)
    keyring = Keyring([key.get_secret_value() for key in settings.secret_keys])
    deliverer = Deliverer(database, keyring=keyring, outbound=outbound, settings=settings)
    # Their own runner: an endpoint that hangs takes the place of other endpoints at most, never of documents or mail.
    webhooks = JobRunner(
        url,
        webhook_tasks.job_handlers(deliverer),
        concurrency=webhook_tasks.CONCURRENCY,
        most_of_one=webhook_tasks.OF_ONE_TENANT,
        paused=webhook_tasks.PAUSED,
    )
    await _ensure_partitions(database)
    await asyncio.to_thread(warm_up)
    tasks = [
        asyncio.create_task(runner.run()),
        asyncio.create_task(webhooks.run()),
        asyncio.create_task(_every(SWEEP_SECONDS, lambda: sweep_crashed_runs(database))),
        asyncio.create_task(_every(LEFT_SECONDS, lambda: settle_left_runs(database))),
        asyncio.create_task(_every(FILES_SECONDS, lambda: sweep_attachments(database, knowledge.files))),
        asyncio.create_task(_every(STUCK_SECONDS, lambda: revive_stuck(database))),
        asyncio.create_task(_every(ALERT_SECONDS, lambda: send_alerts(database, public_url=settings.public_url))),
        asyncio.create_task(_every(WEBHOOK_SECONDS, lambda: webhook_tasks.wake_overdue(database))),
    ]
    try:
        yield runner
    finally:
        await asyncio.gather(runner.stop(), webhooks.stop())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await outbound.aclose()
        await billing.aclose()


async def run_worker(settings: Settings) -> None:
    """Work until SIGINT or SIGTERM."""
    assert settings.database_url is not None  # noqa: S101
    metrics_port = open_metrics_port(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    knowledge = open_knowledge(settings, database)
    try:
        async with (
            answering_metrics(metrics_port, database=database, works=True),
            running_worker(settings, database, knowledge),
        ):
            _log.info("The worker is at work.")
            await stopping.wait()
    finally:
        await knowledge.close()
        await database.close()


async def _ensure_partitions(database: Database) -> None:
    async with database.directory() as session:
        await session.execute(text("select stonechat_ensure_partitions()"))


async def _add_up_usage(database: Database) -> None:
    await roll_up_all(database)
    await recount_budgets(database)


async def _refresh_allowances(database: Database) -> None:
    await refresh_allowances(database)


async def _purge_run_events(database: Database) -> None:
    await purge_run_events(database)


async def _check_knowledge(knowledge: Knowledge) -> None:
    await check_some(knowledge)


async def _purge_traces(database: Database, *, days: int) -> None:
    await purge_traces(database, days=days)


async def _tell_use(database: Database, billing: BillingService) -> None:
    await billing_tasks.tell_use(database, billing)


async def _look_at_customers(database: Database, billing: BillingService, *, public_url: str) -> None:
    await billing_tasks.look_at_customers(database, billing, public_url=public_url)


async def _delete_due_tenants(database: Database, knowledge: Knowledge, billing: BillingService) -> None:
    await delete_due_tenants(database, knowledge, billing)


async def _purge_webhooks(database: Database) -> None:
    await webhook_tasks.purge(database)


async def _start_due_syncs(database: Database) -> None:
    await start_due_syncs(database)


async def _mark_strays(database: Database) -> None:
    await mark_strays(database)


async def _sweep_retention(database: Database, *, public_url: str) -> None:
    await sweep_retention(database, public_url=public_url)


async def _purge_console(database: Database) -> None:
    await console_sessions.purge_sessions(database)
    await lockout.purge_failures(database)


async def _every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do it again and again; a failure is logged, and does not end it."""
    while True:
        try:
            await work()
        except Exception:
            _log.warning("Work by the clock failed and will be tried again.", exc_info=True)
        await asyncio.sleep(seconds)
