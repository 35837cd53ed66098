"""The whole platform as one file: `backup`, `restore`."""

from __future__ import annotations

import asyncio
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
from sqlalchemy.engine import make_url

from stonechat import clock
from stonechat.cli.group import load_settings, main
from stonechat.crypto.keyring import Keyring
from stonechat.errors import StonechatError, Unavailable
from stonechat.settings import Settings

if TYPE_CHECKING:
    from stonechat.backup.checking import Checked

_File = click.Path(path_type=Path)
_say = partial(click.echo, err=True)


@main.command()
@click.argument("file", type=_File)
def backup(file: Path) -> None:
    """Write everything into FILE, while all goes on: database and files. See docs/operators.md.

    FILE must not exist; in a folder a name is made up. It holds what people wrote, readable by you alone. Not in it are the
    platform's keys (STONECHAT_SECRET_KEYS), without which it cannot be restored.
    """
    from stonechat.backup.progress import in_words
    from stonechat.backup.taking import Taken, take_backup
    from stonechat.files import open_files
    from stonechat.local import local_services, with_existing_key

    configured = load_settings()
    _refuse_nowhere(configured)
    path = file / f"stonechat-{clock.now():%Y%m%dT%H%M%SZ}.tar.gz" if file.is_dir() else file

    async def take(settings: Settings) -> Taken:
        assert settings.owner_database_url is not None  # noqa: S101  local_services() provides it
        files = open_files(settings)
        try:
            return await take_backup(
                settings.owner_database_url, files=files, keyring=_keyring(settings), path=path, say=_say
            )
        finally:
            await files.aclose()

    with _ended_by_sigterm(), local_services(with_existing_key(configured), migrated=False) as settings:
        taken = asyncio.run(take(settings))
    held, keys = taken.manifest, taken.head.needed_keys or taken.head.keys[:1]
    click.echo(
        f"{taken.path}: {in_words(taken.size)}, {taken.rows:,} rows of {len(held.tables)} tables and {held.files.count:,} "
        f"files ({in_words(held.files.bytes)}), in {taken.seconds:.1f} seconds."
    )
    click.echo(
        f"Keep a copy of {_place_of_keys(configured)} in another place: without its {', '.join(keys)}, this file cannot be "
        "restored."
    )


@main.command()
@click.argument("file", type=_File)
@click.option("--check", is_flag=True, help="Only read FILE to its end, and say whether it could be restored.")
def restore(file: Path, check: bool) -> None:
    """Put a backup back, into an empty database only. See docs/operators.md.

    Nothing is touched before all of FILE was read and found to be whole, this platform's, and decryptable with its keys.
    """
    from stonechat.backup.checking import check_archive
    from stonechat.backup.restoring import summary
    from stonechat.local import IndexLock, local_services, with_existing_key
    from stonechat.reindex import reindex_all

    configured = with_existing_key(load_settings())
    with _ended_by_sigterm(), ExitStack() as stack:
        listing = stack.enter_context(tempfile.TemporaryFile("w+", encoding="ascii"))
        checked = check_archive(file, _keyring(configured), say=_say, listing=listing)
        if check:
            click.echo(f"{file} is whole, and this platform's: {summary(checked)}.")
            return
        lock = stack.enter_context(IndexLock(configured.data_dir)) if configured.qdrant_url is None else None
        settings = stack.enter_context(local_services(configured, migrated=False))
        asyncio.run(_put_back(settings, checked, listing))
        if lock is not None:
            lock.__exit__(None, None, None)  # the index wants it next
        _say("Writing the search index ...")
        try:
            asyncio.run(reindex_all(settings, None, say=_say, anew=True))
        except StonechatError as error:
            raise Unavailable(
                f"Everything is restored but the search index: {error} Run `stonechat reindex`, and again if it stops."
            ) from error
    click.echo(f"Restored: {summary(checked)}.")


async def _put_back(settings: Settings, checked: Checked, listing: IO[str]) -> None:
    from stonechat.backup.restoring import require_empty, require_free, restore_archive
    from stonechat.files import open_files

    owner_url, url = settings.owner_database_url, settings.database_url
    assert owner_url is not None and url is not None  # noqa: S101, PT018  local_services() provides them
    files = open_files(settings)
    try:
        await require_empty(owner_url, revision=checked.head.revision)
        await require_free(files, listing)
        await restore_archive(owner_url, checked, files=files, say=_say, web_login=make_url(url).username)
    finally:
        await files.aclose()


def _keyring(settings: Settings) -> Keyring:
    return Keyring([key.get_secret_value() for key in settings.secret_keys])


def _place_of_keys(settings: Settings) -> str:
    return "STONECHAT_SECRET_KEYS" if settings.secret_keys else str(settings.data_dir / "secret_key")


def _refuse_nowhere(settings: Settings) -> None:
    """A new, empty database would be made and backed up where the data folder is another than was meant."""
    if settings.database_url is None and not (settings.data_dir / "postgres" / "data").is_dir():
        raise Unavailable(
            f"There is no Stonechat in {settings.data_dir}. Set STONECHAT_DATA_DIR to its data folder, or DATABASE_URL."
        )


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """A command that is told to stop tidies up, as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
