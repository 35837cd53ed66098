"""A thread's items as a model's input, within a budget of tokens: the newest first, and nothing torn apart.

The unit is the item. One hidden item is a tool's call together with its output, and so is a client tool call: what fits,
fits whole. What the visitor did last, and what tools answered since, is always in, cut if it must be. What no longer
fits is dropped, or stands in a summary that was made after an earlier turn (`summaries.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from agents import TResponseInputItem
from chatkit.types import HiddenContextItem, SDKHiddenContextItem, ThreadItem, UserMessageItem

from stonechat.assistant.history_budget import cut_to_tokens, estimate_tokens
from stonechat.assistant.history_items import as_input, note

MAX_ITEMS = 250
"""Of a thread that a turn ever looks at."""
ITEM_TOKENS = 4
"""What a message costs beyond its text."""
MIN_CUT_TOKENS = 50
UNANSWERED = "(No answer was given.)"


@dataclass(frozen=True, slots=True)
class Summary:
    """What was said up to an item, in few words."""

    text: str
    upto_item_id: str
    items: int
    """How many items it tells of, those of summaries before it included."""


@dataclass(slots=True)
class History:
    """What a model is shown of a conversation, and what it is not."""

    shown: list[TResponseInputItem]
    items: int
    """How many items are shown."""
    tokens: int
    """Estimated, of all that is shown."""
    dropped: list[ThreadItem] = field(default_factory=list)
    """Oldest first: what neither is shown nor stands in the summary."""
    dropped_tokens: int = 0
    full: bool = False
    """Whether it was the budget that something was dropped for."""
    summary: Summary | None = None
    cut: int = 0
    """How many items were shortened."""
    to_summarise: list[ThreadItem] = field(default_factory=list)
    """Oldest first: what was dropped, and so much of what is shown that the next turns need not drop again."""

    def as_data(self) -> dict[str, Any]:
        """For the trace: counts alone."""
        data: dict[str, Any] = {"items": self.items, "tokens": self.tokens, "dropped": len(self.dropped)}
        if self.dropped:
            data["dropped_tokens"] = self.dropped_tokens
        if self.cut:
            data["cut"] = self.cut
        if self.summary is not None:
            data["summarised"] = self.summary.items
            data["summary_tokens"] = estimate_tokens(self.summary.text)
        return data


@dataclass(slots=True)
class _Unit:
    """An item and what it becomes."""

    item: ThreadItem
    parts: list[TResponseInputItem]
    tokens: int


def fit_history(
    items: Sequence[ThreadItem],
    *,
    max_tokens: int,
    summary: Summary | None = None,
    recalled: Mapping[str, str] | None = None,
    contents: Mapping[str, Any] | None = None,
) -> History:
    """The newest of `items` (oldest first) that fit into `max_tokens`, estimated.

    `summary` stands for the items up to its own; it is shown if one of them is not. `recalled` maps the id of a hidden
    item that remembers a search to that search's output, to be shown again. `contents` maps the id of a user message to
    its content as the model's API takes it, where that is more than text (pictures).
    """
    items = items[-MAX_ITEMS:]
    units = [_unit(item, recalled or {}, contents or {}) for item in items]
    last = last_question(items)
    now, before = units[last:], units[:last]
    budget = max_tokens
    cut = _cut_to_fit(now, budget)
    budget -= sum(unit.tokens for unit in now)
    if sum(unit.tokens for unit in before) <= budget and (summary is None or _holds(items, summary)):
        kept: list[_Unit] = list(before)
        dropped: list[_Unit] = []
        summary = None  # all of it is there in its own words
    else:
        if summary is not None:
            budget -= estimate_tokens(summary.text) + ITEM_TOKENS
            before = before[_after(before, summary) :]
        kept, dropped = _newest(before, budget)
    full = any(not isinstance(unit.item, HiddenContextItem) for unit in dropped)
    # A conversation begins with what a person said; without its beginning it must too.
    while summary is None and kept and not isinstance(kept[0].item, UserMessageItem):
        dropped.append(kept.pop(0))
    shown = list(_in_turns((*kept, *now)))
    if summary is not None:
        shown.insert(0, note(f"What was said before, summarised: {summary.text}"))
    dropped = [unit for unit in dropped if unit.parts]
    tokens = sum(unit.tokens for unit in (*kept, *now))
    return History(
        shown=_joined(shown),
        items=sum(1 for unit in (*kept, *now) if unit.parts),
        tokens=tokens + (estimate_tokens(summary.text) + ITEM_TOKENS if summary is not None else 0),
        dropped=[unit.item for unit in dropped],
        dropped_tokens=sum(unit.tokens for unit in dropped),
        full=full,
        summary=summary,
        cut=cut,
        to_summarise=_outgoing(before, kept, budget=max_tokens // 2 - sum(unit.tokens for unit in now)) if full else [],
    )


def _in_turns(units: Iterable[_Unit]) -> Iterator[TResponseInputItem]:
    """All parts, with a word in the agent's name where a turn failed or was stopped after its tools had answered: what a tool answered is
    the visitor's side to some providers, which refuse it twice in a row."""
    waiting = False
    for unit in units:
        if waiting and isinstance(unit.item, UserMessageItem | SDKHiddenContextItem):
            yield {"role": "assistant", "content": UNANSWERED}
        for part in unit.parts:
            waiting = part.get("type") == "function_call_output"
            yield part


