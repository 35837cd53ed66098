"""The child process that reads one document: bytes in, one JSON object out.

It is forked by `forkserver.py`; where a system cannot fork, it is a process of its own:

    python -m stonechat.knowledge.extractors.worker read|text:CHARACTERS|probe|links|sitemap MEDIA_TYPE

It limits itself before it looks at the bytes. Whatever goes wrong inside is the document's fault and is answered as
such; if even that fails, the parent sees an empty answer.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import IO, Any

from stonechat.errors import DocumentTooDemanding, DocumentUnreadable
from stonechat.knowledge.chunk import MINIMUM, cut
from stonechat.knowledge.extractors.registry import extractor_for
from stonechat.knowledge.language import detect_language
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.web.page import page_facts
from stonechat.knowledge.web.sitemap import sitemap_entries

MEMORY_BYTES = 1024 * 1024 * 1024
CPU_SECONDS = 60
MAX_INPUT = 64 * 1024 * 1024


def limit_myself(*, memory: int = MEMORY_BYTES, cpu: int = CPU_SECONDS) -> None:
    """Bound this process. Where the system has no such limits (Windows), the parent's clock is the only one."""
    try:
        import resource
    except ImportError:
        return
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(kind)
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (bound, bound))


def answer(task: str, media_type: MediaType, data: bytes) -> dict[str, Any]:
    """What the parent is told."""
    try:
        return _done(task, media_type, data)
    except DocumentUnreadable as error:
        return {"error": error.code, "detail": error.detail}
    except MemoryError:
        return {"error": DocumentTooDemanding.code, "detail": "Reading this document needs more memory than we allow."}
    except Exception:
        return {"error": DocumentUnreadable.code, "detail": "This document is damaged and cannot be read."}


def _done(task: str, media_type: MediaType, data: bytes) -> dict[str, Any]:
    name, _, most = task.partition(":")
    match name:
        case "text":  # the beginning of it, for one conversation
            whole = extractor_for(media_type)(data).text
            return {"text": whole[: int(most)], "characters": len(whole)}
        case "probe":
            from stonechat.knowledge.extractors.pdf import open_pdf

            open_pdf(data)
            return {}
        case "links":
            return page_facts(data)
        case "sitemap":
            return sitemap_entries(data)
        case _:
            document = extractor_for(media_type)(data)
            pieces = cut(document, minimum=0 if media_type is MediaType.FAQ else MINIMUM)
            return {
                "title": document.title,
                "language": detect_language(document.text),
                "characters": len(document.text),
                "pieces": [asdict(piece) for piece in pieces],
            }


def serve(task: str, media_type: MediaType, source: IO[bytes]) -> bytes:
    """Read, limit, answer."""
    data = source.read(MAX_INPUT)
    limit_myself()
    return json.dumps(answer(task, media_type, data)).encode()


def main() -> None:
    """One document, from standard input to standard output."""
    sys.stdout.buffer.write(serve(sys.argv[1], MediaType(sys.argv[2]), sys.stdin.buffer))


if __name__ == "__main__":
    main()
