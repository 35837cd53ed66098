"""A tenant's configuration as a file: `export`, `apply`."""

from __future__ import annotations

import asyncio
from typing import IO, Literal
from uuid import UUID

import click

from stonechat.cli.group import main, services
from stonechat.errors import StonechatError


@main.command("export")
@click.option("--tenant", "tenant_id", type=click.UUID, required=True, metavar="ID", help="Whose configuration.")
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--content", is_flag=True, help="With the texts and the question-answer pairs written here.")
def export_configuration(tenant_id: UUID, form: Literal["yaml", "json"], content: bool) -> None:
    """Print a tenant's configuration, without secrets and documents. See docs/configuration.md."""
    from stonechat.configure import export_here

    with services() as settings:
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
        with services() as settings:
            work = apply_here(settings, file.read(READ_AT_MOST), tenant_id=tenant_id, dry_run=dry_run, prune=prune)
            done = asyncio.run(work)
    except StonechatError as error:
        raise click.ClickException("\n".join([str(error), *fault_lines(error)])) from None
    click.echo(done.model_dump_json(indent=2) if as_json else "\n".join(report_lines(done)))
