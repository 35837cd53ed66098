"""What keeps an installation in order: `migrate`, `doctor`, `reindex`, and `openapi` for the project itself."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from uuid import UUID

import click

from stonechat.cli.group import load_settings, main, services
from stonechat.errors import Unavailable


@main.command()
def migrate() -> None:
    """Bring the database up to date."""
    from stonechat.local import prepare_given_database

    settings = load_settings()
    if settings.database_url is None:
        with services():
            click.echo("The embedded database is up to date.")
        return
    applied = asyncio.run(prepare_given_database(settings))
    click.echo(f"Applied {', '.join(applied)}." if applied else "The database is up to date.")


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
@click.option("--tenant", "tenant_id", type=click.UUID, help="Only this tenant's.  [default: everyone's]")
def reindex(tenant_id: UUID | None) -> None:
    """Write the search index anew from the database, without reading documents again, while searches go on."""
    from stonechat.reindex import reindex_all

    with services() as settings:
        asyncio.run(reindex_all(settings, tenant_id, say=click.echo))
