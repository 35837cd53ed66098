"""The benchmark's report for people: a line a figure, both sides beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_GROWN = ("short_thread", "long_thread", "big_tenant")
_BESIDE = ("plain", "stonechat")


def table(report: dict[str, Any]) -> str:
    """The figures of `run_bench`."""
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> Iterator[str]:
    for part in ("core", "agent", "streams", "growth"):
        if part not in report:
            continue
        found = report[part]
        columns = _GROWN if part == "growth" else _BESIDE
        yield f"\n{part:26}" + "".join(f"{column:>14}" for column in columns)
        for name in found[columns[0]]:
            yield f"  {name:24}" + "".join(f"{found[column][name]:>14}" for column in columns)
        if "ratio" in found:
            spread = found.get("ratio_by_round")
            yield f"  ratio {found['ratio']}" + (f"   rounds: {min(spread)} to {max(spread)}" if spread else "")
        yield f"  {'reached' if found['reached'] else 'MISSED'}: {found['goal']}"