def _unit(item: ThreadItem, recalled: Mapping[str, str], contents: Mapping[str, Any]) -> _Unit:
    parts = as_input(item, recalled=recalled, content=contents.get(item.id))
    return _Unit(item, parts, sum(map(_tokens, parts)))


def last_question(items: Sequence[ThreadItem]) -> int:
    """Where what must be shown begins: the newest message of the visitor, or else the newest item."""
    for index in range(len(items) - 1, -1, -1):
        if isinstance(items[index], UserMessageItem):
            return index
    return max(0, len(items) - 1)


def _cut_to_fit(units: list[_Unit], budget: int) -> int:
    """Shorten what is too long, the longest first, until all fit. Returns how many were shortened."""
    cut: set[int] = set()
    for _ in range(2 * len(units)):
        over = sum(unit.tokens for unit in units) - budget
        if over <= 0 or not units:
            break
        longest = max(units, key=lambda unit: unit.tokens)
        allowed = max(MIN_CUT_TOKENS, longest.tokens - over, budget // (len(units) + 1))
        if allowed >= longest.tokens:
            break
        longest.parts = [_shortened(part, allowed // len(longest.parts)) for part in longest.parts]
        longest.tokens = sum(map(_tokens, longest.parts))
        cut.add(id(longest))
    return len(cut)


def _newest(units: Sequence[_Unit], budget: int) -> tuple[list[_Unit], list[_Unit]]:
    """Those that fit, from the newest on until one does not; and the rest. Both oldest first.

    What a tool once said may be left out alone; of what people and the agent said, nothing is missing in between.
    """
    kept: list[_Unit] = []
    dropped: list[_Unit] = []
    full = False
    for unit in reversed(units):
        if full or unit.tokens > budget:
            full = full or not isinstance(unit.item, HiddenContextItem)
            dropped.append(unit)
        else:
            budget -= unit.tokens
            kept.append(unit)
    return kept[::-1], dropped[::-1]


def _outgoing(before: Sequence[_Unit], kept: Sequence[_Unit], *, budget: int) -> list[ThreadItem]:
    """What was dropped and the oldest of what is kept, so that the rest is within `budget` and begins with a person."""
    shown = {id(unit) for unit in kept}
    total = sum(unit.tokens for unit in kept)
    for index, unit in enumerate(before):
        if id(unit) in shown:
            if total <= budget and isinstance(unit.item, UserMessageItem):
                return [gone.item for gone in before[:index]]
            total -= unit.tokens
    return [unit.item for unit in before]


def _after(units: Sequence[_Unit], summary: Summary) -> int:
    return next((index + 1 for index, unit in enumerate(units) if unit.item.id == summary.upto_item_id), 0)


def _holds(items: Sequence[ThreadItem], summary: Summary) -> bool:
    """Whether the items reach back to all that the summary tells of."""
    place = next((index for index, item in enumerate(items) if item.id == summary.upto_item_id), -1)
    return place + 1 >= summary.items


def _joined(parts: Sequence[TResponseInputItem]) -> list[TResponseInputItem]:
    """What one side said twice in a row as one message: some models insist on taking turns."""
    joined: list[TResponseInputItem] = []
    for part in parts:
        role = part.get("role")
        if joined and role is not None and joined[-1].get("role") == role:
            both = _content_of_both(joined[-1].get("content"), part.get("content"))
            joined[-1] = cast("TResponseInputItem", {"role": role, "content": both})
        else:
            joined.append(part)
    return joined


def _content_of_both(first: Any, second: Any) -> str | list[Any]:
    """Contents of two messages: text, or a list of parts where there is more than text."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [
        part
        for content in (first, second)
        for part in ([{"type": "input_text", "text": content}] if isinstance(content, str) else content)
    ]


_TEXTS = ("content", "arguments", "output")


def _tokens(part: TResponseInputItem) -> int:
    return ITEM_TOKENS + sum(estimate_tokens(text) for text in _texts(part))


def _texts(part: TResponseInputItem) -> Iterator[str]:
    for name in _TEXTS:
        value = part.get(name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            for piece in value:
                if isinstance(piece, dict):
                    # A picture costs about as much as a page of text.
                    yield str(piece.get("text") or "") if "text" in piece else "x" * 4000


def _shortened(part: TResponseInputItem, tokens: int) -> TResponseInputItem:
    shorter: dict[str, Any] = dict(part)
    for name in ("content", "output"):
        value = shorter.get(name)
        if isinstance(value, str):
            shorter[name] = cut_to_tokens(value, max(1, tokens - ITEM_TOKENS))
        elif isinstance(value, list):
            shorter[name] = [
                piece | {"text": cut_to_tokens(piece["text"], max(1, tokens - ITEM_TOKENS))}
                if isinstance(piece, dict) and isinstance(piece.get("text"), str)
                else piece
                for piece in value
            ]
    return shorter  # type: ignore[return-value]
