"""What applying a document does: one thing after another, in words, and what is left for people to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.configuration.means import Means
from stonechat.errors import InvalidInput, StonechatError, SwitchedOff
from stonechat.operator.flags import KNOWN

MAX_FIELDS = 30
"""Named of one change."""

Action = Literal["create", "change", "remove", "leave"]
EntryT = TypeVar("EntryT")
RowT = TypeVar("RowT")

_VERBS: dict[Action, str] = {"create": "Create", "change": "Change", "remove": "Remove", "leave": "Leave"}


class Change(BaseModel):
    """One thing that is done, or left although the document does not name it."""

    model_config = ConfigDict(frozen=True)

    action: Action
    kind: str = Field(description="Such as `agent` or `limits`.")
    name: str
    path: str = Field(description="Where it stands in the document; empty for what the document does not name.")
    fields: list[str] = Field(description="What of it changes.")
    says: str = Field(description="All of it, in a sentence.")


class ToDo(BaseModel):
    """What a document cannot do, because it would need a secret."""

    model_config = ConfigDict(frozen=True)

    path: str
    says: str


class Applied(BaseModel):
    """What was done or, of a dry run, what would be."""

    dry_run: bool
    changes: list[Change]
    unchanged: int = Field(description="How many things are as the document says already.")
    to_do: list[ToDo] = Field(description="What must be filled in by hand, in the order in which to do it.")


@dataclass
class Work:
    """One application of a document, in its transaction."""

    session: AsyncSession
    actor: Actor
    means: Means
    prune: bool = False
    dry_run: bool = False
    content: bool = False
    """Whether reading includes what was written by hand."""
    switched_off: frozenset[str] = frozenset()
    """Parts of the platform, by `operator.flags.KNOWN`, that are off for the tenant."""
    changes: list[Change] = field(default_factory=list)
    to_do: list[ToDo] = field(default_factory=list)
    unchanged: int = 0
    waiting_providers: set[str] = field(default_factory=set)
    """Model providers that the document names and that cannot be made, because nobody gave their keys."""

    def done(self, action: Action, kind: str, name: str, *, path: str = "", fields: Sequence[str] = ()) -> None:
        """Note a change."""
        named = f"the {kind} “{name}”" if name else f"the {kind}"
        what = f": {', '.join(fields[:MAX_FIELDS])}" if action == "change" and fields else ""
        if action == "leave":
            what = ", which the document does not name"
        says = f"{_VERBS[action]} {named}{what}."
        self.changes.append(
            Change(action=action, kind=kind, name=name, path=path, fields=list(fields[:MAX_FIELDS]), says=says)
        )

    def require_flag(self, key: str) -> None:
        """Raise `SwitchedOff` where that part of the platform is off."""
        if key in self.switched_off:
            raise SwitchedOff(KNOWN[key].sentence)

    def same(self) -> None:
        """Note that something is as the document says."""
        self.unchanged += 1

    def left_over(self, kind: str, name: str) -> bool:
        """Note something that the document does not name; whether it is to be removed."""
        self.done("remove" if self.prune else "leave", kind, name)
        return self.prune

    def ask(self, path: str, says: str) -> None:
        """Note what is for people to do."""
        self.to_do.append(ToDo(path=path, says=says))

    def result(self) -> Applied:
        """All of it."""
        return Applied(dry_run=self.dry_run, changes=self.changes, unchanged=self.unchanged, to_do=self.to_do)

    @contextmanager
    def at(self, path: str) -> Iterator[None]:
        """Say of any error within where in the document its reason stands."""
        try:
            yield
        except StonechatError as error:
            faults = error.members.get("errors")
            if not isinstance(faults, list) or not faults:
                faults = [{"field": "", "message": str(error)}]
            error.members["errors"] = [
                {"field": ".".join(part for part in (path, str(fault.get("field", ""))) if part)}
                | {"message": str(fault.get("message", ""))}
                for fault in faults
            ]
            raise


def paired(
    entries: Sequence[EntryT],
    rows: Sequence[RowT],
    *,
    path: str,
    entry_id: Callable[[EntryT], str | None],
    row_id: Callable[[RowT], str],
    entry_name: Callable[[EntryT], object],
    row_name: Callable[[RowT], object],
    fits: Callable[[EntryT, RowT], bool] = lambda _entry, _row: True,
) -> tuple[list[RowT | None], list[RowT]]:
    """For each entry the row that it means, and the rows that none means.

    By id first; then, of what is left, by name, those of one name in their order. Raises `InvalidInput` for an id that
    stands in the document twice.
    """
    by_id = {row_id(row): row for row in rows}
    found: list[RowT | None] = []
    taken: set[str] = set()
    for number, entry in enumerate(entries):
        wanted = entry_id(entry)
        row = by_id.get(wanted) if wanted is not None else None
        if row is not None and wanted in taken:
            raise InvalidInput(
                "Nothing was applied: one id stands in the document twice.",
                errors=[{"field": f"{path}.{number}.id", "message": "This id stands further up already."}],
            )
        if row is not None and not fits(entry, row):
            row = None
        if row is not None:
            taken.add(row_id(row))
        found.append(row)
    free: dict[object, list[RowT]] = {}
    for row in rows:
        if row_id(row) not in taken:
            free.setdefault(row_name(row), []).append(row)
    for number, entry in enumerate(entries):
        if found[number] is None and (same := free.get(entry_name(entry))):
            found[number] = row = same.pop(0)
            taken.add(row_id(row))
    return found, [row for row in rows if row_id(row) not in taken]


def differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of what differs, one level into objects: `visitor.concurrent`."""
    names: list[str] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            names += [f"{name}.{part}" for part in sorted({*old, *new}) if old.get(part) != new.get(part)]
        else:
            names.append(name)
    return names
