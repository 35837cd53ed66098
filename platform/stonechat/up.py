"""`stonechat up`: one process that serves, works and, if wanted, shows the demo."""

from __future__ import annotations

import asyncio
import logging

import click

from stonechat.app import create_app
from stonechat.demo.seed import Demo, seed_demo, wait_until_read
from stonechat.local import IndexLock
from stonechat.scraping import open_metrics_port
from stonechat.serving import serve_app
from stonechat.settings import Settings

_log = logging.getLogger(__name__)


def run_up(settings: Settings, lock: IndexLock, *, host: str, demo: bool) -> None:
    """Serve until Ctrl-C or SIGTERM. The demo loads in the background of the first start."""
    app = create_app(settings, with_worker=True, metrics_port=open_metrics_port(settings))
    loading: set[asyncio.Task[None]] = set()

    def ready() -> None:
        lock.announce(settings.public_url)
        click.echo(f"\nStonechat answers at {settings.public_url}")
        if demo:
            task = asyncio.get_running_loop().create_task(_load_demo())
            loading.add(task)
        else:
            click.echo("Press Ctrl-C to stop.")

    async def _load_demo() -> None:
        services = app.state.services
        try:
            seeded = await seed_demo(settings, services.database, services.knowledge.files)
            await wait_until_read(services.database)
        except Exception:
            _log.exception("The demo could not be loaded; the rest works. `stonechat seed demo` tries again.")
            return
        app.state.demo_keys.update(seeded.domain_keys)
        click.echo(_welcome(settings, seeded))

    async def drain() -> None:
        for task in loading:
            task.cancel()
        await app.state.drain()

    serve_app(app, host=host, port=settings.port, on_ready=ready, drain=drain)
    click.echo("Stopped.")


def _welcome(settings: Settings, demo: Demo) -> str:
    url = settings.public_url
    return f"""
  A shop with an assistant      {url}/demo/shop
  Documentation that answers    {url}/demo/docs

  The console                   {url}/console/login
  Demo login (both tenants)     {demo.email}  {demo.password}
  API key of the shop           {demo.api_keys["shop"]}
  API key of the docs           {demo.api_keys["docs"]}

  Try the API                   curl {url}/api/v1/agents -H "Authorization: Bearer <API key>"

Press Ctrl-C to stop.
"""
