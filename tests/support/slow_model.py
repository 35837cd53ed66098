"""A Chat Completions host on loopback that answers word by word, slowly, and notices when nobody listens any more."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = [f"word{number}" for number in range(400)]


@dataclass
class SlowModel:
    """Where it listens, and what became of each answer."""

    url: str = ""
    pace: float = 0.02
    """Seconds between words."""
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when a client went away in the middle of an answer."""
    words_sent: int = 0


@contextmanager
def slow_model(pace: float = 0.02, words: Sequence[str] = WORDS, *, between: str = " ") -> Iterator[SlowModel]:
    model = SlowModel(pace=pace)
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for number, word in enumerate(words):
                    delta = {"content": word + between} | ({"role": "assistant"} if number == 0 else {})
                    self._send({"index": 0, "delta": delta, "finish_reason": None})
                    model.words_sent = number + 1
                    if stopping.wait(model.pace):
                        return
                self._send({"index": 0, "delta": {}, "finish_reason": "stop"})
                self.wfile.write(b"data: [DONE]\n\n")
            except OSError:
                model.hung_up.set()

        def _send(self, choice: dict[str, object]) -> None:
            chunk = {
                "id": "chatcmpl-1",
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": "slow",
                "choices": [choice],
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield model
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
