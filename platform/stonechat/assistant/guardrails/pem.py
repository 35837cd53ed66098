"""The rest of a private key: whatever follows its first line, to its last."""

from __future__ import annotations

import re

_BODY = re.compile(r"[A-Za-z0-9+/=\s\\:,\-]*")
_END = re.compile(r"-----END [A-Z0-9 ]{0,40}-----")
_END_BEGUN = re.compile(r"-----END?[A-Z0-9 ]{0,45}-{0,4}\Z")
_MAYBE_END = re.compile(r"-{1,5}(?:E|EN|END)?\Z")


def swallow_pem(text: str, at: int) -> tuple[int, bool]:
    """Where the key ends as far as is known, and whether it may go on after more text."""
    body = _BODY.match(text, at)
    end = body.end() if body else at
    closing = _END.search(text, at, end)
    if closing is not None:
        return closing.end(), False
    if end < len(text):
        return end, False
    begun = text.rfind("-----END", at)
    if begun >= 0 and _END_BEGUN.match(text, begun):
        return begun, True
    maybe = _MAYBE_END.search(text, max(at, len(text) - 8))
    return (maybe.start() if maybe else end), True
