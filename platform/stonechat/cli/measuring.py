"""How fast, and how good: `bench`, `eval`."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from uuid import UUID

import click

from stonechat.cli.group import load_settings, main, services


@main.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["core", "agent", "streams", "growth"]),
    help="Measure this part; may be given more than once.  [default: all]",
)
@click.option("--rounds", default=5, show_default=True, help="Rounds of each comparison; more is steadier.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one round.")
@click.option("--streams", default=1000, show_default=True, help="How many streams at once.")
@click.option("--items", default=1_000_000, show_default=True, help="What a tenant is grown to.")
def bench(only: tuple[str, ...], rounds: int, seconds: float, streams: int, items: int) -> None:
    """Measure this server beside a minimal in-memory ChatKit server; prints JSON, and a table on standard error."""
    from stonechat.bench import PARTS, run_bench
    from stonechat.bench.report import table

    with services() as settings:
        report = run_bench(
            settings,
            only=only or PARTS,
            rounds=max(rounds, 1),
            seconds=min(max(seconds, 0.1), 60.0),
            streams=min(max(streams, 1), 5000),
            items=min(max(items, 1), 10_000_000),
            say=lambda progress: click.echo(progress, err=True),
        )
    click.echo(table(report), err=True)
    click.echo(json.dumps(report, indent=2))


@main.group("eval")
def evaluate() -> None:
    """Measure quality."""


@evaluate.command("retrieval")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def eval_retrieval(folder: Path) -> None:
    """Load corpus.jsonl, ask queries.jsonl, and judge by qrels.tsv, in a scratch index."""
    from stonechat.knowledge.evaluate import evaluate_retrieval

    for line in asyncio.run(evaluate_retrieval(folder)).lines():
        click.echo(line)


@evaluate.command("golden")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--agent", metavar="ID", help="Which agent to ask, where a question names none.")
@click.option("--published/--draft", default=False, help="Ask the published version, or the draft (default).")
@click.option("--parallel", default=4, show_default=True, type=click.IntRange(1, 16), help="Questions at once.")
@click.option("--minimum", default=0.0, type=click.FloatRange(0, 1), help="Exit with 1 if the score is below this.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--url", metavar="URL", help="Where Stonechat runs.  [default: STONECHAT_PUBLIC_URL]")
@click.option(
    "--api-key", envvar="STONECHAT_API_KEY", metavar="sk_...", help="Asks the Stonechat that runs, over its API."
)
@click.option("--tenant", metavar="ID", help="Without an API key: asks in this process, while no other runs.")
def eval_golden(
    *,
    file: Path,
    agent: str | None,
    published: bool,
    parallel: int,
    minimum: float,
    as_json: bool,
    url: str | None,
    api_key: str | None,
    tenant: str | None,
) -> None:
    """Ask an agent the questions of FILE (JSON Lines or YAML), and judge the answers. See docs/golden.md."""
    from stonechat.chat.asking import Which
    from stonechat.golden import golden_here, golden_over_api
    from stonechat.local import IndexLock, prepare_given_database

    which: Which = "published" if published else "draft"
    if api_key:
        address = url or load_settings().public_url
        report = asyncio.run(
            golden_over_api(file, url=address, api_key=api_key, agent=agent, version=which, parallel=parallel)
        )
    else:
        try:
            tenant_id = UUID(tenant or "")
        except ValueError:
            raise click.UsageError(
                "Give --api-key to ask the Stonechat that runs, or --tenant with a tenant's id."
            ) from None
        with IndexLock(load_settings().data_dir), services() as settings:
            if load_settings().database_url is not None:
                asyncio.run(prepare_given_database(settings))
            report = asyncio.run(
                golden_here(file, settings, tenant_id=tenant_id, agent=agent, version=which, parallel=parallel)
            )
    click.echo(report.as_json() if as_json else "\n".join(report.lines()))
    if report.score < minimum:
        click.echo(f"The score is below {minimum}.", err=True)
        sys.exit(1)
