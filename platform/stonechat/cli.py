"""The command `stonechat`. Every subcommand finds the embedded services, or starts them for as long as it needs them."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID

import click
from pydantic import ValidationError

from stonechat import __version__
from stonechat.errors import StonechatError, Unavailable
from stonechat.settings import Settings
from stonechat.telemetry import configure_logging


class _Group(click.Group):
    """Says what went wrong in a sentence, and keeps tracebacks for mistakes of ours."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StonechatError as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            sys.exit(130)


def load_settings(**overrides: Any) -> Settings:
    """Settings from the environment; a person's mistake in them is told by the variable's name."""
    try:
        settings = Settings()
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']) or 'settings'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False, include_input=False)
        ]
        raise click.ClickException("These settings are not valid:\n" + "\n".join(faults)) from None
    return settings.model_copy(update=overrides)


@contextmanager
def _services() -> Iterator[Settings]:
    from stonechat.local import local_services

    with local_services(load_settings()) as settings:
        yield settings


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stonechat")
def main() -> None:
    """Stonechat: AI chat for other people's web sites."""
    gc.set_threshold(50_000, 20, 50)  # going through what is imported, which stays, takes a fifth of a start
    configure_logging(as_json=False)


@main.command()
@click.option("--demo/--no-demo", default=True, help="Load the two demo tenants (default).")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
def up(demo: bool, host: str) -> None:
    """Start everything embedded and serve, until Ctrl-C."""
    from stonechat.local import IndexLock, local_services, prepare_given_database

    configured = load_settings()
    with IndexLock(configured.data_dir) as lock, local_services(configured) as settings:
        from stonechat.up import run_up  # seconds of imports, once nothing refuses the start

        if configured.database_url is not None:
            asyncio.run(prepare_given_database(settings))
        run_up(settings, lock, host=host, demo=demo)


@main.command()
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104
def serve(host: str) -> None:
    """Serve the web application only; run `stonechat worker` beside it."""
    from stonechat.app import create_app
    from stonechat.scraping import open_metrics_port
    from stonechat.serving import serve_app

    settings = _standalone("serve")
    app = create_app(settings, metrics_port=open_metrics_port(settings))
    serve_app(
        app,
        host=host,
        port=settings.port,
        on_ready=lambda: click.echo(f"Stonechat answers at {settings.public_url}", err=True),
        drain=app.state.drain,
    )


@main.command()
def worker() -> None:
    """Do the work in the background: read documents, sweep, dispatch."""
    from stonechat.worker import run_worker

    asyncio.run(run_worker(_standalone("worker")))


def _standalone(command: str) -> Settings:
    """Settings for a process of its own, which needs services that several processes can share."""
    settings = load_settings()
    if not settings.is_set("environment"):
        raise Unavailable(f"Set STONECHAT_ENV to production or development before `stonechat {command}`.")
    for name, value in (("DATABASE_URL", settings.database_url), ("QDRANT_URL", settings.qdrant_url)):
        if value is None:
            raise Unavailable(
                f"`stonechat {command}` needs {name}: the embedded service belongs to one process. "
                "Set it, or run `stonechat up`, which is one process."
            )
    if not settings.secret_keys:
        raise Unavailable("Set STONECHAT_SECRET_KEYS, the same for every process; `openssl rand -base64 48` makes one.")
    configure_logging(as_json=settings.is_production)
    return settings if settings.configured_sign_up else settings.model_copy(update={"configured_sign_up": "invite"})


@main.command()
def migrate() -> None:
    """Bring the database up to date."""
    from stonechat.local import prepare_given_database

    settings = load_settings()
    if settings.database_url is None:
        with _services():
            click.echo("The embedded database is up to date.")
        return
    applied = asyncio.run(prepare_given_database(settings))
    click.echo(f"Applied {', '.join(applied)}." if applied else "The database is up to date.")


@main.group()
def seed() -> None:
    """Load data."""


@seed.command("demo")
def seed_demo() -> None:
    """Load the two demo tenants, their documents and their person."""
    from stonechat.db.session import Database
    from stonechat.demo import seed as demo
    from stonechat.files import open_files

    async def run(settings: Settings) -> demo.Demo:
        assert settings.database_url is not None  # noqa: S101
        database = Database(settings.database_url)
        files = open_files(settings)
        try:
            return await demo.seed_demo(settings, database, files)
        finally:
            await files.aclose()
            await database.close()

    with _services() as settings:
        seeded = asyncio.run(run(settings))
        click.echo(f"The demo is loaded. Its documents are read while Stonechat runs: {settings.public_url}/demo")
        click.echo(f"Demo login: {seeded.email} {seeded.password}")


@main.group()
def tenant() -> None:
    """Make tenants."""


