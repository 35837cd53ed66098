"""The embedded default: what a process needs and nobody configured, started or found in the data folder.

    with local_services(Settings()) as settings:    # DATABASE_URL and the platform key are now there
        ...

Every command uses it. With `DATABASE_URL` set it starts nothing. The index engine Qdrant Edge lives in the one process that
holds `IndexLock`; other commands hand it work through the job queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import asyncpg
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from stonechat.db import migrate
from stonechat.db.embedded import EmbeddedPostgres
from stonechat.errors import Unavailable
from stonechat.settings import Settings

DATABASE_NAME = "stonechat"
WEB_LOGIN = "stonechat_web"


@contextlib.contextmanager
def local_services(settings: Settings, *, migrated: bool = True) -> Iterator[Settings]:
    """Settings in which nothing is missing. Starts the embedded Postgres unless `DATABASE_URL` is set, and migrates it.

    With `migrated` False its schema is left as it is: none, if it is new.

    Raises:
        EmbeddedPostgresFailed: the server could not be started; the message says why and what to do.
    """
    if settings.is_production and settings.database_url is None:
        raise Unavailable("DATABASE_URL must be set in production; the embedded database is for one machine.")
    if settings.database_url is not None:
        asyncio.run(_require_answer(settings.database_url))
        yield settings if settings.secret_keys else _with_local_key(settings)
        return
    settings = _with_local_key(settings)
    with EmbeddedPostgres(settings.data_dir / "postgres") as address:
        # Derived rather than stored: every process of this folder comes to the same password.
        password = hmac.new(address.password.encode(), WEB_LOGIN.encode(), hashlib.sha256).hexdigest()
        asyncio.run(_prepare(address.url("postgres"), address.url(DATABASE_NAME), password, migrated=migrated))
        yield settings.model_copy(
            update={
                "database_url": address.url(DATABASE_NAME, user=WEB_LOGIN, password=password),
                "configured_owner_database_url": address.url(DATABASE_NAME),
            }
        )


async def prepare_given_database(settings: Settings) -> list[str]:
    """Roles and schema on the database that `DATABASE_URL` names. Returns the revisions that were applied."""
    owner_url, url = settings.owner_database_url, settings.database_url
    assert owner_url is not None and url is not None  # noqa: S101, PT018
    await _require_answer(owner_url)
    await migrate.ensure_roles(owner_url, web_login=make_url(url).username)
    return await migrate.migrate(owner_url)


async def _require_answer(url: str) -> None:
    """Raise `Unavailable` with the reason unless Postgres lets us in."""
    place = make_url(url)
    try:
        connection = await asyncpg.connect(url, timeout=10)
        await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise Unavailable(
            f"Postgres at {place.host}:{place.port or 5432} cannot be used: {error or type(error).__name__}. Check "
            "DATABASE_URL, and that the server runs."
        ) from None


async def _prepare(admin_url: str, owner_url: str, web_password: str, *, migrated: bool) -> None:
    await migrate.ensure_roles(admin_url, logins={WEB_LOGIN: web_password})
    await migrate.create_database(admin_url, DATABASE_NAME)
    if migrated:
        await migrate.migrate(owner_url)


def with_existing_key(settings: Settings) -> Settings:
    """Settings with the platform's keys, or the data folder's own if it has one; a new one would fit nothing that exists."""
    path = settings.data_dir / "secret_key"
    if not settings.secret_keys and not path.is_file():
        raise Unavailable(
            f"There is no platform key: STONECHAT_SECRET_KEYS is not set, and there is no {path}. Use those of the "
            "platform that is backed up."
        )
    return _with_local_key(settings)


def _with_local_key(settings: Settings) -> Settings:
    if settings.secret_keys:
        return settings
    key = _read_or_create(settings.data_dir / "secret_key")
    return settings.model_copy(update={"secret_keys": (SecretStr(key),)})


def _read_or_create(path: Path) -> str:
    """The secret in the file, made if there is none. Of two processes that make it at once, one wins for both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text().strip()


class IndexLock:
    """Held by the one process that serves a data folder. The file tells others where it listens."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "serving.lock"
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
        except OSError as error:
            raise Unavailable(
                f"The data folder {self._path.parent} cannot be used: {error.strerror}. Set STONECHAT_DATA_DIR to another."
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read() or "{}"
            file.close()
            url = json.loads(holder).get("url", "an unknown address")
            raise Unavailable(
                f"Stonechat already runs from {self._path.parent} and answers at {url}. Stop it first, or set "
                "STONECHAT_DATA_DIR to another folder and PORT to another port."
            ) from None
        self._file = file
        return self

    def announce(self, url: str) -> None:
        """Write down where this process answers."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(json.dumps({"url": url, "pid": os.getpid()}))
            self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
