"""Reading an archive from its beginning to its end, without touching anything, to know that all of it is there and ours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ValidationError

from stonechat.backup.archive import READ_BYTES, ArchiveReader, Member
from stonechat.backup.manifest import (
    FORMAT,
    HEAD,
    LARGEST_HEAD,
    LARGEST_MANIFEST,
    MANIFEST,
    SIGNATURE,
    Head,
    Manifest,
    Signature,
    StoredFile,
    Sums,
    TablePart,
    is_signed,
    meaning_of,
)
from stonechat.backup.progress import Progress, Say
from stonechat.backup.tables import is_month
from stonechat.crypto.keyring import Keyring
from stonechat.db import migrate
from stonechat.errors import InvalidInput, SecretUnreadable
from stonechat.files import MAX_FILE_BYTES

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True)
class Checked:
    """An archive that is whole, ours, and of a schema that this version knows."""

    path: Path
    head: Head
    manifest: Manifest

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.manifest.tables.values())


def check_archive(path: Path, keyring: Keyring, *, say: Say, listing: IO[str] | None = None) -> Checked:
    """Read all of it. Blocking, as long as it takes to decompress it. `listing` gets a line for each file, with its SHA-256.

    Raises `SecretUnreadable` if its keys are not ours, `InvalidInput` for whatever else is wrong with it.
    """
    progress, sums = Progress(say), Sums()
    with ArchiveReader(path) as archive:
        head_bytes = _read_head(archive)
        head = _parsed(archive, Head, head_bytes)
        _check_head(path, head, keyring)
        progress.step(
            f"Checking {path}: a backup of {head.made_at}, made by Stonechat {head.stonechat} (schema {head.revision}) ..."
        )
        if gone := head.keys_not_in(keyring):
            progress.step(
                f"The platform had the older key {', '.join(gone)} as well, which STONECHAT_SECRET_KEYS does not have. Only "
                "operators whose second factor is as old would miss it, and set up a new one."
            )
        while (member := archive.next()) is not None and member.name != MANIFEST:
            _add_up(archive, member, sums, listing)
            progress.moved(member.size, member.name)
        if member is None:
            raise archive.damaged("it has no manifest")
        manifest_bytes = archive.read_all(at_most=LARGEST_MANIFEST)
        member = archive.next()
        if member is None or member.name != SIGNATURE:
            raise archive.damaged("nobody signed it")
        signature = _parsed(archive, Signature, archive.read_all(at_most=LARGEST_HEAD))
        if not is_signed(keyring, manifest_bytes, signature):
            raise SecretUnreadable(
                f"{path} was not signed with a key of this platform's, or was changed since. Nothing was restored."
            )
        manifest = _parsed(archive, Manifest, manifest_bytes)
        if manifest.head_sha256 != hashlib.sha256(head_bytes).hexdigest():
            raise archive.damaged("its head is another backup's")
        if (different := sums.differs_from(manifest)) is not None:
            raise archive.damaged(f"{different} are not what was backed up")
        if not all(is_month(month) for months in manifest.partitions.values() for month in months):
            raise archive.damaged("it names a month that is none")
        if archive.next() is not None:
            raise archive.damaged("something follows its end")
    return Checked(path, head, manifest)


def _read_head(archive: ArchiveReader) -> bytes:
    member = archive.next()
    if member is None or member.name != HEAD:
        raise archive.damaged("it does not begin as a backup does")
    return archive.read_all(at_most=LARGEST_HEAD)


def _check_head(path: Path, head: Head, keyring: Keyring) -> None:
    needed = {*head.needed_keys, *head.keys[:1]}
    if missing := needed.intersection(head.keys_not_in(keyring)):
        raise SecretUnreadable(
            f"What is encrypted in {path} needs the platform key {', '.join(sorted(missing))}, which STONECHAT_SECRET_KEYS "
            "does not have. Set it to what the platform had that was backed up (an embedded one keeps it in the file "
            "`secret_key` of its data folder). Nothing was restored."
        )
    if head.revision not in migrate.revisions():
        raise InvalidInput(
            f"{path} was made by Stonechat {head.stonechat} (schema {head.revision}), which is newer than this one "
            f"(schema {migrate.head_revision()}). Restore it with that version or a later one."
        )


def _add_up(archive: ArchiveReader, member: Member, sums: Sums, listing: IO[str] | None) -> None:
    match meaning_of(member.name):
        case TablePart(table, number):
            if number != sums.parts_of(table) + 1:
                raise archive.damaged("a part of a table is missing")
            begins = True
            while data := archive.read(READ_BYTES):
                sums.add_rows(table, data, part_begins=begins)
                begins = False
            if begins:
                raise archive.damaged("a part of a table is empty")
        case StoredFile() as file:
            digest = hashlib.sha256()
            if member.size > MAX_FILE_BYTES:
                raise archive.damaged("this file is larger than it can be")
            while data := archive.read(READ_BYTES):
                digest.update(data)
            sums.add_file(file, size=member.size, sha256=digest.hexdigest())
            if listing is not None:
                listing.write(f"{file.tenant_id.hex} {file.name} {digest.hexdigest()}\n")
        case None:
            raise archive.damaged("a backup holds nothing of that name")


def _parsed(archive: ArchiveReader, kind: type[_Model], data: bytes) -> _Model:
    try:
        return kind.model_validate_json(data)
    except ValidationError:
        if kind is Head and (said := _format_of(data)) is not None and said > FORMAT:
            raise InvalidInput(
                f"{archive.path} is of format {said}, which this version does not know. Restore it with the version of "
                "Stonechat that made it, or a later one."
            ) from None
        raise archive.damaged("it does not say what a backup says") from None


def _format_of(data: bytes) -> int | None:
    try:
        said = json.loads(data)
    except ValueError:
        return None
    found = said.get("format") if isinstance(said, dict) else None
    return found if isinstance(found, int) else None
