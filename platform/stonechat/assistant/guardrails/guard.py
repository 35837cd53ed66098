"""The guardrails of one turn: before a model is asked, while it answers, and in what is told to the team."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from chatkit.types import HiddenContextItem, ThreadItem

from stonechat.assistant.guardrails.addresses import host_of
from stonechat.assistant.guardrails.findings import Finding, blocks, note, record, without_withheld
from stonechat.assistant.guardrails.moderation import LendsClients, moderate
from stonechat.assistant.guardrails.output import OutputFilter
from stonechat.assistant.guardrails.rules import check_answer, check_question, question_of, rules_of
from stonechat.assistant.passages import Passages
from stonechat.assistant.turn import LoadEarlier, Turn


class TurnGuard:
    """See the module's docstring. Takes what was withheld before out of the turn's history."""

    def __init__(self, turn: Turn, *, model: str, providers: LendsClients, passages: Passages) -> None:
        """`model` is the name of the one that answers."""
        self._turn = turn
        self._model = model
        self._providers = providers
        self._passages = passages
        self._rules = rules_of(turn.config)
        self._filters: list[OutputFilter[object]] = []
        self._findings: list[Finding] = []
        self._withheld: list[str] = []
        turn.history = without_withheld(turn.history)
        if turn.earlier is not None:
            turn.earlier = _without_withheld_earlier(turn.earlier)

    @property
    def message(self) -> str:
        """What the visitor is told when a rule stops a question or an answer."""
        return self._rules.guardrails.message

    @property
    def is_strict(self) -> bool:
        """Whether nothing is shown before all of it was checked."""
        return self._rules.guardrails.output.strict

    def filter(self) -> OutputFilter[object]:
        """A filter for one message of the answer."""
        made = self._rules.filter(self._hosts, composed=self._model != "extractive")
        self._filters.append(made)
        return made

    async def stops_question(self) -> bool:
        """Check what the visitor sent. True if it must not be answered."""
        last = self._turn.history[-1] if self._turn.history else None
        question = question_of(last) if last is not None else None
        if last is None or question is None:
            return False
        found = check_question(self._rules, question)
        if not blocks(found) and self._rules.guardrails.input.moderation and question.whole.strip():
            found += await self._moderated(question.whole, "input")
        self._take(found)
        if blocks(found):
            self._withheld.append(last.id)
            self._turn.stopped = True
        return blocks(found)

    async def stops_answer(self, text: str) -> bool:
        """Check a whole answer that was held back. True if it must not be shown."""
        topic = check_answer(self._rules, text)
        found = [topic] if topic is not None else []
        if not found and self._rules.guardrails.input.moderation and text.strip():
            found = await self._moderated(text, "output")
        self._take(found)
        self._turn.stopped = self._turn.stopped or blocks(found)
        return blocks(found)

    def close(self) -> HiddenContextItem | None:
        """What is told to the team, if anything: steps of the trace, and an item that only they see."""
        removed = [finding for each in self._filters for finding in each.findings]
        self._filters = []
        record(self._turn.trace, removed)
        findings, self._findings = [*self._findings, *removed], []
        if not findings:
            return None
        return note(
            findings,
            thread_id=self._turn.thread.id,
            generate_item_id=self._turn.generate_item_id,
            about=self._withheld,
        )

    def withhold_answer(self, item_ids: Iterable[str]) -> None:
        """What a stopped question was answered goes with it: many models refuse an answer to nothing."""
        if self._withheld:
            self._withheld += item_ids

    def _take(self, found: list[Finding]) -> None:
        record(self._turn.trace, found)
        self._findings += found

    async def _moderated(self, text: str, stage: str) -> list[Finding]:
        provider = self._model.partition("/")[0] if "/" in self._model else ""
        found = await moderate(
            self._providers,
            self._turn.caller.tenant_id,
            provider=provider,
            model=self._rules.guardrails.input.moderation_model,
            text=text,
            stage="input" if stage == "input" else "output",
        )
        return [found] if found is not None else []

    def _hosts(self) -> list[str]:
        """Where the passages come from, and the site that the visitor is on."""
        addresses = [passage.url for passage in self._passages.all() if passage.url]
        hosts = {host for address in addresses if (host := host_of(address)) is not None}
        if self._turn.caller.origin and (own := urlsplit(self._turn.caller.origin).hostname):
            hosts.add(own)
        return sorted(hosts)


def _without_withheld_earlier(load: LoadEarlier) -> LoadEarlier:
    async def earlier(item_id: str, count: int) -> list[ThreadItem]:
        return list(without_withheld(await load(item_id, count)))

    return earlier
