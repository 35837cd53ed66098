"""Files in a folder, `<root>/<tenant id in hex>/<name>`; written aside, flushed, then renamed into place."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit
from uuid import UUID

from stonechat.errors import NotFound, Unavailable
from stonechat.files.store import CHUNK_BYTES, MAX_NAMES, checked_name, size_of

_MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


class FolderStore:
    """A `FileStore` on a disk of this machine, or on a shared volume."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    async def put(self, tenant_id: UUID, name: str, *, data: bytes | Path) -> None:
        """See `FileStore.put`."""
        path = self._path(tenant_id, name)
        size_of(data)
        await asyncio.to_thread(self._write, path, data)

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        """See `FileStore.get`."""
        with _readable():
            return await asyncio.to_thread(self._path(tenant_id, name).read_bytes)

    async def stream(self, tenant_id: UUID, name: str) -> AsyncIterator[bytes]:
        """See `FileStore.stream`."""
        with _readable():
            file = await asyncio.to_thread(self._path(tenant_id, name).open, "rb")
        return _chunks(file)

    async def delete(self, tenant_id: UUID, name: str) -> None:
        """See `FileStore.delete`."""
        path = self._path(tenant_id, name)
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise Unavailable("The file store cannot delete right now.") from error

    async def names(self, tenant_id: UUID, folder: str, *, after: str = "", limit: int = MAX_NAMES) -> list[str]:
        """See `FileStore.names`."""
        with _readable():
            return await asyncio.to_thread(_names, self._path(tenant_id, folder), after, min(limit, MAX_NAMES))

    async def delete_tenant(self, tenant_id: UUID) -> None:
        """See `FileStore.delete_tenant`."""
        await asyncio.to_thread(shutil.rmtree, self._root / tenant_id.hex, True)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _path(self, tenant_id: UUID, name: str) -> Path:
        return self._root / tenant_id.hex / checked_name(name)

    @staticmethod
    def _write(path: Path, data: bytes | Path) -> None:
        aside = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with aside.open("wb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, CHUNK_BYTES)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            _flush(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise Unavailable("The file store cannot be written right now.") from error


def _flush(folder: Path) -> None:
    """Put a folder's names on the disk, where the system can: a file that was stored is there after a power cut too."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _names(folder: Path, after: str, limit: int) -> list[str]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as found:
        # A file that is being written has a dot in front.
        names = (entry.name for entry in found if entry.name > after and not entry.name.startswith("."))
        return heapq.nsmallest(limit, names)


def folder_of(url: str) -> Path:
    """The folder that a setting names; `Unavailable` if it names none."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return Path(unquote(parts.path))
    if "://" in url:
        raise Unavailable(
            f"STONECHAT_FILES_URL: {parts.scheme}:// is not supported. Name a folder, or s3://bucket/prefix."
        )
    return Path(url)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except _MISSING:
        raise NotFound("This file is not in the file store.") from None
    except OSError as error:
        raise Unavailable("The file store cannot be read right now.") from error


async def _chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    try:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
    finally:
        file.close()