@tenant.command("create")
@click.argument("name")
@click.option("--owner", required=True, metavar="EMAIL", help="Who owns it; made if new.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tenant_create(name: str, owner: str, as_json: bool) -> None:
    """Make a tenant, its owner and a first API key."""
    from stonechat.accounts.provisioning import provision_tenant
    from stonechat.db.session import Database

    async def run(settings: Settings) -> dict[str, str | None]:
        assert settings.database_url is not None  # noqa: S101
        database = Database(settings.database_url, pool_size=2)
        try:
            return await provision_tenant(database, name=name, owner_email=owner, public_url=settings.public_url)
        finally:
            await database.close()

    with _services() as settings:
        made = asyncio.run(run(settings))
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"Tenant   {made['tenant_id']}")
    click.echo(f"API key  {made['api_key']}   (shown once)")
    if made["setup_url"]:
        click.echo(f"Set-up   {made['setup_url']}   (the owner sets a password here, once, within a week)")


@main.group()
def operator() -> None:
    """Make operators, who run the platform at /operator."""


@operator.command("create")
@click.argument("email")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def operator_create(email: str, as_json: bool) -> None:
    """Make somebody an operator. Again for one whose phone and codes are lost: the second factor is set up anew."""
    from stonechat.db.session import Database
    from stonechat.operator.operators import create_operator

    async def run(settings: Settings) -> dict[str, str | None]:
        assert settings.database_url is not None  # noqa: S101
        database = Database(settings.database_url, pool_size=2)
        try:
            return await create_operator(database, email, public_url=settings.public_url)
        finally:
            await database.close()

    with _services() as settings:
        made = asyncio.run(run(settings))
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"Operator {made['operator_id']}")
    if made["setup_url"]:
        click.echo(f"Set-up   {made['setup_url']}   (sets a password, once, within a week)")
    click.echo(f"Sign in  {made['sign_in_url']}   (the second factor is set up at the first sign-in)")


@main.command("export")
@click.option("--tenant", "tenant_id", type=click.UUID, required=True, metavar="ID", help="Whose configuration.")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--content", is_flag=True, help="With the texts and the question-answer pairs written here.")
def export_configuration(tenant_id: UUID, form: Literal["yaml", "json"], content: bool) -> None:
    """Print a tenant's configuration, without secrets and documents. See docs/configuration.md."""
    from stonechat.configure import export_here

    with _services() as settings:
        click.echo(asyncio.run(export_here(settings, tenant_id, form=form, content=content)), nl=False)


@main.command("apply")
@click.argument("file", type=click.File("rb"))
@click.option("--tenant", "tenant_id", type=click.UUID, metavar="ID", help="To whom.  [default: whom the file names]")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--prune", is_flag=True, help="Remove what the file does not name, of the parts that stand in it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def apply_configuration(file: IO[bytes], tenant_id: UUID | None, dry_run: bool, prune: bool, as_json: bool) -> None:
    """Make a tenant's configuration what FILE says (- for standard input): all of it, or nothing."""
    from stonechat.configure import READ_AT_MOST, apply_here, fault_lines, report_lines

    try:
        with _services() as settings:
            work = apply_here(settings, file.read(READ_AT_MOST), tenant_id=tenant_id, dry_run=dry_run, prune=prune)
            done = asyncio.run(work)
    except StonechatError as error:
        raise click.ClickException("\n".join([str(error), *fault_lines(error)])) from None
    click.echo(done.model_dump_json(indent=2) if as_json else "\n".join(report_lines(done)))


@main.command()
def doctor() -> None:
    """Check settings and every service, and say what to do."""
    from stonechat.doctor import examine

    findings = asyncio.run(examine(load_settings()))
    for finding in findings:
        click.echo(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.subject}: {finding.detail}")
        if not finding.ok and finding.remedy:
            click.echo(f"      → {finding.remedy}")
    if not all(finding.ok for finding in findings):
        sys.exit(1)


@main.command()
@click.option("--check", is_flag=True, help="Fail if the documents checked in are out of date.")
def openapi(check: bool) -> None:
    """Write docs/openapi.json and docs/errors.md from the code."""
    from stonechat.contract import outdated, write_contract

    folder = Path("docs")
    if not folder.is_dir():
        raise Unavailable("Run this in the project's folder: it writes docs/openapi.json and docs/errors.md.")
    if not check:
        write_contract(folder)
    elif stale := outdated(folder):
        raise click.ClickException(f"Out of date: {', '.join(stale)}. Run `stonechat openapi` and commit.")


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

    with _services() as settings:
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


@main.command()
@click.option("--tenant", "tenant_id", type=click.UUID, help="Only this tenant's.  [default: everyone's]")
def reindex(tenant_id: UUID | None) -> None:
    """Write the search index anew from the database, without reading documents again, while searches go on."""
    from stonechat.reindex import reindex_all

    with _services() as settings:
        asyncio.run(reindex_all(settings, tenant_id, say=click.echo))


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
        with IndexLock(load_settings().data_dir), _services() as settings:
            if load_settings().database_url is not None:
                asyncio.run(prepare_given_database(settings))
            report = asyncio.run(
                golden_here(file, settings, tenant_id=tenant_id, agent=agent, version=which, parallel=parallel)
            )
    click.echo(report.as_json() if as_json else "\n".join(report.lines()))
    if report.score < minimum:
        click.echo(f"The score is below {minimum}.", err=True)
        sys.exit(1)
