"""The bytes of attachments: bombs and liars are refused in bounded memory, and what is kept is served safely."""

from __future__ import annotations

import asyncio
import io
import tracemalloc
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import httpx
import pytest
from PIL import Image

from stonechat import clock
from stonechat.chat import children, uploading
from stonechat.chat.links import FileKey
from stonechat.chat.uploading import UploadBounds
from support import uploads
from support.children import watched_children
from support.documents import encrypted_pdf, pdf
from support.uploads import MEGABYTE, PLATFORM, UploadSite, Visitor

PARENT_BYTES = 12 * MEGABYTE
"""What our own process may take for one upload, however large what is sent or unpacked."""
CHILD_BYTES = 1100 * MEGABYTE


async def unharmed(site: UploadSite, visitor: Visitor) -> None:
    """Nothing was kept, nothing is held, and the next file is taken."""
    assert site.stored(visitor) == []
    assert not site.uploads._under_way
    answer = await visitor.put(await visitor.announce("next.txt", 5), b"hello")
    assert answer.status_code == 200, answer.text


BOMBS: dict[str, tuple[str, Callable[[], bytes], tuple[int, str]]] = {
    "word document that unpacks to 400 MB": ("a.docx", uploads.zip_bomb, (422, "document_*")),
    "archive": ("a.zip", lambda: uploads.archive(a=b"text"), (415, "unsupported_media_type")),
    "PDF that unpacks to 512 MB": ("a.pdf", uploads.pdf_bomb, (422, "document_*")),
    "PDF under a password": ("a.pdf", lambda: encrypted_pdf(password="x"), (422, "document_encrypted")),
    "picture that claims billions of pixels": ("a.png", uploads.pixel_bomb, (422, "image_too_large")),
    "picture of sixty million pixels": ("a.png", uploads.honest_pixel_bomb, (422, "image_too_large")),
    "picture that is cut off": ("a.png", lambda: uploads.picture((400, 400))[:100], (422, "image_unreadable")),
    "picture in name only": ("a.png", lambda: b"\x00\x01\x02" * 999, (415, "unsupported_media_type")),
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_bombs_fail_alone(site: UploadSite, anna: Visitor, bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[bool] = []
    slots = children._slots
    monkeypatch.setattr(children, "_slots", lambda: looked.append(True) or slots())
    name, make, (status, code) = BOMBS[bomb]
    data = make()
    attachment = await anna.announce(
        name, len(data), "image/png" if name.endswith("png") else "application/octet-stream"
    )
    with watched_children() as seen:
        tracemalloc.start()
        try:
            answer = await anna.put(attachment, _slices(data))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"].startswith(code.rstrip("*"))
    assert answer.json()["detail"]
    assert peak < PARENT_BYTES
    assert seen.largest < CHILD_BYTES
    assert looked or status == 415, "nobody looked at it"
    await unharmed(site, anna)


async def test_a_picture_with_too_much_metadata_is_drawn_without_it(site: UploadSite, anna: Visitor) -> None:
    data = uploads.metadata_bomb()
    answer = await anna.put(await anna.announce("a.png", len(data), "image/png"), data)
    if answer.status_code == 200:  # the decoder skipped what it need not read
        (kept,) = site.stored(anna)
        assert kept.stat().st_size < 10_000
    else:
        assert answer.json()["code"] == "image_unreadable"


async def test_a_body_without_end_is_cut_off(site: UploadSite, anna: Visitor) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65_536
            yield b"x" * 65_536

    attachment = await anna.announce("a.txt", 1_000_000)
    tracemalloc.start()
    try:
        answer = await anna.put(attachment, endless())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert answer.headers["connection"] == "close"
    assert sent < 200 * MEGABYTE
    assert peak < PARENT_BYTES
    await unharmed(site, anna)


@pytest.mark.parametrize(
    ("sent", "headers", "code"),
    [
        (b"x" * 99, {}, "upload_incomplete"),
        (b"", {}, "upload_incomplete"),
        (b"x" * 101, {}, "payload_too_large"),
        (b"x" * 100, {"Content-Length": "101"}, "payload_too_large"),
        (b"x" * 100, {"Content-Length": "7"}, "upload_incomplete"),
        (b"x" * 100, {"Content-Encoding": "gzip"}, "unsupported_media_type"),
        (b"x" * 100, {"Content-Length": "9" * 40}, "payload_too_large"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_the_announced_length_is_held_to(
    site: UploadSite, anna: Visitor, sent: bytes, headers: dict[str, str], code: str, streamed: bool
) -> None:
    attachment = await anna.announce("a.txt", 100)
    answer = await anna.put(attachment, _slices(sent) if streamed else sent, **headers)
    assert (answer.json()["code"], answer.headers["content-type"]) == (code, "application/problem+json")
    assert site.stored(anna) == []
    assert (await anna.put(attachment, b"y" * 100)).status_code == 200, "the link is good for another try"


async def test_a_slow_body_is_given_up(site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dripping() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    async def silent() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(30)

    monkeypatch.setattr("stonechat.api.uploads.DISCARD_SECONDS", 0.05)
    for body, bounds in (
        (dripping, UploadBounds(body_seconds=0.1)),
        (silent, UploadBounds(idle_seconds=0.1)),
    ):
        monkeypatch.setattr(site.uploads, "_bounds", bounds)
        answer = await anna.put(await anna.announce("a.txt", 1000), body())
        assert (answer.status_code, answer.json()["code"]) == (408, "upload_too_slow")
    monkeypatch.undo()
    await unharmed(site, anna)


async def test_a_large_upload_takes_little_memory(site: UploadSite, anna: Visitor) -> None:
    line = b"All of this is text, and there is a lot of it.\n"
    data = line * (19 * MEGABYTE // len(line))
    attachment = await anna.announce("long.txt", len(data))
    tracemalloc.start()
    try:
        answer = await anna.put(attachment, _slices(data))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Five million characters of text are more than is read; what matters is that it did not go through our memory.
    assert answer.status_code in (200, 422), answer.text
    assert peak < PARENT_BYTES


async def test_pictures_are_drawn_anew(site: UploadSite, anna: Visitor) -> None:
    attachment = await anna.attach("me.jpg", uploads.photograph_with_place(), "image/jpeg")
    answer = await anna.client.get(attachment["preview_url"])
    assert answer.status_code == 200
    assert b"Secret" not in answer.content
    with Image.open(io.BytesIO(answer.content)) as kept:
        assert kept.size == (30, 60), "turned the way it is to be seen"
        assert not kept.getexif()
        assert "icc_profile" not in kept.info
        assert "comment" not in kept.info
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == "inline"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_large_and_transparent_pictures(site: UploadSite, anna: Visitor) -> None:
    large = await anna.attach("large.webp", uploads.picture((5000, 1000), kind="WEBP"), "image/webp")
    with Image.open(io.BytesIO((await anna.client.get(large["preview_url"])).content)) as kept:
        assert kept.size == (2048, 410)
    buffer = io.BytesIO()
    Image.new("RGBA", (9, 9), (0, 0, 0, 0)).save(buffer, "PNG")
    clear = await anna.attach("clear.png", buffer.getvalue(), "image/png")
    with Image.open(io.BytesIO((await anna.client.get(clear["preview_url"])).content)) as kept:
        assert (kept.format, kept.mode) == ("PNG", "RGBA")


async def test_content_decides_and_not_the_name(site: UploadSite, anna: Visitor) -> None:
    data = uploads.picture()
    answer = await anna.put(await anna.announce("notes.txt", len(data), "text/plain"), data)
    assert answer.json() | {"preview_url": ""} == {
        "id": answer.json()["id"], "type": "image", "name": "notes.txt", "mime_type": "image/png", "preview_url": "",
    }  # fmt: skip
    page = b"<html><body><script>alert(1)</script><p>Hello there, dear reader.</p></body></html>"
    answer = await anna.put(await anna.announce("me.png", len(page), "image/png"), page)
    assert (answer.json()["type"], answer.json()["mime_type"]) == ("file", "text/html")


async def test_documents_are_only_ever_saved(site: UploadSite, anna: Visitor) -> None:
    page = b"<html><body><script>alert(1)</script><p>Hello there, dear reader.</p></body></html>"
    attachment = await anna.attach("pa\u202ege\r\n/ü.html", page, "text/html")
    key = FileKey(anna.caller.tenant_id, anna.caller.user_id, attachment["id"])
    answer = await anna.client.get(site.attachments.links.to_view(key))
    assert answer.content == page
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''%C3%BC.html"
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_a_link_opens_one_door_for_a_while(
    site: UploadSite, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = uploads.picture()
    attachment = await anna.announce("a.png", len(data), "image/png")
    other = await anna.announce("b.png", len(data), "image/png")
    put, view = httpx.URL(attachment["upload_descriptor"]["url"]), httpx.URL(attachment["preview_url"])
    elsewhere = httpx.URL(other["upload_descriptor"]["url"]).copy_with(query=put.query)
    forged = put.copy_with(params={"token": put.params["token"][:-3] + "AAA"})
    for url in (elsewhere, forged, put.copy_with(query=None), put.copy_with(query=view.query)):
        answer = await anna.client.put(url, content=data)
        assert (answer.status_code, answer.json()["code"]) == (403, "invalid_link")
    assert (await anna.client.get(view)).status_code == 404, "nothing is there yet"
    assert (await anna.client.get(view.copy_with(query=put.query))).status_code == 403
    assert (await anna.put(attachment, data)).status_code == 200
    assert (await anna.client.get(view)).status_code == 200
    later = clock.now() + timedelta(minutes=11)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await anna.put(other, data)).json()["code"] == "invalid_link"
    assert (await anna.client.get(view)).status_code == 200
    much_later = later + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: much_later)
    assert (await anna.client.get(view)).json()["code"] == "invalid_link"


@pytest.mark.parametrize("origin", [PLATFORM, "https://unknown.example"])
async def test_pages_that_may_upload_are_told_so(site: UploadSite, origin: str) -> None:
    asking = {
        "Origin": origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = await site.client.options("/v1/uploads/atc_1", headers=asking)
    if origin == PLATFORM:
        assert answer.status_code == 204
        assert answer.headers["access-control-allow-origin"] == PLATFORM
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "content-type" in answer.headers["access-control-allow-headers"].lower()
    else:
        assert answer.status_code == 403


async def test_twenty_megabytes_are_the_most_anyone_can_send(site: UploadSite, anna: Visitor) -> None:
    refused = await anna.ask("attachments.create", name="a", size=20 * MEGABYTE + 1, mime_type="text/plain")
    assert (refused.status_code, refused.json()["code"]) == (413, "payload_too_large")
    attachment = await anna.announce("a", 10)
    answer = await anna.put(attachment, b"x", **{"Content-Length": str(uploading.MAX_UPLOAD_BYTES + 1)})
    assert answer.status_code == 413


async def test_a_pdf_is_read(site: UploadSite, anna: Visitor) -> None:
    data = pdf()
    answer = await anna.put(await anna.announce("manual.pdf", len(data), "application/pdf"), data)
    assert (answer.status_code, answer.json()["mime_type"]) == (200, "application/pdf")


async def _slices(data: bytes) -> AsyncIterator[bytes]:
    view = memoryview(data)
    for start in range(0, len(data), 65_536):
        yield bytes(view[start : start + 65_536])
