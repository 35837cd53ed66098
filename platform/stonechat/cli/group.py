"""What every subcommand begins with: the group, the settings, the embedded services."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from pydantic import ValidationError

from stonechat import __version__
from stonechat.errors import StonechatError
from stonechat.settings import Settings
from stonechat.telemetry import configure_logging


class Group(click.Group):
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
def services() -> Iterator[Settings]:
    """Settings in which nothing is missing, with the embedded services running."""
    from stonechat.local import local_services

    with local_services(load_settings()) as settings:
        yield settings


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stonechat")
def main() -> None:
    """Stonechat: AI chat for other people's web sites."""
    gc.set_threshold(50_000, 20, 50)  # going through what is imported, which stays, takes a fifth of a start
    configure_logging(as_json=False)
