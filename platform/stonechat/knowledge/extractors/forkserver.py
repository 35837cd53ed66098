"""A process that has loaded every library and forks a child for each document, which costs 10 ms instead of 150.

    python -m stonechat.knowledge.extractors.forkserver SOCKET

Each message on the datagram socket `SOCKET` (a descriptor) is `task media_type`, with two descriptors: what the child
reads the document from, and what it writes its process id (8 bytes) and its answer to. The process ends when standard
input does, which is when its parent has died. It was started with an environment without secrets, and never looks at a
document itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys

from stonechat.knowledge.extractors import registry, worker
from stonechat.knowledge.media import MediaType

_REQUEST_BYTES = 256


def main() -> None:
    """Serve until standard input ends."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children; the parent reads what they say
    registry.load_all()
    gc.collect()
    gc.freeze()
    while True:
        ready, _, _ = select.select([0, channel.fileno()], [], [])
        if 0 in ready:
            return
        request, descriptors, _, _ = socket.recv_fds(channel, _REQUEST_BYTES, 2)
        if len(descriptors) == 2:
            if os.fork() == 0:
                _answer(request.decode(), *descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def _answer(request: str, source: int, target: int) -> None:
    """In the child: answer one request, and end."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        task, media_type = request.split(" ")
        with contextlib.suppress(BrokenPipeError), os.fdopen(target, "wb") as out, os.fdopen(source, "rb") as document:
            out.write(os.getpid().to_bytes(8, "little"))
            out.flush()
            out.write(worker.serve(task, MediaType(media_type), document))
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
