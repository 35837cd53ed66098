"""`stonechat doctor`: every setting and every service, tried."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError

from stonechat.billing.checks import examine_billing
from stonechat.db import migrate
from stonechat.db.embedded_binaries import find_installation
from stonechat.db.session import Database
from stonechat.errors import StonechatError
from stonechat.files import open_files
from stonechat.knowledge.consistency import last_rounds
from stonechat.knowledge.index import open_index
from stonechat.knowledge.index_server import ServerIndex
from stonechat.settings import Settings

TIMEOUT_SECONDS = 10
OLDEST_POSTGRES = 15


@dataclass(frozen=True)
class Finding:
    """One thing examined: whether it is well, what was seen, and what to do if not."""

    subject: str
    ok: bool
    detail: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Finding]:
    """Try everything, at most `TIMEOUT_SECONDS` each; never raises."""
    checks: list[tuple[str, Callable[[Settings], Awaitable[Finding]]]] = [
        ("Data folder", _data_folder),
        ("Secret keys", _secret_keys),
        ("Postgres", _postgres),
        ("Schema", _schema),
        ("Search index", _index),
        ("Knowledge", _knowledge),
        ("Files", _files),
        ("Redis", _redis),
        ("Billing", _billing),
        ("Public address", _public_url),
        ("Metrics", _metrics),
    ]
    findings = []
    for subject, check in checks:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                findings.append(await check(settings))
        except TimeoutError:
            findings.append(Finding(subject, False, f"no answer within {TIMEOUT_SECONDS} seconds", "Is it running?"))
        except (OSError, StonechatError, asyncpg.PostgresError) as error:
            findings.append(Finding(subject, False, f"{type(error).__name__}: {error}"))
    return findings


async def _data_folder(settings: Settings) -> Finding:
    def write() -> None:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.data_dir):
            pass

    try:
        await asyncio.to_thread(write)
    except OSError as error:
        remedy = "Set STONECHAT_DATA_DIR to a folder that this account may write to."
        return Finding("Data folder", False, f"{settings.data_dir}: {error.strerror}", remedy)
    free = os.statvfs(settings.data_dir)
    gigabytes = free.f_bavail * free.f_frsize / 1e9
    enough = gigabytes > 1
    detail = f"{settings.data_dir}, {gigabytes:.0f} GB free"
    return Finding("Data folder", enough, detail, "" if enough else "Free some space: at least 1 GB is needed.")


async def _secret_keys(settings: Settings) -> Finding:
    if settings.secret_keys:
        return Finding("Secret keys", True, f"{len(settings.secret_keys)} set")
    return Finding("Secret keys", True, "none set: `stonechat up` makes one in the data folder")


async def _postgres(settings: Settings) -> Finding:
    if settings.database_url is None:
        installation = await asyncio.to_thread(find_installation, major=None)
        return Finding("Postgres", True, f"embedded, version {installation.major}")
    connection = await asyncpg.connect(settings.database_url, timeout=TIMEOUT_SECONDS)
    try:
        version = connection.get_server_version()
        ok = version.major >= OLDEST_POSTGRES
        remedy = "" if ok else f"Postgres {OLDEST_POSTGRES} or newer is needed."
        return Finding("Postgres", ok, f"version {version.major}.{version.minor}", remedy)
    finally:
        await connection.close()


async def _schema(settings: Settings) -> Finding:
    if settings.owner_database_url is None:
        return Finding("Schema", True, "brought up to date when the embedded database starts")
    current = await migrate.is_current(settings.owner_database_url)
    if current:
        return Finding("Schema", True, f"at revision {migrate.head_revision()}, the newest")
    return Finding("Schema", False, f"not at revision {migrate.head_revision()}", "Run `stonechat migrate`.")


async def _index(settings: Settings) -> Finding:
    layout = "a collection for each tenant" if settings.index_layout == "per_tenant" else "small tenants share one"
    if settings.qdrant_url is None:
        return Finding("Search index", True, f"embedded, in the one process that serves; {layout}")
    index = open_index(settings)
    try:
        await index.ready()
        if settings.index_layout == "shared" and isinstance(index, ServerIndex) and not await index.shares():
            return Finding(
                "Search index",
                False,
                "the Qdrant server is older than 1.19, and would mix the word statistics of tenants who share a collection",
                "Update the server to 1.19 or newer, or set STONECHAT_INDEX_LAYOUT=per_tenant.",
            )
        return Finding("Search index", True, f"the Qdrant server answers; {layout}")
    except Exception as error:
        return Finding(
            "Search index", False, f"{type(error).__name__}: {error}", "Check QDRANT_URL and QDRANT_API_KEY."
        )
    finally:
        await index.close()


async def _knowledge(settings: Settings) -> Finding:
    """What the checks by the clock found, `knowledge.consistency`."""
    if settings.database_url is None:
        return Finding("Knowledge", True, "compared with the index every hour while Stonechat runs")
    database = Database(settings.database_url, pool_size=2)
    try:
        async with database.platform() as session:
            tenants, oldest, found = await last_rounds(session)
    except DBAPIError as error:
        return Finding("Knowledge", False, f"{type(error.orig).__name__}: {error.orig}", "Run `stonechat migrate`.")
    finally:
        await database.close()
    if oldest is None:
        return Finding("Knowledge", True, "not yet compared with the index; the worker does so every hour")
    wrong = {name.replace("_", " "): number for name, number in found.items() if number and name != "compared"}
    told = ", ".join(f"{number:,} {name}" for name, number in wrong.items()) or "nothing wrong"
    detail = f"{tenants:,} tenants compared with the index, the oldest {oldest:%Y-%m-%d %H:%M} UTC: {told}"
    lost = "lost files" in wrong
    remedy = "Some originals are gone: look for documents that say so, and upload them anew." if lost else ""
    return Finding("Knowledge", not lost, detail + ("" if lost or not wrong else ", mended"), remedy)


async def _files(settings: Settings) -> Finding:
    place = settings.configured_files_url or "in the data folder"
    files, nobody = open_files(settings), UUID(int=0)
    try:
        await files.put(nobody, "doctor", data=b"well")
        well = await files.get(nobody, "doctor") == b"well"
        await files.delete(nobody, "doctor")
        return Finding("Files", well, f"{place}: written, read and deleted")
    except StonechatError as error:
        remedy = "Check STONECHAT_FILES_URL, and for a bucket STONECHAT_S3_ENDPOINT, AWS_REGION and the keys."
        return Finding("Files", False, f"{place}: {error}", remedy)
    finally:
        await files.aclose()


async def _redis(settings: Settings) -> Finding:
    if settings.redis_url is None:
        return Finding("Redis", True, "not used: limits are kept in memory, for one web process")
    from redis.asyncio import from_url
    from redis.exceptions import RedisError

    client = from_url(settings.redis_url)
    try:
        await client.ping()
        return Finding("Redis", True, "answers")
    except RedisError as error:
        return Finding("Redis", False, str(error), "Check REDIS_URL. Until it answers, each process counts for itself.")
    finally:
        await client.aclose()


async def _billing(settings: Settings) -> Finding:
    database = Database(settings.database_url, pool_size=2) if settings.database_url is not None else None
    try:
        well, seen, remedy = await examine_billing(settings, database)
    except DBAPIError as error:
        return Finding("Billing", False, f"{type(error.orig).__name__}: {error.orig}", "Run `stonechat migrate`.")
    finally:
        if database is not None:
            await database.close()
    return Finding("Billing", well, seen, remedy)


async def _public_url(settings: Settings) -> Finding:
    return Finding("Public address", True, settings.public_url)


async def _metrics(settings: Settings) -> Finding:
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        return Finding("Metrics", True, "off: STONECHAT_METRICS_PORT is not set")
    shown = f"[{host}]" if ":" in host else host
    inside = host in ("127.0.0.1", "::1", "localhost")
    seen = "this machine" if inside else "whoever reaches that address, so only Prometheus should"
    return Finding("Metrics", True, f"http://{shown}:{port}/metrics while Stonechat runs, for {seen}")
