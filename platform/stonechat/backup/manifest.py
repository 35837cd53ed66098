"""What an archive says of itself: its head at the beginning, its manifest at the end, and whose word that is.

The manifest is signed with the platform's newest key, so that an archive that somebody else made, or changed, is refused:
who restores has that key anyway, because what is encrypted in the archive needs it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Literal, NamedTuple
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from stonechat.crypto.keyring import Keyring

FORMAT: Literal[1] = 1
HEAD, MANIFEST, SIGNATURE = "stonechat.json", "manifest.json", "signature.json"
LARGEST_HEAD, LARGEST_MANIFEST = 64 * 1024, 16 * 1024 * 1024
FOLDERS = {"documents": ("documents", "document_id"), "attachments": ("attachments", "attachment_id")}
"""By folder of the file store, the table and the column that vouch for its files."""
_PURPOSE = "backup manifest"
_PART = re.compile(r"tables/((?:public|jobs)\.[a-z_][a-z0-9_]{0,62})/([0-9]{6,9})\.copy")
_FILE = re.compile(rf"files/([0-9a-f]{{32}})/((?:{'|'.join(FOLDERS)})/[A-Za-z0-9_-][A-Za-z0-9._-]{{0,199}})")
_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Head(_Part):
    """What has to be known before anything else is looked at."""

    format: Literal[1] = FORMAT
    stonechat: str
    """The version that made it."""
    revision: str
    """Of the schema that the rows are of."""
    made_at: str
    postgres: str
    keys: list[str] = Field(max_length=100)
    """Ids of the platform keys that there were, newest first. An id says nothing about its key."""
    needed_keys: list[str] = Field(max_length=100)
    """Of those, the ones without which something in here cannot be decrypted."""

    def keys_not_in(self, keyring: Keyring) -> list[str]:
        """Keys that the platform had and this keyring lacks."""
        ours = key_ids(keyring)
        return [key_id for key_id in self.keys if key_id not in ours]


class TableSum(_Part):
    """A table: its columns in the order of its rows' values, and what its parts come to."""

    columns: list[str] = Field(max_length=1000)
    rows: int = 0
    bytes: int = 0
    parts: int = 0
    sha256: str = Field(hashlib.sha256().hexdigest(), pattern=_SHA256)


class FileSum(_Part):
    """All files: the SHA-256 is of a line for each, its name, its size and its own SHA-256."""

    count: int = 0
    bytes: int = 0
    sha256: str = Field(hashlib.sha256().hexdigest(), pattern=_SHA256)


class Manifest(_Part):
    """What an archive holds."""

    head_sha256: str = Field(pattern=_SHA256)
    tables: dict[str, TableSum] = Field(max_length=1000)
    """By `schema.name`, each after those that its rows refer to."""
    partitions: dict[str, list[str]] = Field(max_length=100)
    """By the name of a table that is partitioned by month, its months: `202611`."""
    sequences: dict[str, tuple[int, bool]] = Field(max_length=1000)
    """The last value of each, and whether it was given out."""
    files: FileSum


class Signature(_Part):
    """Who says so."""

    key: str
    hmac_sha256: str = Field(pattern=_SHA256)


class TablePart(NamedTuple):
    """Some rows of a table."""

    table: str
    number: int


class StoredFile(NamedTuple):
    """A file of a tenant's."""

    tenant_id: UUID
    name: str


def part_name(table: str, number: int) -> str:
    """The name of a table's n-th part, from 1."""
    return f"tables/{table}/{number:06}.copy"


def file_name(tenant_id: UUID, name: str) -> str:
    """The name of a file of a tenant's."""
    return f"files/{tenant_id.hex}/{name}"


def meaning_of(member: str) -> TablePart | StoredFile | None:
    """What a member is by its name; None for none of these."""
    if found := _PART.fullmatch(member):
        return TablePart(found[1], int(found[2]))
    if found := _FILE.fullmatch(member):
        return StoredFile(UUID(hex=found[1]), found[2])
    return None


class Sums:
    """Adds up tables and files as they go by, a piece at a time, on the way out as on the way in."""

    def __init__(self) -> None:
        self._tables: dict[str, tuple[TableSum, hashlib._Hash]] = {}
        self._files, self._file_hash = FileSum(), hashlib.sha256()

    def begin_table(self, table: str, columns: list[str]) -> None:
        """A table of which there may be no row."""
        self._tables[table] = (TableSum(columns=columns), hashlib.sha256())

    def add_rows(self, table: str, data: bytes, *, part_begins: bool = False) -> None:
        """Some of a table's rows, split anywhere. In COPY's text format a line is a row."""
        if table not in self._tables:
            self.begin_table(table, [])
        so_far, digest = self._tables[table]
        digest.update(data)
        more = {
            "rows": so_far.rows + data.count(b"\n"),
            "bytes": so_far.bytes + len(data),
            "parts": so_far.parts + part_begins,
        }
        self._tables[table] = (so_far.model_copy(update=more), digest)

    def add_file(self, file: StoredFile, *, size: int, sha256: str) -> None:
        """One file."""
        self._file_hash.update(f"{file_name(*file)} {size} {sha256}\n".encode())
        self._files = FileSum(count=self._files.count + 1, bytes=self._files.bytes + size)

    def parts_of(self, table: str) -> int:
        """How many there were."""
        return self._tables[table][0].parts if table in self._tables else 0

    @property
    def tables(self) -> dict[str, TableSum]:
        """What they came to."""
        return {
            name: found.model_copy(update={"sha256": digest.hexdigest()})
            for name, (found, digest) in self._tables.items()
        }

    @property
    def files(self) -> FileSum:
        """What they came to."""
        return self._files.model_copy(update={"sha256": self._file_hash.hexdigest()})

    def differs_from(self, manifest: Manifest) -> str | None:
        """What is not as the manifest has it; None if all is."""
        found = self.tables
        for name in sorted(manifest.tables.keys() | found.keys()):
            said = manifest.tables.get(name)
            if said is None or found.get(name, TableSum(columns=[])) != said.model_copy(update={"columns": []}):
                return f"the rows of {name}"
        return None if self.files == manifest.files else "the files"


def key_ids(keyring: Keyring) -> list[str]:
    """Newest first."""
    return [key_id for key_id, _ in keyring.derive(_PURPOSE)]


def sign(keyring: Keyring, manifest: bytes) -> Signature:
    """The platform's word for a manifest."""
    key_id, key = keyring.derive(_PURPOSE)[0]
    return Signature(key=key_id, hmac_sha256=hmac.digest(key, manifest, "sha256").hex())


def is_signed(keyring: Keyring, manifest: bytes, signature: Signature) -> bool:
    """Whether one of these keys signed just this."""
    key = dict(keyring.derive(_PURPOSE)).get(signature.key)
    return key is not None and hmac.compare_digest(hmac.digest(key, manifest, "sha256").hex(), signature.hmac_sha256)
