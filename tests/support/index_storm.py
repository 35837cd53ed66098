"""Documents made, changed and deleted at random while the worker that reads them is killed; a watcher searches all the time.

Every passage names its document and version (`m7x3x`: document 7, version 3), so that whatever answers can be judged.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

import stonechat
from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.files import FolderStore
from stonechat.knowledge import service
from stonechat.knowledge.consistency import check_consistency
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.layouts import TenantIndex
from support import index_worker
from support.consistency import agreement

_MARK = re.compile(r"m(\d+)x(\d+)x")
_WORDS = [
    "kettle",
    "lamp",
    "ribbon",
    "harbour",
    "saddle",
    "violin",
    "garden",
    "copper",
    "thunder",
    "pebble",
    "orchard",
    "walnut",
]
DRAIN_SECONDS = 300
START_SECONDS = 120


@dataclass
class Outcome:
    """What a storm came to."""

    steps: int = 0
    kills: int = 0
    mid_job: int = 0
    """Kills that found a document being read."""
    given_up: int = 0
    """Documents over which the worker was killed three times, which the queue does not try a fourth time by itself; asked
    for again at the end, as a person would."""
    documents: int = 0
    passages: int = 0
    searches: int = 0
    wrong_answers: list[str] = field(default_factory=list)
    """Passages of deleted documents, or of replaced versions, that answered."""
    disagreements: list[str] = field(default_factory=list)
    """Between index and Postgres when all was done, before anything was mended."""
    mended: int = 0
    """By a check of consistency afterwards."""
    unread: list[str] = field(default_factory=list)
    """Documents that are not ready with their last content."""
    seconds: float = 0.0
    """That it took, with its database."""


class Worker:
    """The process that reads and searches; killed, and started again by its own parent."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url, self._folder = url, folder
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._pid = 0
        self._numbers = count()
        self._answers: dict[int, asyncio.Future[list[tuple[str, str]] | None]] = {}

    async def start(self) -> None:
        """Returns when it is ready."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", index_worker.__file__, self._url, str(self._folder),
            env=os.environ | {"PYTHONPATH": str(Path(stonechat.__file__).parent.parent)}, limit=2**24,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._reading = asyncio.create_task(self._read(self._process.stdout))
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait({ready, self._reading}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
            raise RuntimeError("The worker did not start.")

    async def kill(self) -> None:
        """Returns when the next is ready."""
        self._ready.clear()
        os.kill(self._pid, signal.SIGKILL)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        await asyncio.wait_for(self._ready.wait(), 60)

    async def end(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await asyncio.wait_for(self._process.wait(), 60)
        if self._reading is not None:
            await self._reading

    async def ask(self, tenant_id: UUID, query: str) -> list[tuple[str, str]] | None:
        """What answers; None if the process died over it, or is not there."""
        if not self._ready.is_set() or self._process is None or self._process.stdin is None:
            return None
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        question = {"number": number, "tenant": str(tenant_id), "query": query}
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        try:
            return await asyncio.wait_for(answer, 60)
        finally:
            del self._answers[number]

    async def _read(self, output: asyncio.StreamReader) -> None:
        while line := await output.readline():
            if not line.strip():
                continue
            try:
                told = json.loads(line)
            except json.JSONDecodeError:
                if self._ready.is_set():
                    raise
                continue  # cut short by the kill
            if "ready" in told:
                self._pid = told["ready"]
                self._ready.set()
            elif (answer := self._answers.get(told["number"])) is not None and not answer.done():
                answer.set_result([(document_id, passage) for document_id, passage in told["found"]])


class Storm:
    """One tenant, one random seed."""

    def __init__(self, url: str, folder: Path, *, seed: int) -> None:
        self._random = random.Random(seed)
        self._folder = folder
        self._database = Database(url, pool_size=6)
        self._files = FolderStore(folder / "files")
        self._worker = Worker(url, folder)
        self._tenant_id = ids.new_tenant_id()
        self._actor = system(self._tenant_id)
        self._numbers: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._changing: set[str] = set()
        self._deleted: set[str] = set()
        self._settled: dict[str, int] = {}
        """The version of each document that is ready: no older one may answer."""
        self._done = False
        self.outcome = Outcome()

    async def run(self, *, steps: int, kills: int) -> Outcome:
        """Do it all, and look at what is left."""
        async with self._database.tenant(self._tenant_id) as session:
            await session.execute(
                text("insert into tenants (tenant_id, name) values (:id, 'Storm')"), {"id": self._tenant_id}
            )
        await self._worker.start()
        watching = asyncio.create_task(self._watch())
        deadly = set(self._random.sample(range(steps // 10, steps), kills))
        try:
            for step in range(steps):
                if step in deadly:
                    await self._crash()
                else:
                    await self._step()
                self.outcome.steps += 1
                await asyncio.sleep(self._random.random() * 0.03)
            await self._drain()
            await self._try_again()
        finally:
            self._done = True
            await watching
            await self._worker.end()
        await self._judge()
        await self._database.close()
        return self.outcome

    def _content(self, number: int, version: int, *, sections: int) -> bytes:
        """Some sections of a version are as in every other, but for the mark."""
        mark = f"m{number}x{version}x"
        parts = [f"# Document {number}\n\n{mark} common beginning."]
        for section in range(sections):
            words = " ".join(self._random.choices(_WORDS, k=120))
            parts.append(f"## Section {section}\n\n{mark} common {words}.")
        return "\n\n".join(parts).encode()

    async def _step(self) -> None:
        living = [key for key in self._versions if key not in self._deleted]
        choice = self._random.random()
        if choice < 0.45 or len(living) < 3:
            await self._create()
        elif choice < 0.75:
            await self._change(self._random.choice(living))
        else:
            await self._delete(self._random.choice(living))

    async def _create(self) -> None:
        number = len(self._versions)
        content = self._content(number, 1, sections=self._random.choice([1, 3, 10, 60]))
        async with self._database.tenant(self._tenant_id) as session:
            made = await service.create_document(
                session,
                self._actor,
                files=self._files,
                data=content,
                filename=f"{number}.md",
                title=f"Document {number}",
            )
        self._numbers[made.document_id], self._versions[made.document_id] = number, 1

    async def _change(self, document_id: str) -> None:
        self._changing.add(document_id)
        version = self._versions[document_id] = self._versions[document_id] + 1
        sections = self._random.choice([1, 5, 40])
        content = self._content(self._numbers[document_id], version, sections=sections)
        await self._files.put(self._tenant_id, service.original_of(document_id), data=content)
        async with self._database.tenant(self._tenant_id) as session:
            await service.reprocess_document(session, self._actor, document_id=document_id)
        self._changing.discard(document_id)

    async def _delete(self, document_id: str) -> None:
        async with self._database.tenant(self._tenant_id) as session:
            await service.delete_document(session, self._actor, document_id=document_id)
        self._deleted.add(document_id)

    async def _crash(self) -> None:
        """Give it something to do, and kill it over that: some time later, or, the first time, once it is seen at it."""
        for _ in range(3):
            await self._create()
        patience = self._random.random() * 0.25
        if self.outcome.kills:
            await asyncio.sleep(patience)
        busy = await self._count("status = 'processing'") > 0
        while not (busy or self.outcome.kills):
            if not await self._count("status = 'pending'"):
                await self._create()
            busy = await self._count("status = 'processing'") > 0
        await self._worker.kill()
        self.outcome.kills += 1
        self.outcome.mid_job += busy

    async def _count(self, condition: str) -> int:
        async with self._database.tenant(self._tenant_id) as session:
            counted = f"select count(*) from documents where tenant_id = :tenant and deleted_at is null and {condition}"
            return await session.scalar(text(counted), {"tenant": self._tenant_id}) or 0

    async def _watch(self) -> None:
        """Search, again and again, for what must not be found."""
        looked = 0.0
        while not self._done:
            if time.monotonic() - looked > 0.5:
                await self._settle()
                looked = time.monotonic()
            deleted, settled = set(self._deleted), dict(self._settled)
            suspects = [f"m{self._numbers[key]}x{self._versions[key]}x" for key in deleted] or ["common"]
            query = "common" if self._random.random() < 0.5 else self._random.choice(suspects)
            found = await self._worker.ask(self._tenant_id, query)
            if found is None:
                await asyncio.sleep(0.05)
                continue
            self.outcome.searches += 1
            for document_id, passage in found:
                mark = _MARK.search(passage)
                if document_id in deleted:
                    self.outcome.wrong_answers.append(f"{document_id} is deleted, and answered")
                elif mark is None or int(mark.group(2)) < settled.get(document_id, 0):
                    self.outcome.wrong_answers.append(f"{document_id} answered with what was replaced")
            await asyncio.sleep(0.05)

    async def _settle(self) -> None:
        before = {key: version for key, version in self._versions.items() if key not in self._changing}
        async with self._database.tenant(self._tenant_id) as session:
            ready = set(await session.scalars(text("select document_id from documents where status = 'ready'")))
        for key, version in before.items():
            if key in ready and key not in self._changing and self._versions[key] == version:
                self._settled[key] = version

    async def _drain(self) -> None:
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                async with self._database.directory() as session:
                    waiting = await session.scalar(
                        text("select count(*) from jobs.pgqueuer where headers->>'tenant' = :t and status <> 'failed'"),
                        {"t": str(self._tenant_id)},
                    )
                if not waiting:
                    return
                await asyncio.sleep(0.1)

    async def _try_again(self) -> None:
        async with self._database.tenant(self._tenant_id) as session:
            failed = list(
                await session.scalars(
                    text("select document_id from documents where status = 'failed' and deleted_at is null")
                )
            )
            for document_id in failed:
                await service.reprocess_document(session, self._actor, document_id=document_id)
        self.outcome.given_up = len(failed)
        await self._drain()

    async def _judge(self) -> None:
        index = TenantIndex(EdgeIndex(self._folder / "index"), self._database)
        knowledge = Knowledge(self._database, index, self._files)
        try:
            self.outcome.disagreements = await agreement(knowledge, self._tenant_id)
            found = await check_consistency(knowledge, self._tenant_id, most=10**9)
            self.outcome.mended = sum(found.mended.values()) - found.compared
            self.outcome.passages = found.compared
        finally:
            await knowledge.close()
        living = {key: version for key, version in self._versions.items() if key not in self._deleted}
        self.outcome.documents = len(living)
        async with self._database.tenant(self._tenant_id) as session:
            rows = await session.execute(text("select document_id, status, error, deleted_at from documents"))
            documents = {row.document_id: row for row in rows}
            chunks = await session.execute(text("select document_id, text from chunks"))
            marks: dict[str, set[int]] = {}
            for document_id, passage in chunks:
                marks.setdefault(document_id, set()).update(int(mark) for _, mark in _MARK.findall(passage))
        for key, version in living.items():
            row = documents.get(key)
            if row is None or row.status != "ready" or marks.get(key) != {version}:
                self.outcome.unread.append(
                    f"{key}: {row and row.status}, {row and row.error}, {marks.get(key)}, {version}"
                )
        self.outcome.unread += [f"{key}: still there" for key in documents.keys() - living.keys()]
