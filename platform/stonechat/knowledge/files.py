"""The file store: originals of documents, and attachments, each under its tenant's own prefix.

A name is one to eight parts of `A-Z a-z 0-9 . _ -` joined by `/`, no part starting with a dot: nothing else reaches the
file system, so no name can leave its tenant's folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

from stonechat.errors import InvalidInput, NotFound, Unavailable

MAX_FILE_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,7}")


class FileStore(Protocol):
    """Bytes by tenant and name. Putting replaces; deleting what is not there is no error."""

    async def put(self, tenant_id: UUID, name: str, *, data: bytes) -> None:
        """Store `data` durably, replacing what was there. `Unavailable` when the store cannot take it."""

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        """The bytes, or `NotFound`."""

    async def delete(self, tenant_id: UUID, name: str) -> None:
        """Remove one file."""

    async def delete_tenant(self, tenant_id: UUID) -> None:
        """Remove every file of a tenant."""


class FolderStore:
    """Files in a folder, `<root>/<tenant id in hex>/<name>`; written aside, flushed, then renamed into place."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    async def put(self, tenant_id: UUID, name: str, *, data: bytes) -> None:
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput(f"A stored file may have at most {MAX_FILE_BYTES // 1024 // 1024} MB.")
        await asyncio.to_thread(self._write, self._path(tenant_id, name), data)

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        try:
            return await asyncio.to_thread(self._path(tenant_id, name).read_bytes)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise NotFound("This file is not in the file store.") from None
        except OSError as error:
            raise Unavailable("The file store cannot be read right now.") from error

    async def delete(self, tenant_id: UUID, name: str) -> None:
        path = self._path(tenant_id, name)
        try:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise Unavailable("The file store cannot delete right now.") from error

    async def delete_tenant(self, tenant_id: UUID) -> None:
        await asyncio.to_thread(shutil.rmtree, self._root / tenant_id.hex, True)

    def _path(self, tenant_id: UUID, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidInput("A file name in the store may not look like this.")
        return self._root / tenant_id.hex / name

    @staticmethod
    def _write(path: Path, data: bytes) -> None:
        aside = path.with_name(f".{secrets.token_hex(8)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
            raise Unavailable("The file store cannot be written right now.") from error


def open_file_store(url: str) -> FileStore:
    """The store that `STONECHAT_FILES_URL` names: a folder, plain or as `file:///…`."""
    parts = urlsplit(url)
    if parts.scheme == "file" and parts.netloc in {"", "localhost"}:
        return FolderStore(Path(unquote(parts.path)))
    if "://" in url:
        raise Unavailable(
            f"STONECHAT_FILES_URL: {parts.scheme}:// is not supported yet. Name a folder, for example one on a shared volume."
        )
    return FolderStore(Path(url))
