"""What all formats that are ZIP files share: bounds, checked before anything is unpacked."""

from __future__ import annotations

import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from stonechat.errors import DocumentEncrypted, DocumentTooDemanding, DocumentUnreadable

MAX_UNPACKED = 300 * 1024 * 1024
"""Bytes of all the parts together, as the file itself says; what it does not say honestly, the child's memory bounds."""
MAX_PARTS = 20_000
MAX_DIRECTORY = 4 * 1024 * 1024
"""Bytes of the list of parts, which is read whole."""
_ENCRYPTED = 0x1
_DAMAGED = (zipfile.BadZipFile, ValueError, EOFError, OSError, struct.error, zlib.error, lzma.LZMAError)
"""What `zipfile` raises for bytes that are no ZIP, or lets through from what unpacks a part."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA})
_PACKED = "This file is packed in a way that cannot be read. Save it again, as an ordinary ZIP if you can choose."


def open_zip(data: bytes) -> zipfile.ZipFile:
    """The file, if it is whole, not encrypted, and not a bomb."""
    end = data.rfind(b"PK\x05\x06")
    if end < 0 or len(data) < end + 22:
        raise DocumentUnreadable("This file is damaged and cannot be opened.")
    if int.from_bytes(data[end + 12 : end + 16], "little") > MAX_DIRECTORY:
        raise DocumentTooDemanding("This file holds more parts than we allow. Split it into several.")
    with _told_to_people():
        opened = zipfile.ZipFile(io.BytesIO(data))
    parts = opened.infolist()
    if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED:
        raise DocumentTooDemanding("This file unpacks to more than we allow. Split it into several.")
    if any(part.flag_bits & _ENCRYPTED for part in parts):
        raise DocumentEncrypted("This file needs a password. Save it without one, and upload it again.")
    return opened


def check_zip(data: bytes) -> None:
    """`open_zip`, for a library that opens the file itself; and whether it could unpack every part."""
    with open_zip(data) as opened:
        if any(part.compress_type not in _METHODS for part in opened.infolist()):
            raise DocumentUnreadable(_PACKED)


def read_part(opened: zipfile.ZipFile, name: str, *, limit: int = MAX_UNPACKED) -> bytes | None:
    """A part's bytes, None if there is no such part. Never more than `limit`, whatever the file claims."""
    try:
        with _told_to_people(), opened.open(name) as part:
            data = part.read(limit + 1)
    except KeyError:
        return None
    if len(data) > limit:
        raise DocumentTooDemanding("This file unpacks to more than we allow. Split it into several.")
    return data


@contextmanager
def _told_to_people() -> Iterator[None]:
    try:
        yield
    except RuntimeError:  # zipfile's, for a method, a version or an encryption that it cannot undo
        raise DocumentUnreadable(_PACKED) from None
    except _DAMAGED:
        raise DocumentUnreadable("This file is damaged and cannot be opened.") from None
