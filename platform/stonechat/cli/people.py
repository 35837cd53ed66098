"""Who there is: `tenant create`, `operator create`, `seed demo`."""

from __future__ import annotations

import asyncio
import json

import click

from stonechat.cli.group import main, services
from stonechat.settings import Settings


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

    with services() as settings:
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

    with services() as settings:
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

    with services() as settings:
        made = asyncio.run(run(settings))
    if as_json:
        click.echo(json.dumps(made))
        return
    click.echo(f"Operator {made['operator_id']}")
    if made["setup_url"]:
        click.echo(f"Set-up   {made['setup_url']}   (sets a password, once, within a week)")
    click.echo(f"Sign in  {made['sign_in_url']}   (the second factor is set up at the first sign-in)")
