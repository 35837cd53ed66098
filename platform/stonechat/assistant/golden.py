"""Golden questions: what an agent should answer, asked and judged; the numbers of `stonechat eval golden FILE`.

A file is JSON Lines, or a YAML list, of objects: `question`, and any of `must_contain` (texts that stand in the answer, in any
case), `must_not_contain`, `source` (the title or the address of a document that it cites), `answered` (whether there is an
answer at all) and `agent` (another agent's id than the one that is asked otherwise).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stonechat.errors import InvalidInput, StonechatError

MAX_FILE_BYTES = 5 * 1024 * 1024
MAX_CASES = 2_000
MAX_PARALLEL = 16
_SHOWN = 60


class GoldenCase(BaseModel):
    """A question, and what is expected of the answer. Nothing expected but an answer: `answered` is true."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=4000)
    must_contain: list[str] = Field(default_factory=list, max_length=50)
    must_not_contain: list[str] = Field(default_factory=list, max_length=50)
    source: str | None = Field(None, min_length=1, max_length=2000)
    answered: bool = True
    agent: str | None = Field(None, min_length=1, max_length=128)


class Cites(Protocol):
    """A source of an answer."""

    @property
    def title(self) -> str: ...
    @property
    def url(self) -> str | None: ...


class Answers(Protocol):
    """An agent's answer."""

    @property
    def text(self) -> str: ...
    @property
    def sources(self) -> Sequence[Cites]: ...
    @property
    def answered(self) -> bool: ...
    @property
    def error(self) -> str | None: ...


Ask = Callable[[GoldenCase], Awaitable[Answers]]


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """One question asked. `faults` is empty if the answer was as expected."""

    question: str
    text: str
    sources: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all that was expected held."""
        return not self.faults


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """All of them, in the file's order."""

    results: tuple[GoldenResult, ...]

    @property
    def passed(self) -> int:
        """How many answers were as expected."""
        return sum(result.passed for result in self.results)

    @property
    def score(self) -> float:
        """The share of them, 0 to 1."""
        return self.passed / len(self.results)

    def lines(self) -> list[str]:
        """A table, and the score last."""
        rows = [f"{'ok  ' if each.passed else 'FAIL'}  {_line(each.question)}" for each in self.results]
        told = [
            line
            for row, each in zip(rows, self.results, strict=True)
            for line in (row, *(f"      → {fault}" for fault in each.faults))
        ]
        return [*told, "", f"passed {self.passed}", f"questions {len(self.results)}", f"score {self.score:.4f}"]

    def as_json(self) -> str:
        """The same for machines."""
        results = [asdict(each) | {"passed": each.passed} for each in self.results]
        told = {"score": round(self.score, 4), "passed": self.passed, "questions": len(results), "results": results}
        return json.dumps(told, ensure_ascii=False, indent=2)


def load_cases(path: Path) -> list[GoldenCase]:
    """Read a file; raises `InvalidInput` naming the line or the entry that is not as it should be."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{path} is larger than {MAX_FILE_BYTES // 1024 // 1024} MB.")
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise InvalidInput(f"{path} is missing or cannot be read.") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8 text.") from None
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    cases = [_case(path, where, entry) for where, entry in (_yaml(path, text) if is_yaml else _lines(path, text))]
    if not 1 <= len(cases) <= MAX_CASES:
        raise InvalidInput(f"{path} must hold 1 to {MAX_CASES:,} questions.")
    return cases


async def run_golden(cases: Sequence[GoldenCase], ask: Ask, *, parallel: int = 4) -> GoldenReport:
    """Ask them all, so many at once, and judge the answers. A question that cannot be asked has failed."""
    room = asyncio.Semaphore(max(1, min(parallel, MAX_PARALLEL)))

    async def one(case: GoldenCase) -> GoldenResult:
        async with room:
            try:
                answer = await ask(case)
            except StonechatError as error:
                return GoldenResult(case.question, "", (), (f"not answered: {error}",))
        sources = tuple(f"{each.title} <{each.url}>" if each.url else each.title for each in answer.sources)
        return GoldenResult(case.question, answer.text, sources, tuple(judge(case, answer)))

    return GoldenReport(tuple(await asyncio.gather(*(one(case) for case in cases))))


def judge(case: GoldenCase, answer: Answers) -> Iterable[str]:
    """What is not as expected of an answer, in words."""
    if answer.error is not None:
        yield f"the turn failed: {answer.error}"
        return
    if answer.answered is not case.answered:
        yield "expected an answer" if case.answered else "expected no answer"
    said = _folded(answer.text)
    yield from (f"lacks “{text}”" for text in case.must_contain if _folded(text) not in said)
    yield from (f"contains “{text}”" for text in case.must_not_contain if _folded(text) in said)
    if case.source is not None and not any(_is(case.source, each) for each in answer.sources):
        cited = ", ".join(each.title for each in answer.sources) or "nothing"
        yield f"does not cite “{case.source}”, but {cited}"


def _is(wanted: str, source: Cites) -> bool:
    """By title, or by address; an address without a place in it stands for all of its places."""
    if source.title.casefold() == wanted.casefold():
        return True
    return source.url is not None and wanted in (source.url, source.url.partition("#")[0])


def _folded(text: str) -> str:
    return " ".join(text.replace("*", "").split()).casefold()


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"


def _yaml(path: Path, text: str) -> Iterable[tuple[str, Any]]:
    try:
        entries = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise InvalidInput(f"{path} is not valid YAML.") from None
    if not isinstance(entries, list):
        raise InvalidInput(f"{path} must hold a list of questions.")
    return ((f"entry {number}", entry) for number, entry in enumerate(entries, start=1))


def _lines(path: Path, text: str) -> Iterable[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError):
                raise InvalidInput(f"{path}, line {number}: this is not JSON.") from None


_CASE = TypeAdapter(GoldenCase)


def _case(path: Path, where: str, entry: Any) -> GoldenCase:
    try:
        return _CASE.validate_python(entry)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(str(part) for part in fault["loc"]) or "the entry"
        raise InvalidInput(f"{path}, {where}: {name}: {fault['msg'].lower()}.") from None
