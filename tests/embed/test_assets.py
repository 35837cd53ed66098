"""The built widget is what its manifest says, or nothing is served."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from stonechat.embed.assets import STATIC, Assets, AssetsBroken, load_assets

FILES = {"embed.js": b"loader();", "frame.js": b"frame();", "extras.js": b"extras();"}


def write_build(folder: Path, files: dict[str, bytes], *, manifest: object = None) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    named = {name: {"sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()}
    (folder / "manifest.json").write_text(json.dumps({"files": named} if manifest is None else manifest))


def test_the_committed_build_is_whole() -> None:
    assets = load_assets()
    for asset in (assets.loader, assets.frame_script, assets.extras_script):
        assert asset.content == (STATIC / asset.name).read_bytes()
        assert gzip.decompress(asset.compressed) == asset.content


def test_a_file_is_found_under_its_own_hash_only(tmp_path: Path) -> None:
    write_build(tmp_path, FILES)
    assets = load_assets(tmp_path)
    digest = hashlib.sha256(b"frame();").hexdigest()[:16]
    assert assets.frame_script.path == f"/embed/assets/{digest}/frame.js"
    assert assets.find(digest, "frame.js") is assets.frame_script
    assert assets.find(digest, "embed.js") is None
    assert assets.find("0" * 16, "frame.js") is None
    assert assets.find(digest, "../frame.js") is None
    assert assets.find(digest, "manifest.json") is None


def test_a_build_that_differs_from_its_manifest_is_refused(tmp_path: Path) -> None:
    write_build(tmp_path, FILES)
    (tmp_path / "frame.js").write_bytes(b"other();")
    with pytest.raises(AssetsBroken, match=r"frame\.js"):
        load_assets(tmp_path)


@pytest.mark.parametrize("manifest", [{}, [], {"files": {"gone.js": {"sha256": ""}}}, {"files": {"embed.js": {}}}])
def test_a_broken_manifest_is_refused(tmp_path: Path, manifest: object) -> None:
    write_build(tmp_path, FILES, manifest=manifest)
    with pytest.raises(AssetsBroken):
        load_assets(tmp_path)


def test_a_missing_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetsBroken):
        load_assets(tmp_path)
    with pytest.raises(AssetsBroken, match=r"frame\.js"):
        Assets({"embed.js": b""})
