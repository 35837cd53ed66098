"""Logging: one line an event, readable in development, JSON in production. Log lines carry ids, never content."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Each record as one JSON object; what was passed as `extra=` becomes members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(*, as_json: bool, level: int = logging.INFO) -> None:
    """Send the process's log to standard error, replacing earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        formatter: logging.Formatter = JsonFormatter()
        formatter.converter = time.gmtime
    else:
        formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell, at INFO, of every request and every poll.
    for name in ("httpx", "httpcore", "httpx2", "uvicorn.access", "pgqueuer", "openai", "qdrant_client", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Each refused request would be a line, with the visitor's address in it.
    logging.getLogger("slowapi").setLevel(logging.ERROR)
