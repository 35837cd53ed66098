"""The file itself: a gzipped tar (ustar), written and read front to back, a member at a time.

    stonechat.json                       what was backed up, when, and which keys it needs
    tables/public.agents/000001.copy     rows in Postgres's COPY text format, some megabytes a part
    files/<tenant>/documents/<name>      what lay in the file store
    manifest.json                        rows, bytes and SHA-256 of all of the above
    signature.json                       HMAC-SHA-256 of the manifest

`tar tzf` lists it. Nothing in it is ever extracted by its name, and no more than a part is in memory at once.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import os
import secrets
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from stonechat.errors import Conflict, InvalidInput, Unavailable

COMPRESSION = 4
"""Of rows it leaves a tenth more than 6 does, in half the time."""
READ_BYTES = 256 * 1024
LARGEST_MEMBER = 2 * 1024 * 1024 * 1024
"""Postgres makes no row of more than 1 GB, and a part is never split within a row."""
_BLOCK = 512
_END = bytes(_BLOCK)


class ArchiveWriter:
    """A new archive. Under its name there is nothing until `finish`; leaving without it leaves nothing.

    Blocking: call it from a thread. Raises `Conflict` if the file exists, `Unavailable` if it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if self.path.exists():
            raise Conflict(f"{path} exists already, and is left as it is. Name another file.")
        self._draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.part")
        with self._writable():
            # Readable by its owner from the first byte on, whatever the umask.
            self._file = os.fdopen(os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
            self._gzip = gzip.GzipFile("", "wb", COMPRESSION, self._file, mtime=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._gzip, self._file):
            with contextlib.suppress(OSError, ValueError):  # closing flushes, and the disk may be full
                stream.close()
        self._draft.unlink(missing_ok=True)

    def add(self, name: str, data: bytes | bytearray) -> None:
        """One member. A name has at most 100 bytes after its last 155 that end at a slash, as ustar has it."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o600
        try:
            header = member.tobuf(tarfile.USTAR_FORMAT)
        except ValueError as error:
            raise Unavailable(f"{name} cannot be a name in an archive: {error}.") from None
        with self._writable():
            self._gzip.write(header)
            self._gzip.write(data)
            self._gzip.write(bytes(-len(data) % _BLOCK))

    def finish(self) -> int:
        """Make it durable, then give it its name. Returns its size in bytes."""
        with self._writable():
            self._gzip.write(_END * 2)
            self._gzip.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = self._file.tell()
            if self.path.exists():
                raise Conflict(f"{self.path} was made by somebody else meanwhile, and is left as it is.")
            self._draft.rename(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        return size

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise Unavailable(
                    f"There is no room for the backup in {self.path.parent} ({error.strerror}). Nothing was kept of it; make "
                    "room, or name a file on another disk."
                ) from None
            raise Unavailable(f"The backup cannot be written to {self.path}: {error.strerror or error}.") from None


@dataclass(frozen=True)
class Member:
    """One member of an archive."""

    name: str
    size: int


class ArchiveReader:
    """An archive from its beginning. Whatever is wrong with it is an `InvalidInput` that says where. Blocking."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._left = self._padding = 0
        self._at = "its beginning"
        try:
            self._gzip = gzip.open(path, "rb")  # noqa: SIM115  closed by `__exit__`
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}.") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gzip.close()

    def next(self) -> Member | None:
        """The next member, whatever was not read of the last one left out; None at the proper end."""
        while self.read(READ_BYTES):
            pass
        self._exactly(self._padding)
        header = self._exactly(_BLOCK)
        if header == _END:
            if self._exactly(_BLOCK) != _END or self._raw(1):
                raise self.damaged("something follows its end")
            return None
        try:
            found = tarfile.TarInfo.frombuf(header, "ascii", "strict")
        except (tarfile.HeaderError, UnicodeDecodeError):
            raise self.damaged("what follows is no member of an archive") from None
        if found.type != tarfile.REGTYPE or not 0 <= found.size <= LARGEST_MEMBER:
            raise self.damaged(f"{found.name!r} is not what a backup holds")
        self._at, self._left, self._padding = found.name, found.size, -found.size % _BLOCK
        return Member(found.name, found.size)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of this member; none at its end."""
        if not self._left:
            return b""
        data = self._raw(min(size, self._left))
        if not data:
            raise self.damaged("it ends too early")
        self._left -= len(data)
        return data

    def read_all(self, *, at_most: int) -> bytes:
        """All of this member."""
        if self._left > at_most:
            raise self.damaged("this member is larger than it can be")
        return self._exactly_of_member(self._left)

    def damaged(self, why: str) -> InvalidInput:
        """What to say of it."""
        return InvalidInput(f"{self.path} is damaged or no backup: {why}, at {self._at}. Nothing was restored.")

    def _exactly_of_member(self, size: int) -> bytes:
        data = self._exactly(size)
        self._left -= size
        return data

    def _exactly(self, size: int) -> bytes:
        pieces = bytearray()
        while len(pieces) < size:
            piece = self._raw(size - len(pieces))
            if not piece:
                raise self.damaged("it ends too early")
            pieces += piece
        return bytes(pieces)

    def _raw(self, size: int) -> bytes:
        try:
            return self._gzip.read(size)
        except EOFError:
            raise self.damaged("it ends too early") from None
        except (zlib.error, gzip.BadGzipFile) as error:
            raise self.damaged(f"it cannot be decompressed ({error})") from None
        except OSError as error:
            raise Unavailable(f"{self.path} cannot be read: {error.strerror or error}.") from None
