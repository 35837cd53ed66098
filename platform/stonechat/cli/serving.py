"""Processes that stay: `up`, `serve`, `worker`."""

from __future__ import annotations

import asyncio

import click

from stonechat.cli.group import load_settings, main
from stonechat.errors import Unavailable
from stonechat.settings import Settings
from stonechat.telemetry import configure_logging


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
