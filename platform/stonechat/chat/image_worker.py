"""The child process that makes a picture anew: bytes on standard input, one line of JSON and then bytes on standard output.

    python -m stonechat.chat.image_worker MAX_PIXELS MAX_SIDE MAX_BYTES

What comes out was drawn by us: no metadata (place, camera, thumbnails, profiles), turned the way it is to be seen, one
frame, no larger than asked. What it is, its content says; how many pixels, its header, before any is decoded.
"""

from __future__ import annotations

import json
import sys
from io import BytesIO
from typing import Any

from PIL import Image, ImageOps

from stonechat.errors import ImageTooLarge, ImageUnreadable
from stonechat.knowledge.extractors.worker import limit_myself

MEMORY_BYTES = 1024 * 1024 * 1024
CPU_SECONDS = 20
MAX_INPUT = 64 * 1024 * 1024
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
_QUALITIES = (88, 75, 60, 40)


def redraw(data: bytes, *, max_pixels: int, max_side: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """What the parent is told, and the new picture; without one when there is an error."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > max_pixels:
                millions = max_pixels // 1_000_000
                return _refusal(
                    ImageTooLarge, f"A picture may have at most {millions} million pixels. Make it smaller."
                ), b""
            if opened.format == "JPEG":
                opened.draft("RGB", (max_side, max_side))  # decodes at a fraction of the size
            flat = opened.format == "JPEG"
            picture = _drawn(opened, max_side)
    except MemoryError:
        return _refusal(ImageTooLarge, "Reading this picture needs more memory than we allow. Make it smaller."), b""
    except Exception:
        # Whatever a decoder says about bytes that a stranger sent: they are no good picture.
        return _refusal(ImageUnreadable, "Choose a JPEG, PNG, WebP or GIF."), b""
    media_type, drawn = _encoded(picture, flat=flat, max_bytes=max_bytes)
    if len(drawn) > max_bytes:
        return _refusal(ImageTooLarge, "This picture stays too large however it is packed. Make it smaller."), b""
    return {"media_type": media_type, "width": picture.width, "height": picture.height}, drawn


def _drawn(opened: Image.Image, max_side: int) -> Image.Image:
    opened.load()
    transparent = "A" in opened.getbands() or "transparency" in opened.info
    picture = ImageOps.exif_transpose(opened).convert("RGBA" if transparent else "RGB")
    picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    picture.info.clear()  # encoders would write profiles and comments from here
    return picture


def _encoded(picture: Image.Image, *, flat: bool, max_bytes: int) -> tuple[str, bytes]:
    """Photographs as JPEG; drawings and screenshots as PNG while that is small."""
    if not flat:
        drawn = _saved(picture, "PNG", optimize=False)
        if len(drawn) <= max_bytes // 4:
            return "image/png", drawn
    if picture.mode == "RGBA":
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        picture = white
    for quality in _QUALITIES:
        drawn = _saved(picture, "JPEG", quality=quality)
        if len(drawn) <= max_bytes:
            break
    return "image/jpeg", drawn


def _saved(picture: Image.Image, name: str, **options: Any) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, name, **options)
    return buffer.getvalue()


def _refusal(error: type[ImageTooLarge | ImageUnreadable], detail: str) -> dict[str, Any]:
    return {"error": error.code, "detail": detail}


def main() -> None:
    """Read, limit, redraw, answer."""
    data = sys.stdin.buffer.read(MAX_INPUT)
    limit_myself(memory=MEMORY_BYTES, cpu=CPU_SECONDS)
    max_pixels, max_side, max_bytes = map(int, sys.argv[1:4])
    Image.MAX_IMAGE_PIXELS = None  # ours is checked before any pixel is decoded
    told, drawn = redraw(data, max_pixels=max_pixels, max_side=max_side, max_bytes=max_bytes)
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + drawn)


if __name__ == "__main__":
    main()
