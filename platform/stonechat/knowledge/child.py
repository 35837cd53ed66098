"""The processes that read documents: forked by a server that is kept, or, where a system cannot fork, one by one."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import stonechat
from stonechat.errors import Unavailable

_CAN_FORK = sys.platform != "win32" and hasattr(socket, "send_fds")
_STOP_SECONDS = 2


async def read_in_child(task: str, media_type: str, data: bytes | Path) -> bytes:
    """What a child that is given `data` says; empty if it died of it. Cancelling kills it. Raises `Unavailable`.

    A file is read by the child alone, and takes no memory here.
    """
    if not _CAN_FORK:
        return await _alone(task, media_type, data)
    for _ in range(2):
        told = await _forked(f"{task} {media_type}", data)
        if told is not None:
            return told
    raise Unavailable("Documents cannot be read right now.")


async def _forked(request: str, data: bytes | Path) -> bytes | None:
    """None if there was no child, because the server of children had died.

    Cancelled at whatever point, it leaves neither a descriptor nor a child behind.
    """
    source, target = await _ask_for_child(request, data if isinstance(data, Path) else None)
    reader, pid = asyncio.StreamReader(), None
    answer: asyncio.Transport | None = None
    sending: asyncio.Future[None] | None = None
    try:
        answer, _ = await asyncio.get_running_loop().create_unix_connection(  # which owns the socket from here on
            lambda: asyncio.StreamReaderProtocol(reader), sock=target
        )
        if source is not None and isinstance(data, bytes):
            sending = asyncio.ensure_future(asyncio.to_thread(_send, source, data))
        pid = int.from_bytes(await reader.readexactly(8), "little")
        told = await reader.read()
        pid = None  # what it writes to is closed, so it has ended
    except asyncio.IncompleteReadError:
        return None
    except asyncio.CancelledError:
        if pid is None and answer is not None:
            reader.feed_eof()
            pid = int.from_bytes(await reader.read(8), "little") or _pid_in(target)
        raise
    else:
        return told
    finally:
        _kill(pid)
        if answer is not None:
            answer.close()
        else:
            target.close()
        if sending is not None:
            await asyncio.shield(sending)  # ends with the child at the latest, and closes what it writes to
        elif source is not None:
            os.close(source)


async def _ask_for_child(request: str, file: Path | None) -> tuple[int | None, socket.socket]:
    """As `_ForkServer.fork`, which cannot be stopped half-way: who no longer waits lets the child go once it is there."""
    forking = asyncio.ensure_future(asyncio.to_thread(_server.fork, request, file))
    try:
        return await asyncio.shield(forking)
    except asyncio.CancelledError:
        forking.add_done_callback(_let_go)
        raise


def _let_go(forking: asyncio.Future[tuple[int | None, socket.socket]]) -> None:
    if forking.cancelled() or forking.exception() is not None:
        return
    source, target = forking.result()
    _kill(_pid_in(target))  # else it finds nobody who listens as soon as it says who it is
    target.close()
    if source is not None:
        os.close(source)


def _pid_in(target: socket.socket) -> int | None:
    """What the child said of itself and nobody read yet."""
    with contextlib.suppress(OSError):
        return int.from_bytes(os.read(target.fileno(), 8), "little") or None
    return None


def _kill(pid: int | None) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _send(target: int, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError), os.fdopen(target, "wb", buffering=0) as pipe:
        rest = memoryview(data)
        while rest:
            rest = rest[pipe.write(rest) or 0 :]


class _ForkServer:
    """Started when first needed, again when it died, and ended with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def fork(self, request: str, file: Path | None) -> tuple[int | None, socket.socket]:
        """Have a child forked; the descriptor to write its document to, unless it is a file, and the socket of its answer.

        No pipe: of one, uvloop closes the descriptor twice, and by the second time it may be another thread's.
        """
        with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
            document, source = (os.open(file, os.O_RDONLY), None) if file is not None else os.pipe()
            theirs.callback(os.close, document)
            if source is not None:
                ours.callback(os.close, source)
            target, answer = socket.socketpair()
            target.setblocking(False)
            ours.callback(target.close)
            theirs.callback(answer.close)
            with self._lock:
                self._ask(request, [document, answer.fileno()])
            ours.pop_all()
        return source, target

    def _ask(self, request: str, descriptors: list[int]) -> None:
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.send_fds(self._channel, [request.encode()], descriptors)
                return
        self.close()
        socket.send_fds(self._start(), [request.encode()], descriptors)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  nothing in it comes from outside
                [sys.executable, "-m", "stonechat.knowledge.extractors.forkserver", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                cwd="/",
            )
        self._channel = ours
        return ours

    def warm_up(self) -> None:
        """Start it, if it does not run, so that the first document need not wait for it."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._start()

    def close(self) -> None:
        """End the server, if it runs."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is not None:
            with contextlib.suppress(OSError):
                process.communicate(timeout=_STOP_SECONDS)  # closes its standard input, and so ends it
            if process.poll() is None:
                process.kill()
                process.wait()


def _environment() -> dict[str, str]:
    root = Path(stonechat.__file__).parent.parent
    return {"PYTHONPATH": str(root), "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"}


def warm_up() -> None:
    """Let the libraries be loaded now. Returns at once."""
    if _CAN_FORK:
        _server.warm_up()


_server = _ForkServer()
atexit.register(_server.close)


async def _alone(task: str, media_type: str, data: bytes | Path) -> bytes:
    opened = data.open("rb") if isinstance(data, Path) else None
    with opened if opened is not None else contextlib.nullcontext():
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "stonechat.knowledge.extractors.worker",
            task,
            media_type,
            stdin=asyncio.subprocess.PIPE if opened is None else opened,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
        )
        try:
            told, _ = await child.communicate(data if isinstance(data, bytes) else None)
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
    return told
