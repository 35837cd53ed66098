"""The child process that reads a document for one conversation: bytes on standard input, one JSON object on standard output.

python -m stonechat.chat.text_worker MEDIA_TYPE MAX_CHARACTERS
"""

from __future__ import annotations

import json
import sys
from typing import Any

from stonechat.errors import DocumentTooDemanding, DocumentUnreadable
from stonechat.knowledge.extractors.registry import extractor_for
from stonechat.knowledge.extractors.worker import limit_myself
from stonechat.knowledge.media import MediaType

MEMORY_BYTES = 768 * 1024 * 1024
CPU_SECONDS = 20
MAX_INPUT = 64 * 1024 * 1024


def read(media_type: MediaType, data: bytes, *, max_characters: int) -> dict[str, Any]:
    """The beginning of the document's text, and how long all of it is; or why there is none."""
    try:
        document = extractor_for(media_type)(data)
    except DocumentUnreadable as error:
        return {"error": error.code, "detail": error.detail}
    except MemoryError:
        return {"error": DocumentTooDemanding.code, "detail": "Reading this document needs more memory than we allow."}
    except Exception:
        return {"error": DocumentUnreadable.code, "detail": "This document is damaged and cannot be read."}
    return {"text": document.text[:max_characters], "characters": len(document.text)}


def main() -> None:
    """Read, limit, answer."""
    data = sys.stdin.buffer.read(MAX_INPUT)
    limit_myself(memory=MEMORY_BYTES, cpu=CPU_SECONDS)
    told = read(MediaType(sys.argv[1]), data, max_characters=int(sys.argv[2]))
    sys.stdout.buffer.write(json.dumps(told).encode())


if __name__ == "__main__":
    main()
