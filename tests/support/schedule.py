"""Which of the processes that `--dist loadfile` starts runs which file: they keep to rooms, whose worlds they have built."""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

LONGEST = (
    "e2e",
    "isolation",
    "admin",
    "billing",
    "knowledge",
    "chat",
    "assistant",
    "unanswered",
    "operator",
    "api",
    "db",
)
"""Rooms to begin with, so that short ones are left to fill the end."""


def room_of(file: str) -> str:
    """`tests/chat/test_runs.py` is of `chat`."""
    return file.split("/")[1] if file.count("/") > 1 else file


class RoomScheduling(LoadFileScheduling):
    """A file at a time. A process goes on with its room, else takes one that nobody is in, else helps another."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self._rooms: dict[WorkerController, str] = {}

    def _assign_work_unit(self, node: WorkerController) -> None:
        self.workqueue.move_to_end(self._next(node), last=False)
        super()._assign_work_unit(node)

    def _next(self, node: WorkerController) -> str:
        waiting: dict[str, list[str]] = {}
        for file in self.workqueue:
            waiting.setdefault(room_of(file), []).append(file)
        room = self._rooms.get(node, "")
        if room not in waiting:
            others = {other for at, other in self._rooms.items() if at is not node}
            room = min(waiting, key=lambda name: (name in others, _rank(name), -len(waiting[name])))
            self._rooms[node] = room
        return waiting[room][0]


def _rank(room: str) -> int:
    return LONGEST.index(room) if room in LONGEST else len(LONGEST)
