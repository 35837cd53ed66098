"""How long the operators' pages take at ten thousand tenants. Run it as `python tests/benchmarks/operator_pages.py`.

It makes a database of its own on the server that STONECHAT_TEST_DATABASE_URL names (or an embedded one), fills it by SQL with
tenants, plans, a month of use, jobs, mails, events, outbound webhooks and invoices, makes the summaries as the worker does, opens every page many times in
process as a signed-in operator, prints a table, and drops the database. With `--write` the table goes to
`docs/measurements/operator.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
from sqlalchemy import event

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stonechat.operator.summaries import refresh_summaries  # noqa: E402
from support.console import ConsoleWorld, console_world  # noqa: E402
from support.operator_routes import operator_pages  # noqa: E402
from support.operators import at_desk  # noqa: E402
from support.postgres import admin_server, migrated_database  # noqa: E402

FILL = (
    """insert into tenants (tenant_id, name, created_at)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'Customer ' || n || ' ' || md5(n::text),
              now() - (n % 700) * interval '1 day' from generate_series(1, $1::int) n""",
    """insert into people (person_id, email, name)
       select 'per_bench' || n, 'person' || n || '@bench.example', 'Person ' || n from generate_series(1, $1::int) n""",
    """insert into memberships (tenant_id, person_id, role)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'per_bench' || n, 'owner'
       from generate_series(1, $1::int) n""",
    """insert into directory_memberships (tenant_id, person_id)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'per_bench' || n
       from generate_series(1, $1::int) n""",
    """insert into tenant_plans (tenant_id, plan_key, plan_version, provider, status)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
              (array['free', 'starter', 'pro', 'business'])[1 + n % 4], 1, case when n % 4 = 0 then 'none' else 'manual' end,
              case when n % 50 = 0 then 'past_due' else 'active' end from generate_series(1, $1::int) n where n % 10 > 0""",
    """insert into usage_days (tenant_id, day, agent_id, provider, model, purpose, answers, calls, input_tokens,
              output_tokens, cached_tokens, estimated_tokens, cost_micros, unpriced_tokens)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, current_date - d, 'agt_1', 'openai', 'gpt',
              'answer', n % 40, n % 40, 1000 * (n % 40), 300 * (n % 40), 0, 0, 900 * (n % 40), 0
       from generate_series(1, $1::int) n, generate_series(1, 45) d where (n + d) % 3 > 0""",
    """insert into usage_rollups (tenant_id, through)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, current_date - 1
       from generate_series(1, $1::int) n""",
    """insert into usage_ledger (tenant_id, occurred_at, entry_id, provider, model, input_tokens, output_tokens, cost_micros)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, now() - k * interval '7 minutes',
              'use_' || n || '_' || k, 'openai', 'gpt', 900, 200, 700
       from generate_series(1, $1::int) n, generate_series(1, 10) k where n % 2 = 0""",
    """insert into mail_log (entry_id, mail_id, occurred_at, tenant_id, recipient, subject, state)
       select 'mlog_' || lpad(n::text, 12, '0'), 'mail_' || n, now(), null, 'person' || n || '@bench.example', 'Welcome',
              'queued' from generate_series(1, 10 * $1::int) n""",
    """insert into billing_events (event_id, kind, thin, livemode, happened_at, received_at, state)
       select 'evt_' || n, 'invoice.paid', false, false, now() - n * interval '1 minute', now() - n * interval '1 minute',
              case when n % 100 = 0 then 'failed' else 'done' end from generate_series(1, 5 * $1::int) n""",
    """insert into jobs.pgqueuer (priority, status, entrypoint, headers)
       select 0, 'failed', 'mail.send', jsonb_build_object('tenant',
              '018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0')) from generate_series(1, $1::int / 10) n""",
    """insert into webhook_endpoints (tenant_id, endpoint_id, url, sealed_secret)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'whe_' || n,
              'https://hooks' || n || '.bench.example/stonechat', '\\x00' from generate_series(1, $1::int) n""",
    """insert into webhook_deliveries (tenant_id, delivery_id, endpoint_id, event_id, kind, body, status, attempts,
              last_status, last_error, next_attempt_at, occurred_at, created_at)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'dlv_' || k || '_' || n, 'whe_' || n,
              'evt_' || k, 'conversation.created', repeat('x', 600), (array['delivered', 'delivered', 'failed', 'queued'])[1 + k % 4],
              1 + k % 9, 500, 'It answered 500.', case when k % 4 = 3 then now() end, at, at
       from generate_series(1, $1::int) n, generate_series(1, 20) k,
            lateral (select now() - (n * 20 + k) * interval '10 seconds' as at) as t""",
    """insert into invoices (tenant_id, invoice_id, provider, status, currency, total_cents, tax_cents, due_cents, paid_cents,
              lines, created_at, paid_at)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'inv_' || m, 'manual',
              case when n % 20 = 0 then 'open' else 'paid' end, (array['usd', 'eur'])[1 + n % 2], 4900, 0, 4900,
              case when n % 20 = 0 then 0 else 4900 end, '[]', now() - m * interval '30 days',
              case when n % 20 > 0 then now() - m * interval '30 days' end
       from generate_series(1, $1::int) n, generate_series(0, 11) m""",
    """insert into meter_outbox (tenant_id, slice_start, seq, slice_end, tokens, identifier, customer_id, state, next_attempt_at)
       select ('018f0000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, at, 1, at + interval '1 hour', 500,
              'm_' || n || '_' || h, 'cus_' || n, case when h % 50 = 0 then 'expired' else 'sent' end, at
       from generate_series(1, $1::int) n, generate_series(1, 720) h,
            lateral (select date_trunc('hour', now()) - h * interval '1 hour' as at) as t
       where n % 100 = 0""",
    """insert into webhook_refusals (day, reason, refused)
       select current_date, reason, 100 from unnest(array['wrong_signature', 'unsigned', 'too_old']) as reason where $1::int > 0""",
    """insert into operator_audit (audit_id, operator_email, action, tenant_id)
       select 'aud_0' || lpad(n::text, 12, '0'), 'operator@bench.example', 'tenant.suspend',
              ('018f0000-0000-7000-8000-' || lpad(to_hex(1 + n % $1::int), 12, '0'))::uuid
       from generate_series(1, 5 * $1::int) n""",
)
SEARCHES = (
    "/operator/tenants?sort=margin",
    "/operator/tenants?sort=cost&page=100",
    "/operator/tenants?q=Customer+77",
    "/operator/tenants?q=person77@bench.example",
    "/operator/tenants?flagged=1&sort=cost",
    "/operator/revenue?days=365",
    "/operator/deliveries?status=failed",
    "/operator/deliveries?tenant={tenant}",
    "/operator/deliveries?status=failed&before=018f0000-0000-7000-8000-000000002000:dlv_10_8192",
)


@contextmanager
def counted(world: ConsoleWorld) -> Iterator[list[str]]:
    """The statements that all connections of the application send."""
    sent: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    engines = [
        engine.sync_engine for engine in (world.services.database.engine, world.services.database.platform_engine)
    ]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", note)


async def fill(admin_url: str, tenants: int) -> None:
    connection = await asyncpg.connect(admin_url)
    try:
        for statement in FILL:
            await connection.execute(statement, tenants)
        await connection.execute("analyze")
    finally:
        await connection.close()


async def measure(tenants: int, rounds: int) -> list[str]:
    lines = ["| page | queries | p50 ms | p95 ms | KB |", "|---|---:|---:|---:|---:|"]
    with tempfile.TemporaryDirectory() as folder:
        async with (
            admin_server(Path(folder) / "postgres") as admin,
            migrated_database(admin, f"stonechat_operator_bench_{os.getpid()}") as database,
        ):
            await fill(database.admin_url, tenants)
            async with console_world(
                database.web_url, Path(folder), configured_ip_requests_per_minute=10_000_000
            ) as world:
                began = time.perf_counter()
                await refresh_summaries(world.services.database)
                summed = time.perf_counter() - began
                desk = await at_desk(world)
                middle = UUID(f"018f0000-0000-7000-8000-{tenants // 2:012x}")
                pages = [
                    path for path in operator_pages(world.app, middle) if not path.partition("?")[0].endswith("/export")
                ]
                worst = 0.0
                for path in [
                    *(each for each in pages if each not in ("/operator", "/operator/plans/new")),
                    *(each.format(tenant=middle) for each in SEARCHES),
                ]:
                    times, size, queries = [], 0, 0
                    for _ in range(rounds):
                        with counted(world) as sent:
                            start = time.perf_counter()
                            answer = await desk.http.get(path, headers={"Sec-Fetch-Site": "same-origin"})
                            times.append((time.perf_counter() - start) * 1000)
                        assert answer.status_code == 200, (path, answer.status_code)
                        queries, size = max(queries, len(sent)), len(answer.content)
                    times.sort()
                    p95 = times[math.ceil(len(times) * 0.95) - 1]
                    worst = max(worst, p95)
                    named = path.replace(str(middle), "{tenant}")
                    lines.append(
                        f"| `{named}` | {queries} | {times[len(times) // 2]:.0f} | {p95:.0f} | {size / 1024:.0f} |"
                    )
                lines += ["", f"The slowest page: {worst:.0f} ms at p95. Making all sums anew took {summed:.1f} s."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tenants", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args()
    lines = asyncio.run(measure(chosen.tenants, chosen.rounds))
    print("\n".join(lines))
    if chosen.write:
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT
        ).stdout.strip()
        head = [
            "# The operators' pages at ten thousand tenants",
            "",
            f"`python tests/benchmarks/operator_pages.py --write`, commit {commit}, Python {platform.python_version()}, "
            f"{os.cpu_count()} shared cores; {chosen.tenants:,} tenants with 45 days of use, {chosen.rounds} times each page, "
            "in process, Postgres on the same machine. Wanted: under 200 ms at p95, at most 12 queries.",
            "",
        ]
        target = ROOT / "docs" / "measurements" / "operator.md"
        target.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
