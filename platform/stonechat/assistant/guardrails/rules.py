"""An agent's rules, made ready once, and the checks that need nobody else."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import chain

from chatkit.types import ClientToolCallItem, StructuredInputItem, ThreadItem, UserMessageItem, UserMessageTagContent

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_rules import Guardrails
from stonechat.assistant.guardrails.addresses import Addresses
from stonechat.assistant.guardrails.findings import Finding
from stonechat.assistant.guardrails.injection import find_injection
from stonechat.assistant.guardrails.output import OutputFilter
from stonechat.assistant.guardrails.patterns import OutputPattern, compile_patterns
from stonechat.assistant.guardrails.spoken import foreign_language
from stonechat.assistant.guardrails.topics import Topics

MAX_RULES = 2_000
MAX_TAG_CHARACTERS = 1_000
"""Of what a page put into a tag: no more of it is shown to a model."""
MAX_TEXTS = 200
"""Strings of one form or tool's output that are looked at."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The guardrails of one configuration, with everything in them compiled."""

    guardrails: Guardrails
    topics: Topics
    pattern: OutputPattern
    free_pattern: OutputPattern
    """The same without a look at links, for text that was not composed."""

    def filter(self, sources: Callable[[], Collection[str]] = tuple, *, composed: bool = True) -> OutputFilter[object]:
        """A filter for one message. `sources` gives the hosts of what the turn was given to read.

        `composed` False is for quotes of the tenant's own documents: the rule `sources` is fulfilled by what they are.
        """
        output = self.guardrails.output
        free = output.links == "any" or (output.links == "sources" and not composed)
        return OutputFilter(
            self.free_pattern if free else self.pattern,
            links=Addresses("any" if free else output.links, output.link_hosts, sources),
            images=Addresses(output.images, output.link_hosts),
        )


_rules: OrderedDict[int, Rules] = OrderedDict()


def rules_of(config: AgentConfig) -> Rules:
    """The rules of a configuration; configurations are immutable and shared, so they are made once."""
    guardrails = config.guardrails
    held = _rules.get(id(guardrails))
    if held is not None and held.guardrails is guardrails:
        _rules.move_to_end(id(guardrails))
        return held
    redact = frozenset(guardrails.output.redact)
    free = compile_patterns(redact, links=False)
    rules = Rules(
        guardrails,
        Topics(guardrails.input.blocked_topics),
        free if guardrails.output.links == "any" else compile_patterns(redact, links=True),
        free,
    )
    _rules[id(guardrails)] = rules
    while len(_rules) > MAX_RULES:
        _rules.popitem(last=False)
    return rules


def clean_text(config: AgentConfig, text: str, *, hosts: Collection[str] = (), composed: bool = True) -> str:
    """A whole text as visitors may see it: for widgets, titles, thoughts, whatever a model wrote besides its answer.

    `hosts` are those that the rule `sources` allows here; `composed` False is for what the tenant or its service wrote.
    """
    kept = rules_of(config).filter(lambda: hosts, composed=composed)
    return "".join(str(piece) for piece in [*kept.feed(text), *kept.finish()])


@dataclass(frozen=True, slots=True)
class Question:
    """What a visitor sent, apart from files: `typed` is in their own words, `texts` is everything."""

    typed: str
    texts: tuple[str, ...]

    @property
    def whole(self) -> str:
        return "\n".join(self.texts)


def question_of(item: ThreadItem) -> Question | None:
    """What there is to check in the item that began a turn; None where visitors have no say in it."""
    match item:
        case UserMessageItem():
            typed = "".join(part.text for part in item.content if part.type == "input_text")
            given = [part for part in item.content if part.type == "input_tag"]
            tags = [text for tag in given for text in (tag.text, "\n".join(_words_of(tag))[:MAX_TAG_CHARACTERS])]
            names = [attachment.name for attachment in item.attachments]
            texts = (typed, *tags, item.quoted_text or "", *names)
            return Question(typed, tuple(text for text in texts if text))
        case StructuredInputItem() if item.status == "answered":
            return Question("", tuple(_strings([each.model_dump(mode="json") for each in item.inputs])))
        case ClientToolCallItem() if item.status == "completed":
            return Question("", tuple(_strings(item.output)))
        case _:
            return None


def check_question(rules: Rules, question: Question) -> list[Finding]:
    """What the rules that need nobody else say of a question, the first that stops it last."""
    given = rules.guardrails.input
    found: list[Finding] = []
    if sum(map(len, question.texts)) > given.max_characters:
        return [Finding("input", "length", "blocked", f"{given.max_characters:,}")]
    if given.injection != "off":
        category = next(filter(None, map(find_injection, question.texts)), None)
        if category is not None:
            found.append(
                Finding("input", "injection", "blocked" if given.injection == "block" else "flagged", category)
            )
            if given.injection == "block":
                return found
    topic = rules.topics.find(question.whole)
    if topic is not None:
        return [*found, Finding("input", "blocked_topic", "blocked", topic)]
    if given.languages and question.typed:
        language = foreign_language(question.typed, given.languages)
        if language is not None:
            found.append(Finding("input", "language", "blocked", language))
    return found


def check_answer(rules: Rules, text: str) -> Finding | None:
    """Whether a whole answer, not shown yet, touches a blocked topic."""
    topic = rules.topics.find(text)
    return Finding("output", "blocked_topic", "blocked", topic) if topic is not None else None


def _words_of(tag: UserMessageTagContent) -> Sequence[str]:
    """Everything in a tag that a model is shown besides its text: whoever sends it chooses its names, too."""
    return _strings({"id": tag.id} | tag.data, with_names=True) if tag.data else ()


def _strings(value: object, *, with_names: bool = False) -> Sequence[str]:
    """The strings within a JSON value, in order, the first `MAX_TEXTS` that are not empty."""
    found: list[str] = []
    waiting: list[object] = [value]
    while waiting and len(found) < MAX_TEXTS:
        each = waiting.pop()
        if isinstance(each, str):
            if each:
                found.append(each)
        elif isinstance(each, dict):
            waiting += reversed([*chain.from_iterable(each.items())] if with_names else [*each.values()])
        elif isinstance(each, list):
            waiting += reversed(each)
    return found
