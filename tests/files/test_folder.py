"""The file store keeps what it is given, and no name leaves its tenant's folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from stonechat import ids
from stonechat.errors import InvalidInput, NotFound, Unavailable
from stonechat.files import MAX_FILE_BYTES, FolderStore, open_file_store


async def test_put_get_replace_delete(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    tenant_id = ids.new_tenant_id()
    await store.put(tenant_id, "documents/doc_1", data=b"one")
    await store.put(tenant_id, "documents/doc_1", data=b"two")
    assert await store.get(tenant_id, "documents/doc_1") == b"two"
    assert [path.name for path in (tmp_path / tenant_id.hex / "documents").iterdir()] == ["doc_1"]
    await store.delete(tenant_id, "documents/doc_1")
    await store.delete(tenant_id, "documents/doc_1")
    with pytest.raises(NotFound):
        await store.get(tenant_id, "documents/doc_1")


async def test_tenants_are_apart(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    one, two = ids.new_tenant_id(), ids.new_tenant_id()
    await store.put(one, "a", data=b"1")
    with pytest.raises(NotFound):
        await store.get(two, "a")
    await store.delete_tenant(two)
    assert await store.get(one, "a") == b"1"
    await store.delete_tenant(one)
    with pytest.raises(NotFound):
        await store.get(one, "a")


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "..", ".hidden", "a//b", "a/", "a\\b", "a\x00b", "ü", "a b",
     "C:x", "a/" * 9 + "b", "x" * 300, "a\n", "%2e%2e/x"],
)  # fmt: skip
async def test_names_that_could_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    store = FolderStore(tmp_path / "store")
    tenant_id = ids.new_tenant_id()
    (tmp_path / "x").write_bytes(b"secret")
    for call in (store.get(tenant_id, name), store.put(tenant_id, name, data=b"!"), store.delete(tenant_id, name)):
        with pytest.raises(InvalidInput):
            await call
    assert (tmp_path / "x").read_bytes() == b"secret"


async def test_folders_are_no_files(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    tenant_id = ids.new_tenant_id()
    await store.put(tenant_id, "a/b", data=b"1")
    for name in ("a", "a/b/c"):
        with pytest.raises(NotFound):
            await store.get(tenant_id, name)
    with pytest.raises(Unavailable):
        await store.put(tenant_id, "a/b/c", data=b"2")


async def test_size_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        await FolderStore(tmp_path).put(ids.new_tenant_id(), "a", data=bytes(MAX_FILE_BYTES + 1))


async def test_the_url_names_a_folder(tmp_path: Path) -> None:
    tenant_id = ids.new_tenant_id()
    spaced = tmp_path / "my files"
    await open_file_store(str(spaced)).put(tenant_id, "a", data=b"1")
    assert await open_file_store(spaced.as_uri()).get(tenant_id, "a") == b"1"
    for url in ("https://files.example", "file://elsewhere/x"):
        with pytest.raises(Unavailable, match="not supported"):
            open_file_store(url)
