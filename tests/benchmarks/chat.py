"""The benchmark as a judgement: `python tests/benchmarks/chat.py [options of stonechat bench]` fails where a goal is missed.

Ratios only, both sides in one run: no figure of one machine is compared with one of another. Not part of `make test`, since
what else a machine is doing decides about it.
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> int:
    done = subprocess.run(
        [sys.executable, "-c", "from stonechat.cli import main; main()", "bench", *sys.argv[1:]],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        return done.returncode
    report = json.loads(done.stdout)
    parts = {name: found for name, found in report.items() if isinstance(found, dict) and "reached" in found}
    missed = [f"{name}: {found['goal']}" for name, found in parts.items() if not found["reached"]]
    for line in missed:
        print(f"Missed. {line}", file=sys.stderr)
    return 1 if missed or not parts else 0


if __name__ == "__main__":
    sys.exit(main())
