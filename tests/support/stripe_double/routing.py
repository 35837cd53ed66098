"""Which function answers which request, and what a function is given."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.refusals import Refused, missing

Json = dict[str, Any]


@dataclass
class Call:
    """One API request, its parameters read and checked."""

    account: Account
    params: Json
    ids: tuple[str, ...]
    path: str
    page: str | None = None
    """The place in a v2 list to go on from."""

    @property
    def id(self) -> str:
        return self.ids[0]

    def get(self, name: str, default: Any = None) -> Any:
        """A parameter's value; one that is empty to unset it counts as not given."""
        value = self.params.get(name)
        return default if value is None or value == "" else value


Handler = Callable[[Call], Any]


@dataclass
class Route:
    method: str
    pattern: re.Pattern[str]
    shape: str
    handler: Handler


ROUTES: list[Route] = []


def route(method: str, path: str, shape: str = "") -> Callable[[Handler], Handler]:
    """Registers a handler. `shape` names the client's class of parameters, such as `checkout.SessionCreateParams`."""
    pattern = re.compile(re.sub(r"\{\w+\}", "([^/]+)", path))

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, pattern, shape, handler))
        return handler

    return register


def routed(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    for candidate in ROUTES:
        if candidate.method == method and (found := candidate.pattern.fullmatch(path)):
            return candidate, found.groups()
    raise Refused(f"Unrecognized request URL ({method}: {path}).", status=404)


def within(moment: int, wanted: Any) -> bool:
    """Whether a time is in a range such as `{"gte": 1}`, or equals a number."""
    if isinstance(wanted, int):
        return moment == wanted
    tests = {"gt": int.__gt__, "gte": int.__ge__, "lt": int.__lt__, "lte": int.__le__}
    return all(tests[name](moment, int(bound)) for name, bound in wanted.items())


def listed(call: Call, rows: Iterable[Json], *, url: str | None = None, equal: tuple[str, ...] = ()) -> Json:
    """A page of v1: newest first, with cursors, `created` ranges, and the parameters of `equal` matched to fields."""
    kept = [
        row
        for row in rows
        if all(row.get(name) == call.params[name] for name in equal if name in call.params)
        and ("created" not in call.params or within(row["created"], call.params["created"]))
    ]
    kept.reverse()
    limit = call.get("limit", 10)
    if not 1 <= limit <= 100:
        raise Refused("Invalid integer: limit must be between 1 and 100", param="limit")
    order = {row["id"]: place for place, row in enumerate(kept)}
    start, end = 0, len(kept)
    if after := call.get("starting_after"):
        if after not in order:
            raise missing("object", after, param="starting_after", status=400)
        start = order[after] + 1
    if before := call.get("ending_before"):
        if before not in order:
            raise missing("object", before, param="ending_before", status=400)
        end = order[before]
        start = max(0, end - limit)
    page = kept[start : min(end, start + limit)]
    more = start > 0 if before else start + limit < len(kept)
    return {"object": "list", "data": page, "has_more": more, "url": url or call.path}
