"""What a rule found, for the people who look after the agent: which rule, which kind of thing, never the thing itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chatkit.types import HiddenContextItem, ThreadItem

from stonechat import clock, metrics
from stonechat.assistant.trace import Trace
from stonechat.assistant.turn import GenerateItemId

GUARDRAIL_KIND = "stonechat.guardrail"
"""What marks a hidden item as a note of the guardrails."""

Rule = Literal["length", "language", "blocked_topic", "moderation", "injection", "links", "images", "redact", "strict"]
Action = Literal["blocked", "flagged", "removed", "skipped"]
MAX_NOTED = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that tripped, or that could not be asked (`skipped`)."""

    stage: Literal["input", "output"]
    rule: Rule
    action: Action
    category: str = ""
    """The topic's name, the language, the kind of secret: nothing that the visitor or the model wrote."""
    count: int = 1

    @property
    def sentence(self) -> str:
        """What happened, for the team."""
        return _sentence(self)

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "rule": self.rule,
            "action": self.action,
            "category": self.category,
            "count": self.count,
        }


def blocks(findings: Iterable[Finding]) -> bool:
    """Whether any of them stops the question or the answer."""
    return any(finding.action == "blocked" for finding in findings)


def record(trace: Trace, findings: Iterable[Finding]) -> None:
    """A step of the trace for each, and one more in the count of its kind."""
    for finding in findings:
        metrics.GUARDRAILS.of(finding.rule, finding.action).add()
        with trace.span("guardrail", finding.rule, **finding.as_json()):
            pass


def note(
    findings: Sequence[Finding], *, thread_id: str, generate_item_id: GenerateItemId, about: Sequence[str] = ()
) -> HiddenContextItem:
    """An item that the team sees in the conversation, and neither visitors nor models do.

    `about` are ids of items that models must not be shown again: a stopped question, and what it was answered.
    """
    return HiddenContextItem(
        id=generate_item_id("hidden_context"),
        thread_id=thread_id,
        created_at=clock.now(),
        content={
            "kind": GUARDRAIL_KIND,
            "findings": [finding.as_json() for finding in findings[:MAX_NOTED]],
            "withheld": list(about),
        },
    )


def without_withheld(history: Sequence[ThreadItem]) -> Sequence[ThreadItem]:
    """The history without the questions that were stopped, so that no later turn brings them before a model."""
    withheld: set[str] = set()
    for item in history:
        if isinstance(item, HiddenContextItem) and isinstance(item.content, dict):
            ids = item.content.get("withheld") if item.content.get("kind") == GUARDRAIL_KIND else None
            withheld.update(each for each in ids or () if isinstance(each, str))
    return [item for item in history if item.id not in withheld] if withheld else history


def noted_sentences(content: object) -> list[str]:
    """What a stored note says, for the team; empty for anything else."""
    if not isinstance(content, dict) or content.get("kind") != GUARDRAIL_KIND:
        return []
    sentences = []
    for found in content.get("findings") or ():
        try:
            sentences.append(Finding(**found).sentence)
        except (TypeError, KeyError):
            continue
    return sentences


def _sentence(finding: Finding) -> str:  # noqa: PLR0911  one line a case
    category, many = finding.category, finding.count
    match finding.rule:
        case "length":
            return f"The message was longer than {category} characters and was not answered."
        case "language":
            return f"The message seems to be in a language this agent does not answer ({category})."
        case "blocked_topic":
            what = "message" if finding.stage == "input" else "answer"
            return f"The {what} touches the blocked topic “{category}” and was stopped."
        case "moderation" if finding.action == "skipped":
            return f"The moderation check could not be made ({category}), so the message was let through."
        case "moderation":
            what = "message" if finding.stage == "input" else "answer"
            return f"The provider’s moderation judged the {what} harmful ({category}) and it was stopped."
        case "injection":
            done = "was stopped" if finding.action == "blocked" else "was answered all the same"
            return f"The message looks like an attempt to change the instructions ({category}) and {done}. This is a guess."
        case "links":
            return f"Links to addresses that are not allowed became plain text ({many})."
        case "images":
            return f"Pictures or embedded elements that are not allowed were taken out ({many})."
        case "redact":
            return f"Blacked out in the answer: {category} ({many})."
        case _:
            return "The answer was stopped before anybody saw it."
