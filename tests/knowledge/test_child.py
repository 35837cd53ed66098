"""The processes that read documents: they know nothing, end with whoever asked, and cost nobody else anything."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stonechat.errors import DocumentTooDemanding
from stonechat.knowledge import child
from stonechat.knowledge.extraction import read_document
from stonechat.knowledge.media import MediaType


async def test_a_child_that_dies_is_the_documents_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async def died(*_: object) -> bytes:
        return b""

    monkeypatch.setattr(child, "read_in_child", died)
    with pytest.raises(DocumentTooDemanding):
        await read_document(b"x", MediaType.TEXT)


async def test_a_file_is_read_by_the_child_alone_and_told_as_far_as_asked(tmp_path: Path) -> None:
    file = tmp_path / "note.txt"
    file.write_text("Hello, world")
    told = json.loads(await child.read_in_child("text:5", "text/plain", file))
    assert told == {"text": "Hello", "characters": 12}
    file.write_bytes(b"%PDF-1.7 and nothing else")
    assert json.loads(await child.read_in_child("text:5", "application/pdf", file))["error"] == "document_unreadable"


async def test_the_server_of_children_knows_no_secrets_and_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STONECHAT_SECRET_KEYS", "a secret of the platform's, which no parser needs")
    child._server.close()
    assert (await read_document(b"text", MediaType.TEXT)).pieces
    process = child._server._process
    assert process is not None
    if (environment := Path(f"/proc/{process.pid}/environ")).exists():
        names = {entry.partition(b"=")[0] for entry in environment.read_bytes().split(b"\0") if entry}
        assert names == {b"PYTHONPATH", b"PATH", b"PYTHONDONTWRITEBYTECODE"}
    process.kill()
    process.wait()
    assert (await read_document(b"text again", MediaType.TEXT)).pieces


def open_descriptors() -> int:
    """Of this process, where the system tells."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


def children() -> list[str]:
    """Of the server of children, where the system tells."""
    process = child._server._process
    assert process is not None
    told = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return told.read_text().split() if told.exists() else []


@pytest.mark.parametrize("as_file", [False, True], ids=["bytes", "file"])
async def test_who_gives_up_at_whatever_moment_leaves_no_descriptor_and_no_child(
    as_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"# x\n\n" * 100_000
    file = tmp_path / "a.md"
    file.write_bytes(text)
    await child.read_in_child("text:5", "text/plain", file)  # the server is there
    for _ in range(3):
        await asyncio.sleep(0)  # the answer's socket goes with the loop's next turn
    before, fork = open_descriptors(), child._server.fork
    for turns in (*range(12), 40, 200):
        with monkeypatch.context() as patch:
            forked, go_on = threading.Event(), threading.Event()

            def slow(*arguments: Any, forked: Any = forked, go_on: Any = go_on) -> Any:
                made = fork(*arguments)
                forked.set()
                assert go_on.wait(20)
                return made

            if turns == 0:  # while the child is being asked for
                patch.setattr(child._server, "fork", slow)
            reading = asyncio.create_task(child.read_in_child("read", "text/markdown", file if as_file else text))
            if turns == 0:
                await asyncio.to_thread(forked.wait, 20)
            for _ in range(turns):
                await asyncio.sleep(0.0005)
            reading.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with suppress(asyncio.CancelledError):
                await reading
    async with asyncio.timeout(20):
        while open_descriptors() > before or children():
            await asyncio.sleep(0.01)
    assert open_descriptors() == before


async def test_a_reading_closes_no_descriptor_but_its_own() -> None:
    """Under the loop that serves, which closes a pipe's descriptor twice: the second time it may be another thread's."""
    lost: list[OSError] = []
    over = threading.Event()

    def open_and_close() -> None:
        while not over.is_set():
            try:
                for descriptor in os.pipe():
                    os.close(descriptor)
            except OSError as error:
                lost.append(error)

    async def read_many() -> None:
        async def some() -> list[bytes]:
            return [await child.read_in_child("text:5", "text/plain", b"hello") for _ in range(30)]

        for told in await asyncio.gather(some(), some(), some()):
            assert all(json.loads(each)["text"] == "hello" for each in told)

    others = [threading.Thread(target=open_and_close) for _ in range(2)]
    for other in others:
        other.start()
    try:
        await asyncio.to_thread(uvloop.run, read_many())
    finally:
        over.set()
        for other in others:
            other.join()
    assert lost == []


async def test_who_gives_up_kills_the_child() -> None:
    reading = asyncio.create_task(read_document(b"# x\n\n" * 100_000, MediaType.MARKDOWN))
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (await read_document(b"text", MediaType.TEXT)).pieces


async def test_where_processes_cannot_fork_each_document_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_CAN_FORK", False)
    assert (await read_document(b"text", MediaType.TEXT)).pieces[0].text == "text"
