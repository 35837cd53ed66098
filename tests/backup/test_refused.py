"""Archives that are not restored, and are known not to be before anything is touched; files that cannot be written."""

from __future__ import annotations

import errno
import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stonechat.backup import archive
from stonechat.backup.archive import ArchiveReader, ArchiveWriter
from stonechat.backup.checking import check_archive
from stonechat.backup.manifest import HEAD, MANIFEST, SIGNATURE, meaning_of
from stonechat.crypto.keyring import Keyring
from stonechat.errors import Conflict, InvalidInput, SecretUnreadable, StonechatError, Unavailable
from support.backups import KEY, Members, bare_database, command, members, tables_there, write

OTHER = "another secret of forty or so characters"


def check(path: Path, *keys: str) -> Any:
    return check_archive(path, Keyring(keys or (KEY,)), say=lambda _: None)


def test_a_whole_archive_is_known_for_what_it_is(tmp_path: Path) -> None:
    checked = check(write(tmp_path / "one.tar.gz", members()))
    tenants = checked.manifest.tables["public.tenants"]
    assert (checked.rows, tenants.rows, tenants.parts, checked.manifest.files.count) == (3, 3, 2, 1)
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        assert tar.getnames() == [name for name, _ in members()]  # who has nothing but tar can read it
    assert (tmp_path / "one.tar.gz").stat().st_mode & 0o777 == 0o600


def test_a_key_that_was_replaced_still_opens_it(tmp_path: Path) -> None:
    assert check(write(tmp_path / "one.tar.gz", members()), OTHER, KEY).rows == 3


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 0.3, 0.6, 0.9, -9, -8, -1])
def test_one_that_was_cut_off_is_refused(tmp_path: Path, kept: float) -> None:
    whole = write(tmp_path / "one.tar.gz", members()).read_bytes()
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])
    with pytest.raises(InvalidInput, match="damaged or no backup"):
        check(cut)


def test_one_with_a_bit_turned_over_is_refused_wherever_it_is(tmp_path: Path) -> None:
    whole = write(tmp_path / "one.tar.gz", members()).read_bytes()
    turned = tmp_path / "turned.tar.gz"
    refused = 0
    for at in range(0, len(whole), 7):
        turned.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            check(turned)
        except StonechatError:
            refused += 1
        else:
            assert 3 <= at <= 9, at  # flags that hold nothing, the time, and which system wrote it
    assert refused > len(whole) // 7 - 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"Dear diary", "decompressed"),
        (gzip.compress(b"Dear diary"), "too early"),
        (gzip.compress(b"x" * 4096), "no member"),
        (gzip.compress(bytes(1024)), "does not begin"),
    ],
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "one.tar.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=says):
        check(path)


def test_what_is_no_file_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read: No such file"):
        check(tmp_path / "one.tar.gz")
    with pytest.raises(Unavailable, match="cannot be read: Is a directory"):
        check(tmp_path)


def changed(name: str, to: Callable[[bytes], bytes]) -> Members:
    return [(each, to(data) if each == name else data) for each, data in members()]


def without(name: str) -> Members:
    return [(each, data) for each, data in members() if each != name]


SECOND = "tables/public.tenants/000002.copy"
FILE = "files/0193000000007000800000000000a1de/documents/doc_1"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(SECOND, lambda data: data + b"4\tfour\n"), "the rows of public.tenants"),
        (changed(SECOND, lambda _: b""), "empty"),
        (changed(FILE, lambda _: b"An 0riginal."), "the files"),
        (changed(MANIFEST, lambda data: data.replace(b'"parts":2', b'"parts":1')), "not signed"),
        (changed(MANIFEST, lambda data: data + b" "), "not signed"),
        (changed(SIGNATURE, lambda _: b"{}"), "does not say"),
        (changed(HEAD, lambda data: data.replace(b"18.0", b"18.1")), "its head is another"),
        (without(HEAD), "does not begin"),
        (without(SECOND), "the rows of public.tenants"),
        (without("tables/public.tenants/000001.copy"), "a part of a table is missing"),
        (without(FILE), "the files"),
        (without(MANIFEST), "nothing of that name"),
        (without(SIGNATURE), "nobody signed"),
        (members()[:-2], "no manifest"),
        ([*members(), ("more", b"")], "something follows"),
        ([*members()[:1], ("tables/pg_catalog.pg_authid/000001.copy", b"x\n"), *members()[1:]], "nothing of that name"),
        ([*members()[:1], ("files/../../etc/passwd", b"x\n"), *members()[1:]], "nothing of that name"),
        ([*members()[:1], ("tables/public.people/000001.copy", b"x\n"), *members()[1:]], "the rows of public.people"),
        ([(HEAD, b"{" * 70_000)], "larger than it can be"),
        ([(HEAD, b"[]")], "does not say"),
        ([(HEAD, b'{"format": 2, "things": []}')], "format 2, which this version does not know"),
    ],
)  # fmt: skip
def test_one_that_was_changed_is_refused(tmp_path: Path, content: Members, says: str) -> None:
    with pytest.raises((InvalidInput, SecretUnreadable), match=says):
        check(write(tmp_path / "one.tar.gz", content))


def test_one_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    ours, theirs = members(), members(key=OTHER)
    with pytest.raises(SecretUnreadable, match="needs the platform key"):
        check(write(tmp_path / "theirs.tar.gz", theirs))
    # With our keys named in it, all of its sums right, and signed: by somebody else.
    forged = write(tmp_path / "forged.tar.gz", [ours[0], *ours[1:-1], theirs[-1]])
    with pytest.raises(SecretUnreadable, match="not signed with a key of this platform's"):
        check(forged)


