"""Replies as real hosts and networks deliver them: the same bytes cut and decorated in other ways, and trouble."""

from __future__ import annotations

import json

from support.loopback import plain
from support.sse_replies import CUT, HANG, SILENCE, UNTIL_CLOSED_HEAD


def sliced(reply: list[bytes], size: int) -> list[bytes]:
    """In pieces of `size` bytes: within lines, and within characters."""
    stream = b"".join(reply[1:])
    return [reply[0], *(stream[start : start + size] for start in range(0, len(stream), size))]


def with_crlf(reply: list[bytes]) -> list[bytes]:
    """With Windows' line ends."""
    return [reply[0], *(piece.replace(b"\n", b"\r\n") for piece in reply[1:])]


def with_comments(reply: list[bytes]) -> list[bytes]:
    """With keep-alive comments, empty events and fields that nobody knows."""
    noise = b": keep-alive\n\n:\n\nretry: 3000\nid: 7\nfoo: bar\n\n"
    return [reply[0], *(piece for each in reply[1:] for piece in (noise, each))]


def in_utf8(reply: list[bytes]) -> list[bytes]:
    """With non-ASCII characters written out, as hosts in other languages do."""

    def written_out(piece: bytes) -> bytes:
        return b"\n".join(
            b"data: " + json.dumps(json.loads(line[6:]), ensure_ascii=False).encode()
            if line.startswith(b"data: {")
            else line
            for line in piece.split(b"\n")
        )

    return [reply[0], *map(written_out, reply[1:])]


def until_closed(reply: list[bytes]) -> list[bytes]:
    """Without lengths: the stream ends when the connection does, cut off or not."""
    return [UNTIL_CLOSED_HEAD, *reply[1:]]


# Trouble


def refusal(
    status: int,
    code: str = "some_code",
    headers: dict[str, str] | None = None,
    *,
    message: str = "no, sk-secret",
    param: str | None = None,
) -> list[bytes]:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": code, "param": param}}).encode()
    return [plain(body, status=status, headers={"Content-Type": "application/json", **(headers or {})})]


def cut(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then the end of the connection."""
    return [*reply[:after], CUT]


def hanging(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then silence."""
    return [*reply[:after], HANG]


def ended(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then a proper end of the body."""
    return reply[:after]


def torn(reply: list[bytes], character: str) -> list[bytes]:
    """A reply cut off within a character of it."""
    stream = b"".join(reply[1:])
    return [reply[0], stream[: stream.index(character.encode()) + 2], CUT]


def silent(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then not a byte more."""
    return [*reply[:after], SILENCE]


def web_page(status: int = 200) -> list[bytes]:
    """What a wrong address, or a proxy in trouble, answers."""
    page = b"<!DOCTYPE html><html><body><h1>Bad Gateway</h1></body></html>"
    return [plain(page, status=status, headers={"Content-Type": "text/html; charset=utf-8"})]


def garbled(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then something that is no JSON."""
    return [*reply[:after], b"data: {not json\n\n"]
