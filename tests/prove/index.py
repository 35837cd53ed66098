"""1,000 random changes with the worker killed mid-job: index and Postgres agree, and nothing deleted ever answers"""

# Run as `make prove-index`; ARGS="--steps 200" for a sample, ARGS="--afresh" to begin anew. The steps go in rounds of
# `ROUND`, each with a random seed, a database and an index of its own; the rounds that are done are kept in a file, so
# that a run that is interrupted goes on with the next.

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from stonechat import clock  # noqa: E402
from support.index_storm import Outcome, Storm  # noqa: E402
from support.postgres import admin_server, migrated_database  # noqa: E402

ROUND, KILLS = 100, 10
STATE = ROOT / ".stonechat" / "prove-index.json"
SCRATCH = ROOT / ".stonechat" / "prove-index"
RESULT = ROOT / "docs" / "measurements" / "index.md"


def _sum(outcomes: list[Outcome]) -> Outcome:
    total = Outcome()
    for each in fields(Outcome):
        for outcome in outcomes:
            setattr(total, each.name, getattr(total, each.name) + getattr(outcome, each.name))
    return total


def _report(total: Outcome, command: str) -> str:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    load = os.getloadavg()[1]
    return f"""# Random changes and kills: do index and Postgres agree?

Command: `{command}`, at commit {commit.strip()[:12]}, finished {clock.rfc3339(clock.now())}, its rounds took {total.seconds:.0f} s;
load of the machine over its last five minutes {load:.1f} on {os.cpu_count()} cores. Qdrant Edge. Each step makes, changes or deletes a document;
{KILLS} of {ROUND} upload three and `kill -9` the worker while it reads. A watcher searches all the time, for what is common to
all passages and for what only deleted documents hold.

| | found | allowed |
|---|---|---|
| steps | {total.steps} | |
| kills, of them while a document was being read | {total.kills}, {total.mid_job} | |
| documents given up after three kills over them, read when asked for again | {total.given_up} | |
| living documents at the end, passages | {total.documents}, {total.passages} | |
| searches of the watcher | {total.searches} | |
| answers of a deleted document or a replaced version | {len(total.wrong_answers)} | 0 |
| points without a passage, passages without a point, at the end | {len(total.disagreements)} | 0 |
| mended by a check of consistency afterwards | {total.mended} | 0 |
| documents not ready with their last content, or still there | {len(total.unread)} | 0 |
"""


async def _run(steps: int, outcomes: list[Outcome]) -> None:
    rounds = max(1, steps // ROUND)
    SCRATCH.mkdir(parents=True, exist_ok=True)
    async with admin_server(SCRATCH / "postgres") as admin_url:
        while len(outcomes) < rounds:
            seed = len(outcomes) + 1
            folder = SCRATCH / f"round-{seed}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            began = time.monotonic()
            async with migrated_database(admin_url, f"stonechat_prove_index_{os.getpid()}") as database:
                outcomes.append(await Storm(database.web_url, folder, seed=seed).run(steps=ROUND, kills=KILLS))
            last = outcomes[-1]
            last.seconds = time.monotonic() - began
            shutil.rmtree(folder, ignore_errors=True)
            STATE.write_text(json.dumps([asdict(outcome) for outcome in outcomes]))
            wrong = len(last.wrong_answers) + len(last.disagreements) + len(last.unread) + last.mended
            print(
                f"round {seed} of {rounds}: {last.searches} searches, {wrong} wrong, {last.seconds:.0f} s", flush=True
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--afresh", action="store_true", help="forget the progress of an earlier run")
    options = parser.parse_args()
    STATE.parent.mkdir(exist_ok=True)
    if options.afresh:
        STATE.unlink(missing_ok=True)
    outcomes = [Outcome(**each) for each in json.loads(STATE.read_text())] if STATE.exists() else []
    asyncio.run(_run(options.steps, outcomes))
    total = _sum(outcomes)
    command = "make prove-index" + (f' ARGS="--steps {options.steps}"' if options.steps != 1000 else "")
    RESULT.write_text(_report(total, command))
    STATE.unlink(missing_ok=True)
    for wrong in (total.wrong_answers + total.disagreements + total.unread)[:20]:
        print(wrong)
    print(RESULT.read_text())
    return int(bool(total.wrong_answers or total.disagreements or total.unread or total.mended))


if __name__ == "__main__":
    sys.exit(main())
