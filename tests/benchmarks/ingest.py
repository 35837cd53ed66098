"""Reading documents through real jobs: passages a second, and what 1,000 files of one tenant cost another; prints a table.

python tests/benchmarks/ingest.py [--documents 60] [--files 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sqlalchemy import text

from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.files import FolderStore
from stonechat.jobs import JobRunner
from stonechat.knowledge import service
from stonechat.knowledge.child import warm_up
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.layouts import TenantIndex
from stonechat.knowledge.tasks import job_handlers
from support.postgres import admin_server, migrated_database

SECTIONS = 100
WORDS = [
    f"{start}{end}"
    for start in ["bar", "cop", "den", "fal", "gor", "hin", "jul", "kam"]
    for end in ["ster", "ling", "mont", "wick", "ford"]
]


def _document(sections: int) -> bytes:
    parts = (f"## Section {n}\n\n{' '.join(random.choices(WORDS, k=180))}." for n in range(sections))
    return "\n\n".join(parts).encode()


async def _tenant(knowledge: Knowledge) -> UUID:
    tenant_id = ids.new_tenant_id()
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(text("insert into tenants (tenant_id, name) values (:id, 'Bench')"), {"id": tenant_id})
    return tenant_id


async def _upload(knowledge: Knowledge, tenant_id: UUID, data: bytes) -> None:
    async with knowledge.database.tenant(tenant_id) as session:
        await service.create_document(session, system(tenant_id), files=knowledge.files, data=data, filename="a.md")


async def _until_read(knowledge: Knowledge, tenant_id: UUID) -> int:
    while True:
        async with knowledge.database.tenant(tenant_id) as session:
            row = await session.execute(
                text(
                    "select count(*) filter (where status <> 'ready'), coalesce(sum(chunks), 0) from documents "
                    "where tenant_id = :tenant"
                ),
                {"tenant": tenant_id},
            )
            waiting, chunks = row.one()
        if not waiting:
            return int(chunks)
        await asyncio.sleep(0.1)


async def _measure(knowledge: Knowledge, url: str, *, documents: int, files: int) -> None:
    many = await _tenant(knowledge)
    for _ in range(documents):
        await _upload(knowledge, many, _document(SECTIONS))
    runner = JobRunner(url, job_handlers(knowledge))
    working = asyncio.create_task(runner.run())
    began, used = time.monotonic(), os.times()
    chunks = await _until_read(knowledge, many)
    seconds = time.monotonic() - began
    now = os.times()
    cpu = now.user + now.system - used.user - used.system
    print(
        f"| passages read, chunked, indexed and switched a second | {chunks / seconds:.0f} ({chunks} in {seconds:.1f} s) |"
    )
    print(f"| of that, processor time of the worker itself | {cpu:.1f} s |")

    busy, modest = await _tenant(knowledge), await _tenant(knowledge)
    for _ in range(files):
        await _upload(knowledge, busy, _document(3))
    async with knowledge.database.tenant(busy) as session:
        left = await session.scalar(
            text("select count(*) from documents where tenant_id = :t and status <> 'ready'"), {"t": busy}
        )
    began = time.monotonic()
    await _upload(knowledge, modest, _document(3))
    await _until_read(knowledge, modest)
    print(
        f"| one file, uploaded while {left} of {files} files of another tenant wait | ready after {time.monotonic() - began:.1f} s |"
    )
    await runner.stop()
    await working


async def _main(documents: int, files: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        async with (
            admin_server(place / "postgres") as admin_url,
            migrated_database(admin_url, f"stonechat_bench_ingest_{os.getpid()}") as addresses,
        ):
            database = Database(addresses.web_url, pool_size=10)
            index = TenantIndex(EdgeIndex(place / "index"), database)
            knowledge = Knowledge(database, index, FolderStore(place / "files"))
            warm_up()
            print("| what | measured |\n|---|---|")
            await _measure(knowledge, addresses.web_url, documents=documents, files=files)
            await knowledge.close()
            await database.close()
    one, five, _ = os.getloadavg()
    print(f"\nLoad of the machine afterwards {one:.1f}, over five minutes {five:.1f}, on {os.cpu_count()} cores.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--files", type=int, default=1000)
    asked = parser.parse_args()
    asyncio.run(_main(asked.documents, asked.files))
