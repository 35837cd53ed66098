"""A worker with an index of its own that can be asked to search: `index_worker.py URL FOLDER`.

A line of JSON on standard input (`{"number", "tenant", "query"}`) is answered by one on standard output: `{"number",
"found": [[document, text], …]}`. The work is done in a child that says its process id first; when it is killed, the next is
forked, which costs no time for imports. All ends with the standard input. A kill may cut a line short, so a message has its
own beginning of a line: see `line_of`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from stonechat.db.session import Database
from stonechat.files import FolderStore
from stonechat.jobs import JobRunner
from stonechat.jobs.attempts import RetryPolicy
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.layouts import TenantIndex
from stonechat.knowledge.search import search
from stonechat.knowledge.tasks import give_up_hooks, job_handlers


def line_of(message: dict[str, object]) -> str:
    """Begins with the end of what a killed process left of its last line."""
    return f"\n{json.dumps(message)}\n"


async def main(url: str, folder: Path) -> None:
    database = Database(url, pool_size=10)
    knowledge = Knowledge(database, TenantIndex(EdgeIndex(folder / "index"), database), FolderStore(folder / "files"))
    runner = JobRunner(
        url,
        job_handlers(knowledge),
        on_give_up=give_up_hooks(knowledge),
        policy=RetryPolicy(first_delay=timedelta(seconds=0.2), longest_delay=timedelta(seconds=2)),
        heartbeat=timedelta(seconds=1),
        poll=timedelta(seconds=0.2),
    )
    working = asyncio.create_task(runner.run())
    asked = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(asked), sys.stdin)
    print(line_of({"ready": os.getpid()}), end="", flush=True)
    while line := await asked.readline():
        question = json.loads(line)
        found = await search(knowledge, UUID(question["tenant"]), question["query"], limit=100)
        passages = [[passage.document_id, passage.text[:400]] for passage in found]
        print(line_of({"number": question["number"], "found": passages}), end="", flush=True)
    await runner.stop()
    await working
    await knowledge.close()
    await database.close()


if __name__ == "__main__":
    while (pid := os.fork()) and os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) < 0:
        pass  # it was killed
    if not pid:
        asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
