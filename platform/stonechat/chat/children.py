"""Processes that look at files which strangers sent, so that a poisoned one fails alone.

Documents are read by those of the knowledge room. A picture is drawn anew by one of its own (`image_worker.py`): it gets the
file on standard input and an environment without secrets, limits its own memory, CPU time, files and descriptors before it
looks, and is killed when its time is up or it says too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import stonechat
from stonechat.knowledge.child import read_in_child

CONCURRENT = 2
"""At once, in one process; the knowledge room has slots of its own, so visitors do not hold up tenants."""
_SLOTS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def run_child(module: str, *arguments: str, file: Path, wall_seconds: float, max_output: int) -> bytes:
    """What the module says about the file; nothing if it died, took too long or said more than `max_output` bytes."""
    async with _slots():
        with file.open("rb") as opened:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                module,
                *arguments,
                stdin=opened,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={
                    "PYTHONPATH": str(Path(stonechat.__file__).parent.parent),
                    "PATH": os.defpath,
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                cwd="/" if os.name == "posix" else None,
            )
        try:
            async with asyncio.timeout(wall_seconds):
                return await _output(child, max_output)
        except TimeoutError:
            return b""
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()


async def read_text(file: Path, media_type: str, *, max_characters: int, wall_seconds: float) -> bytes:
    """`{"text", "characters"}`, the beginning of a document's text and the length of all of it, or `{"error", "detail"}`, as
    JSON; nothing if the child died or took too long."""
    async with _slots():
        try:
            async with asyncio.timeout(wall_seconds):
                return await read_in_child(f"text:{max_characters}", media_type, file)
        except TimeoutError:
            return b""


def _slots() -> asyncio.Semaphore:
    return _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(CONCURRENT))


async def _output(child: asyncio.subprocess.Process, max_output: int) -> bytes:
    assert child.stdout is not None  # noqa: S101
    said = bytearray()
    while chunk := await child.stdout.read(64 * 1024):
        said += chunk
        if len(said) > max_output:
            return b""
    return bytes(said) if await child.wait() == 0 else b""
