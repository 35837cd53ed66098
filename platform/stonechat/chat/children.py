"""Processes that look at files which strangers sent, so that a poisoned one fails alone.

The child gets the file on standard input and an environment without secrets, limits its own memory, CPU time, files and
descriptors before it looks (`image_worker.py`, `text_worker.py`), and is killed when its time is up or it says too much.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from weakref import WeakKeyDictionary

import stonechat

CONCURRENT = 2
"""At once, in one process; the knowledge room has slots of its own, so visitors do not hold up tenants."""
_SLOTS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


async def run_child(module: str, *arguments: str, file: Path, wall_seconds: float, max_output: int) -> bytes:
    """What the module says about the file; nothing if it died, took too long or said more than `max_output` bytes."""
    slots = _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(CONCURRENT))
    async with slots:
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


async def _output(child: asyncio.subprocess.Process, max_output: int) -> bytes:
    assert child.stdout is not None  # noqa: S101
    said = bytearray()
    while chunk := await child.stdout.read(64 * 1024):
        said += chunk
        if len(said) > max_output:
            return b""
    return bytes(said) if await child.wait() == 0 else b""
