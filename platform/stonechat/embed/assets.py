"""The built widget: read once, checked against its manifest, served from memory."""

from __future__ import annotations

import gzip
import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STATIC = Path(__file__).parent / "static"
LOADER, FRAME_SCRIPT, EXTRAS_SCRIPT = "embed.js", "frame.js", "extras.js"


class AssetsBroken(RuntimeError):
    """The built widget is missing or differs from its manifest; `make widget` builds it."""


@dataclass(frozen=True)
class Asset:
    """One built file."""

    name: str
    content: bytes = field(repr=False)
    compressed: bytes = field(repr=False)
    digest: str
    """SHA-256 of the content, in hexadecimal; the path's `{hash}` is its first 16 characters."""

    @property
    def path(self) -> str:
        """Where the file may be cached for ever."""
        return f"/embed/assets/{self.digest[:16]}/{self.name}"

    @property
    def integrity(self) -> str:
        """For the `integrity` attribute of a script tag."""
        return f"sha256-{b64encode(bytes.fromhex(self.digest)).decode()}"

    @property
    def etag(self) -> str:
        return f'"{self.digest[:32]}"'


class Assets:
    """The files of one build."""

    def __init__(self, files: Mapping[str, bytes], *, releases: Iterable[bytes] = ()) -> None:
        loaders = (_asset(LOADER, content) for content in releases)
        self._releases = {loader.digest[:16]: loader for loader in loaders}
        self._files = {name: _asset(name, content) for name, content in files.items()}
        if missing := {LOADER, FRAME_SCRIPT, EXTRAS_SCRIPT} - self._files.keys():
            raise AssetsBroken(f"The built widget lacks {', '.join(sorted(missing))}.")

    @property
    def loader(self) -> Asset:
        return self._files[LOADER]

    @property
    def frame_script(self) -> Asset:
        return self._files[FRAME_SCRIPT]

    @property
    def extras_script(self) -> Asset:
        """What the frame's script loads when something rare appears: widgets, forms, files, dictation."""
        return self._files[EXTRAS_SCRIPT]

    @property
    def digests(self) -> dict[str, str]:
        """What the frame fetches by name when it needs it, such as words of a language: the `{hash}` of each path."""
        return {
            name: asset.digest[:16]
            for name, asset in self._files.items()
            if name not in (LOADER, FRAME_SCRIPT, EXTRAS_SCRIPT)
        }

    def find_loader(self, digest: str) -> Asset | None:
        """The loader of this very hash: this build's, or an earlier release's, so that pages which name one go on working."""
        return self.loader if self.loader.digest[:16] == digest else self._releases.get(digest)

    def find(self, digest: str, name: str) -> Asset | None:
        """The file under this very hash, or None: an old page asks for an old file, which must not be answered anew."""
        asset = self._files.get(name)
        return asset if asset is not None and asset.digest[:16] == digest else None


def load_assets(folder: Path = STATIC) -> Assets:
    """The build in `folder`; raises `AssetsBroken` where a file is not the one that its manifest names."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
        expected = {str(name): str(facts["sha256"]) for name, facts in manifest.items()}
        files = {name: (folder / name).read_bytes() for name in expected}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssetsBroken(f"The built widget cannot be read: {error!r}") from error
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != expected[name]:
            raise AssetsBroken(f"{name} is not the file that the manifest names.")
    return Assets(files, releases=[path.read_bytes() for path in sorted((folder / "releases").glob("*.js"))])


def _asset(name: str, content: bytes) -> Asset:
    return Asset(name, content, gzip.compress(content, 9, mtime=0), hashlib.sha256(content).hexdigest())
