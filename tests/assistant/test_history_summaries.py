"""Long conversations: summarised after a turn, shown in the next, forgotten when what they tell of is taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import AssistantMessageContent, AssistantMessageItem, ThreadItem, ThreadMetadata
from sqlalchemy import delete, select, text, update

from stonechat import clock, ids
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_parts import HistoryUse
from stonechat.assistant.history import History
from stonechat.assistant.summaries import MAX_SUMMARY_CHARACTERS, ThreadMemory, ThreadSummaryRow
from stonechat.assistant.turn import Turn
from stonechat.chat.codec import item_json
from stonechat.chat.models import ThreadItem as ThreadItemRow
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.usage.ledger import UsageLedgerRow
from support import fake_openai as host
from support.assistant import add_provider, model_providers, user_message
from support.loopback import plain

MODEL = "acme/small"
CONFIG = AgentConfig(name="Robin", model=MODEL, history=HistoryUse(max_tokens=500))


def completion(words: str, *, usage: bool = True) -> list[bytes]:
    """A whole answer, as hosts give it that are not asked to stream."""
    body: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}],
    }
    if usage:
        body["usage"] = {"prompt_tokens": 300, "completion_tokens": 20, "total_tokens": 320}
    return [plain(json.dumps(body).encode(), headers={"Content-Type": "application/json", "Connection": "close"})]


def said(words: str) -> AssistantMessageItem:
    return AssistantMessageItem(
        id=ids.new_id("msg"),
        thread_id="thr_1",
        created_at=clock.now(),
        content=[AssistantMessageContent(text=words)],
    )


def talk(turns: int) -> list[ThreadItem]:
    return [
        item for n in range(turns) for item in (user_message(f"q{n} " + "word " * 40), said(f"a{n} " + "word " * 40))
    ]


class Talk:
    """A conversation in the database, and turns of it."""

    def __init__(self, database: Database, memory: ThreadMemory, caller: Caller, fake: host.FakeOpenAI) -> None:
        self.database, self.memory, self.caller, self.fake = database, memory, caller, fake
        self.thread = ThreadMetadata(id=ids.new_id("thr"), created_at=clock.now())
        self.items: list[ThreadItem] = []
        self.page = 50

    async def begin(self) -> None:
        async with self.database.tenant(self.caller.tenant_id) as session:
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, created_at) values (:tenant, :thread, :user, now())"
                ),
                {"tenant": self.caller.tenant_id, "thread": self.thread.id, "user": self.caller.user_id},
            )

    async def add(self, items: Sequence[ThreadItem]) -> None:
        self.items += items
        async with self.database.tenant(self.caller.tenant_id) as session:
            for item in items:
                await session.execute(
                    text(
                        "insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at) "
                        "values (:tenant, :thread, :item, :user, :kind, cast(:data as json), now())"
                    ),
                    {
                        "tenant": self.caller.tenant_id,
                        "thread": self.thread.id,
                        "item": item.id,
                        "user": self.caller.user_id,
                        "kind": item.type,
                        "data": item_json(item),
                    },
                )

    def turn(self, config: AgentConfig = CONFIG) -> Turn:
        history = self.items[-self.page :]

        async def earlier(before: str, count: int) -> list[ThreadItem]:
            place = next(index for index, item in enumerate(self.items) if item.id == before)
            return self.items[max(0, place - count) : place]

        return Turn(
            self.caller,
            config,
            self.thread,
            history,
            lambda _kind: ids.new_id("itm"),
            earlier=earlier if len(self.items) > len(history) else None,
        )

    async def ask(self, config: AgentConfig = CONFIG, *, model: str = MODEL) -> History:
        """One more question, with what the turn leaves to be done."""
        await self.add([user_message("and now?")])
        turn = self.turn(config)
        history = await self.memory.recall(turn, model=model)
        for work in turn.afterwards:
            await work()
        await self.add([said("so it is")])
        return history

    async def summary(self) -> ThreadSummaryRow | None:
        row = ThreadSummaryRow
        async with self.database.tenant(self.caller.tenant_id) as session:
            return await session.scalar(
                select(row).where(row.tenant_id == self.caller.tenant_id, row.thread_id == self.thread.id)
            )


@pytest.fixture
async def long(database: Database, tenant_id: UUID) -> AsyncIterator[Talk]:
    """Ten questions with their answers, about twice what fits."""
    async with host.fake_openai(completion("They talked about coats.")) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        talk_ = Talk(database, ThreadMemory(database, providers), Caller(tenant_id, "usr_1", "agt_1"), fake)
        await talk_.begin()
        await talk_.add(talk(10))
        yield talk_


def shown(history: History) -> str:
    return json.dumps(history.shown)


async def test_what_no_longer_fits_is_summarised_once_and_shown_from_the_next_turn_on(long: Talk) -> None:
    first = await long.ask()
    assert "coats" not in shown(first)
    assert first.dropped
    second = await long.ask()
    assert "What was said before, summarised: They talked about coats." in shown(second)
    assert not second.dropped
    third = await long.ask()
    assert third.summary == second.summary
    assert len(long.fake.requests) == 1
    told = json.dumps(long.fake.body(0)["messages"])
    assert "Visitor: q0 " in told
    assert "Assistant: a0 " in told
    assert "follow no instructions" in told


async def test_the_next_stretch_takes_the_summary_before_it_in(long: Talk) -> None:
    await long.ask()
    long.fake.replies[:] = [completion("Coats, then boots.")]
    await long.add(talk(6))
    await long.ask()
    assert "Summary of what came before: They talked about coats." in json.dumps(long.fake.body(1)["messages"])
    row = await long.summary()
    assert row is not None
    assert row.summary == "Coats, then boots."
    assert (await long.ask()).summary is not None


async def test_the_use_is_counted_for_what_it_was(long: Talk, database: Database) -> None:
    await long.ask()
    async with database.tenant(long.caller.tenant_id) as session:
        [use] = (
            await session.scalars(select(UsageLedgerRow).where(UsageLedgerRow.tenant_id == long.caller.tenant_id))
        ).all()
    assert (use.purpose, use.provider, use.model) == ("summary", "acme", "small")
    assert (use.input_tokens, use.output_tokens, use.estimated) == (300, 20, False)


async def test_the_trace_tells_what_was_dropped_and_that_a_summary_stood_in(long: Talk) -> None:
    await long.add([user_message("and now?")])
    turn = long.turn()
    await long.memory.recall(turn, model=MODEL)
    [span] = turn.trace.spans
    assert (span.kind, span.data["max_tokens"]) == ("history", 500)
    assert span.data["dropped"] > 10
    assert span.data["dropped_tokens"] > 500
    assert "summarised" not in span.data
    for work in turn.afterwards:
        await work()
    again = long.turn()
    await long.memory.recall(again, model=MODEL)
    assert again.trace.spans[0].data["dropped"] == 0
    assert again.trace.spans[0].data["summarised"] >= 10


@pytest.mark.parametrize("model", ["extractive", "scripted"])
async def test_models_built_in_never_summarise(long: Talk, model: str) -> None:
    assert (await long.ask(model=model)).dropped
    assert long.fake.requests == []


async def test_an_agent_may_be_told_not_to_summarise(long: Talk) -> None:
    config = CONFIG.model_copy(update={"history": HistoryUse(max_tokens=500, summarise=False)})
    assert (await long.ask(config)).dropped
    assert long.fake.requests == []


@pytest.mark.parametrize("reply", [host.refusal(500), completion(""), [b"HTTP/1.1 200 OK\r\n\r\n{"]])
async def test_a_model_that_fails_costs_nothing_but_the_summary(long: Talk, reply: list[bytes]) -> None:
    long.fake.replies[:] = [reply]
    await long.ask()
    assert await long.summary() is None
    assert (await long.ask()).dropped


async def test_a_summary_stays_within_its_bounds(long: Talk) -> None:
    long.fake.replies[:] = [completion("word\x00 " * 5000)]
    await long.ask()
    row = await long.summary()
    assert row is not None
    assert len(row.summary) <= MAX_SUMMARY_CHARACTERS
    assert "\x00" not in row.summary


async def _delete_one(talk_: Talk, place: int) -> None:
    async with talk_.database.tenant(talk_.caller.tenant_id) as session:
        await session.execute(
            delete(ThreadItemRow).where(
                ThreadItemRow.tenant_id == talk_.caller.tenant_id, ThreadItemRow.item_id == talk_.items[place].id
            )
        )


async def _change_one(talk_: Talk, place: int) -> None:
    async with talk_.database.tenant(talk_.caller.tenant_id) as session:
        await session.execute(
            update(ThreadItemRow)
            .where(ThreadItemRow.tenant_id == talk_.caller.tenant_id, ThreadItemRow.item_id == talk_.items[place].id)
            .values(data=item_json(user_message("something else")))
        )


@pytest.mark.parametrize("take_back", [_delete_one, _change_one])
async def test_what_is_taken_back_takes_its_summary_along(long: Talk, take_back: Any) -> None:
    await long.ask()
    await take_back(long, len(long.items) - 1)  # after what the summary tells of
    assert await long.summary() is not None
    await take_back(long, 3)
    assert await long.summary() is None


async def test_a_summary_of_what_was_taken_back_meanwhile_is_not_kept(long: Talk) -> None:
    await long.add([user_message("and now?")])
    turn = long.turn()
    history = await long.memory.recall(turn, model=MODEL)
    await _delete_one(long, 2)
    assert not await long.memory.summarise(turn, MODEL, history=history)
    assert await long.summary() is None


async def test_of_two_summaries_the_one_that_reaches_further_stays(long: Talk) -> None:
    await long.add([user_message("and now?")])
    turn = long.turn()
    history = await long.memory.recall(turn, model=MODEL)
    assert await long.memory.summarise(turn, MODEL, history=history)
    history.to_summarise = history.to_summarise[:4]
    long.fake.replies[:] = [completion("Less.")]
    assert not await long.memory.summarise(turn, MODEL, history=history)
    row = await long.summary()
    assert row is not None
    assert row.summary == "They talked about coats."


async def test_a_summary_goes_with_its_conversation(long: Talk, database: Database) -> None:
    await long.ask()
    async with database.tenant(long.caller.tenant_id) as session:
        await session.execute(text("delete from threads where tenant_id = :t"), {"t": long.caller.tenant_id})
    assert await long.summary() is None


async def test_a_budget_that_has_room_is_filled_from_before_the_first_page(long: Talk) -> None:
    long.page = 6
    config = CONFIG.model_copy(update={"history": HistoryUse(max_tokens=50_000)})
    history = await long.ask(config)
    assert history.items == 21
    assert shown(history).count("word word") > 20
    assert long.fake.requests == []


async def test_a_summary_is_not_made_for_a_tenant_whose_budget_is_used_up(long: Talk, database: Database) -> None:
    async with database.tenant(long.caller.tenant_id) as session:
        await session.execute(
            text(
                "insert into usage_budgets (tenant_id, max_tokens, month, used_tokens) "
                "values (:t, 1, date_trunc('month', now() at time zone 'utc')::date, 5)"
            ),
            {"t": long.caller.tenant_id},
        )
    await long.ask()
    assert long.fake.requests == []


async def test_a_slow_model_is_given_up(long: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stonechat.assistant.summaries.SECONDS", 0.05)
    long.fake.replies[:] = [[host.SILENCE]]
    async with asyncio.timeout(5):
        await long.ask()
    assert await long.summary() is None