def test_keys_that_are_missing_are_named(tmp_path: Path) -> None:
    needed = [*Keyring([KEY]).__repr__()[8:-1].split(", "), "0123456789abcdef"]
    path = write(tmp_path / "one.tar.gz", members(head={"keys": needed, "needed_keys": needed}))
    with pytest.raises(SecretUnreadable, match="needs the platform key 0123456789abcdef"):
        check(path)
    said: list[str] = []
    older = write(tmp_path / "two.tar.gz", members(head={"keys": needed}))
    check_archive(older, Keyring([KEY]), say=said.append)
    assert "the older key 0123456789abcdef as well" in said[1]


def test_one_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tar.gz", members(head={"revision": "9999", "stonechat": "7.0"}))
    with pytest.raises(InvalidInput, match=re.escape("made by Stonechat 7.0 (schema 9999), which is newer")):
        check(path)


def test_links_and_devices_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as tar:
        link = tarfile.TarInfo(HEAD)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link, io.BytesIO())
    with pytest.raises(InvalidInput, match="not what a backup holds"):
        check(path)


@pytest.mark.parametrize(
    "name",
    [
        "tables/public.tenants/1.copy",
        "tables/public.tenants; drop/000001.copy",
        "tables/other.tenants/000001.copy",
        "files/0193000000007000800000000000a1de/documents/../x",
        "files/0193000000007000800000000000a1de/elsewhere/x",
        "files/0193000000007000800000000000a1de/documents/.hidden",
        "files/nobody/documents/x",
        f"./{HEAD}",
    ],
)
def test_other_names_mean_nothing(name: str) -> None:
    assert meaning_of(name) is None


async def test_nothing_is_touched_for_the_sake_of_a_bad_one(
    postgres_admin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = write(tmp_path / "one.tar.gz", members()).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(one[:-20])
    folder = tmp_path / "data"
    async with bare_database(postgres_admin_url, f"stonechat_bare_{os.getpid()}") as bare:
        cut = await command("restore", tmp_path / "cut.tar.gz", database=bare, folder=folder, patch=monkeypatch)
        stranger = await command(
            "restore", tmp_path / "one.tar.gz", database=bare, folder=folder, key=OTHER, patch=monkeypatch
        )
        assert await tables_there(bare.admin_url) == []
    assert (cut.exit_code, stranger.exit_code) == (1, 1)
    assert "it ends too early" in cut.stderr
    assert "needs the platform key" in stranger.stderr
    assert not folder.exists()


async def test_without_a_key_none_is_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, folder = write(tmp_path / "one.tar.gz", members()), tmp_path / "data"
    answer = await command("restore", path, database=None, folder=folder, key="", patch=monkeypatch)
    assert (answer.exit_code, folder.exists()) == (1, False)
    assert "There is no platform key" in answer.stderr
    folder.mkdir()
    (folder / "secret_key").write_text(f"{KEY}\n")
    checked = await command("restore", "--check", path, database=None, folder=folder, key="", patch=monkeypatch)
    assert (checked.exit_code, [each.name for each in folder.iterdir()]) == (0, ["secret_key"])
    assert "is whole, and this platform's: 3 rows of 1 tables and 1 files" in checked.stdout


async def test_no_empty_platform_is_made_to_be_backed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await command(
        "backup", tmp_path / "one.tar.gz", database=None, folder=tmp_path / "data", patch=monkeypatch
    )
    assert answer.exit_code == 1
    assert "There is no Stonechat in" in answer.stderr
    assert list(tmp_path.iterdir()) == []


def test_there_is_all_of_it_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    with ArchiveWriter(path) as unfinished:
        unfinished.add(HEAD, b"{}")
        assert not path.exists()
        assert [each.stat().st_mode & 0o777 for each in tmp_path.iterdir()] == [0o600]
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tar.gz", members())
    before = path.read_bytes()
    with pytest.raises(Conflict, match="exists already"):
        ArchiveWriter(path)
    with ArchiveWriter(tmp_path / "two.tar.gz") as two:
        two.add(HEAD, b"{}")
        (tmp_path / "two.tar.gz").write_bytes(b"somebody was quicker")
        with pytest.raises(Conflict, match="meanwhile"):
            two.finish()
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["one.tar.gz", "two.tar.gz"]


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "There is no room"), (errno.EIO, "cannot be written")])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    class Full(gzip.GzipFile):
        def write(self, data: Any) -> int:
            if len(data) > 1000:
                raise OSError(number, os.strerror(number))
            return super().write(data)

    monkeypatch.setattr(archive.gzip, "GzipFile", Full)
    with ArchiveWriter(tmp_path / "one.tar.gz") as full:
        full.add(HEAD, b"{}")
        with pytest.raises(Unavailable, match=says):
            full.add(MANIFEST, bytes(2000))
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"cannot be written to .*No such file"):
        ArchiveWriter(tmp_path / "nowhere" / "one.tar.gz")


def test_a_name_that_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be a name"), ArchiveWriter(tmp_path / "one.tar.gz") as made:
        made.add("x" * 300, b"")


def test_members_are_read_in_pieces_and_may_be_left_unread(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tar.gz", [("a", b"x" * 1000), ("b", b"yy"), ("c", b"")])
    with ArchiveReader(path) as read:
        assert (read.next(), read.read(600), read.read(600), read.read(600)) == (
            archive.Member("a", 1000), b"x" * 600, b"x" * 400, b"",
        )  # fmt: skip
        assert read.next() == archive.Member("b", 2)
        assert read.next() == archive.Member("c", 0)
        assert (read.read_all(at_most=1), read.next()) == (b"", None)
