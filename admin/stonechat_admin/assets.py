"""The console's scripts and style: read once, under one address that changes with any of them, kept by browsers for ever."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response

from stonechat.errors import NotFound

STATIC = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
_FOR_EVER = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class _Tree:
    digest: str
    files: dict[str, tuple[bytes, bytes]]
    """By name: as it is, and compressed."""


@cache
def _tree() -> _Tree:
    contents = {
        str(path.relative_to(STATIC).as_posix()): path.read_bytes()
        for path in sorted(STATIC.rglob("*"))
        if path.suffix in _TYPES
    }
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name}\x00{len(content)}\x00".encode() + content)
    return _Tree(
        digest.hexdigest()[:16], {name: (body, gzip.compress(body, mtime=0)) for name, body in contents.items()}
    )


def asset_url(name: str) -> str:
    """Where the file of `static/` is served. Raises `KeyError` for one that does not exist."""
    tree = _tree()
    tree.files[name]
    return f"/console/assets/{tree.digest}/{name}"


@router.get("/console/assets/{digest}/{name:path}")
async def get_asset(digest: str, name: str, request: Request) -> Response:
    tree = _tree()
    found = tree.files.get(name)
    if digest != tree.digest or found is None:
        raise NotFound("This file belongs to another version. Reload the page.")
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
    body, compressed = found
    if "gzip" in request.headers.get("accept-encoding", ""):
        body, headers["Content-Encoding"] = compressed, "gzip"
    return Response(body, headers=headers, media_type=_TYPES[Path(name).suffix])
