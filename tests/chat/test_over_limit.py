"""What becomes of questions when nothing more may be used: the tenant's own steps, in its own order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.assistant.contacts import email_in, list_contacts
from stonechat.assistant.over_limit import EMAIL_REQUEST, EMAIL_THANKS
from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.resume import tail
from stonechat.chat.runs import Run
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.errors import BudgetUsedUp, ModelUnknown
from stonechat.identity.caller import Caller
from stonechat.usage.allowance import AllowanceState, Step, Steps, allowance_state, put_steps, refresh_allowance
from stonechat.usage.quota import REFUSAL, Budget, require_budget
from support.allowances import include, on_plan
from support.budgets import budget_of, ledger_total, publish_model, set_budget
from support.chat import add, caller_of, create, decode, spoken
from support.responders import Scripted, speak


class Answering(Scripted):
    """Answers with the name of the model that was to be asked; uses so many tokens, of a paid model only."""

    def __init__(self, tokens: int = 60) -> None:
        super().__init__()
        self.tokens = tokens
        self.asked: list[str] = []
        self.fails: set[str] = set()
        self.knows = True
        self.most = self.now = 0

    async def respond(self, turn: Turn) -> AsyncIterator[object]:  # type: ignore[override]
        model = turn.config.model
        self.asked.append(model)
        if model in self.fails:
            raise ModelUnknown("There is no such model.")
        self.now += 1
        self.most = max(self.most, self.now)
        if model == "extractive":
            turn.trace.abstained = not self.knows
        else:
            turn.usage.of("openai", model).input_tokens = self.tokens
        async for event in speak(turn.thread, turn.generate_item_id("message"), [f"By {model}."]):
            yield event
        await asyncio.sleep(0.01)
        self.now -= 1


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
async def server(database: Database, answering: Answering, anna: Caller) -> AsyncIterator[ChatServer]:
    await publish_model(database, anna.tenant_id, agent_id=anna.agent_id, model="openai/gpt-4.1")
    opened = ChatServer(RunHub(database), answering)
    yield opened
    await opened.hub.close()


async def heard(run: Run) -> str:
    said = spoken(decode(b"".join([chunk async for chunk in tail(run)])))
    assert run.task is not None
    await asyncio.wait([run.task])
    return said


async def asked(server: ChatServer, visitor: Caller) -> str:
    return await heard(await server.start(create(), visitor))


async def steps(database: Database, tenant_id: UUID, *chosen: Step, **more: str) -> None:
    async with database.tenant(tenant_id) as session:
        await put_steps(session, system(tenant_id), steps=Steps(steps=chosen, **more))  # type: ignore[arg-type]


async def state_of(database: Database, tenant_id: UUID) -> AllowanceState:
    async with database.tenant(tenant_id) as session:
        return await allowance_state(session, tenant_id)


@pytest.mark.parametrize("waves", [1, 3])
async def test_a_crowd_of_visitors_passes_what_is_included_by_no_more_than_the_calls_in_flight(
    database: Database, server: ChatServer, answering: Answering, anna: Caller, waves: int
) -> None:
    await include(database, anna.tenant_id, tokens=1000)
    answers: list[str] = []
    for _ in range(waves):
        visitors = [caller_of(anna.tenant_id, f"usr_{number}", agent_id=anna.agent_id) for number in range(100)]
        answers += await asyncio.gather(*(asked(server, visitor) for visitor in visitors))
    state = await state_of(database, anna.tenant_id)
    assert set(answers) == {"By openai/gpt-4.1.", REFUSAL}
    assert state.used.tokens == 60 * len(answering.asked) == await ledger_total(database, anna.tenant_id)
    assert state.used.tokens is not None
    assert state.used.tokens < 1000 + 60 * answering.most
    assert state.used.messages == len(answering.asked)
    assert state.refused == 100 * waves - len(answering.asked)
    assert (state.reserved.tokens, state.reserved.messages) == (0, 0)


async def test_messages_are_counted_to_the_last_one(
    database: Database, server: ChatServer, answering: Answering, anna: Caller
) -> None:
    await include(database, anna.tenant_id, messages=7)
    visitors = [caller_of(anna.tenant_id, f"usr_{number}", agent_id=anna.agent_id) for number in range(30)]
    answers = await asyncio.gather(*(asked(server, visitor) for visitor in visitors))
    assert answers.count("By openai/gpt-4.1.") == len(answering.asked) == 7
    state = await state_of(database, anna.tenant_id)
    assert (state.used.messages, state.over, state.percent, state.refused) == (7, "hard", 100, 23)
    async with database.tenant(anna.tenant_id) as session:
        with pytest.raises(BudgetUsedUp):
            await require_budget(session, anna.tenant_id)


@pytest.fixture
async def used_up(database: Database, server: ChatServer, answering: Answering, anna: Caller) -> str:
    """A conversation after whose first answer nothing is left; its id."""
    await include(database, anna.tenant_id, tokens=50)
    run = await server.start(create(), anna)
    assert await heard(run) == "By openai/gpt-4.1."
    answering.asked.clear()
    return run.thread.id


@pytest.mark.parametrize(
    ("chosen", "knows", "fails", "said"),
    [
        (("message",), True, False, REFUSAL),
        ((), True, False, REFUSAL),
        (("approved_answers", "message"), True, False, "By extractive."),
        (("approved_answers", "message"), False, False, REFUSAL),
        (("approved_answers", "ask_email"), False, False, EMAIL_REQUEST),
        (("approved_answers", "ask_email"), True, True, EMAIL_REQUEST),
        (("ask_email", "approved_answers"), True, False, EMAIL_REQUEST),
    ],
)
async def test_steps_are_tried_in_order_until_one_answers(
    database: Database,
    server: ChatServer,
    answering: Answering,
    anna: Caller,
    used_up: str,
    chosen: Sequence[Step],
    knows: bool,
    fails: bool,
    said: str,
) -> None:
    await steps(database, anna.tenant_id, *chosen)
    answering.knows = knows
    answering.fails = {"extractive"} if fails else set()
    assert await heard(await server.start(add(used_up, "And now?"), anna)) == said
    assert "openai/gpt-4.1" not in answering.asked
    assert await ledger_total(database, anna.tenant_id) == 60, "no step spends anything"


async def test_an_address_is_asked_for_once_and_kept_for_the_team(
    database: Database, server: ChatServer, anna: Caller, used_up: str
) -> None:
    await steps(database, anna.tenant_id, "ask_email", "message", email_request="Your e-mail, please?")
    told = [
        await heard(await server.start(add(used_up, words), anna))
        for words in ("And now?", "What?", "Write to anna@example.com, please.", "Are you there? ben@example.com")
    ]
    assert told == ["Your e-mail, please?", REFUSAL, EMAIL_THANKS, REFUSAL]
    async with database.tenant(anna.tenant_id) as session:
        contacts = await list_contacts(session, system(anna.tenant_id))
        kinds = list(await session.scalars(text("select kind from events")))
    assert [(one.email, one.conversation_id) for one in contacts.data] == [("anna@example.com", used_up)]
    assert kinds.count("conversation.contact_left") == 1
    await server.store.delete_thread(used_up, anna)
    async with database.tenant(anna.tenant_id) as session:
        assert (await list_contacts(session, system(anna.tenant_id))).data == []


async def test_a_person_is_asked_and_has_the_conversation_then(
    database: Database, server: ChatServer, answering: Answering, anna: Caller, used_up: str
) -> None:
    await steps(database, anna.tenant_id, "hand_over")
    assert "I have asked a colleague" in await heard(await server.start(add(used_up), anna))
    async with database.tenant(anna.tenant_id) as session:
        assert await session.scalar(text("select handling from threads")) == "waiting_for_person"
    assert await heard(await server.start(add(used_up), anna)) == "", "the assistant is silent now"
    assert answering.asked == []


async def test_the_last_tenth_is_the_cheaper_models(
    database: Database, server: ChatServer, answering: Answering, anna: Caller
) -> None:
    await include(database, anna.tenant_id, messages=10)
    await steps(database, anna.tenant_id, "cheaper_model", "message", cheaper_model="openai/gpt-4.1-nano")
    answers = [
        await heard(await server.start(create(), caller_of(anna.tenant_id, f"usr_{n}", agent_id=anna.agent_id)))
        for n in range(12)
    ]
    assert answers == ["By openai/gpt-4.1."] * 9 + ["By openai/gpt-4.1-nano."] + [REFUSAL] * 2
    state = await state_of(database, anna.tenant_id)
    assert (state.used.messages, state.refused) == (10, 2)


async def test_a_cheaper_model_that_is_gone_leaves_the_question_to_the_next_step(
    database: Database, server: ChatServer, answering: Answering, anna: Caller
) -> None:
    await include(database, anna.tenant_id, messages=1)
    await steps(database, anna.tenant_id, "cheaper_model", "ask_email", cheaper_model="openai/gone")
    await heard(await server.start(create(), anna))
    answering.fails = {"openai/gone"}
    assert await heard(await server.start(create(), anna)) == EMAIL_REQUEST


async def test_a_model_that_costs_nothing_goes_on_beyond_the_end(
    database: Database, server: ChatServer, anna: Caller, used_up: str
) -> None:
    await steps(database, anna.tenant_id, "cheaper_model", cheaper_model="extractive")
    for _ in range(3):
        assert await heard(await server.start(add(used_up), anna)) == "By extractive."


async def test_steps_hold_at_the_end_of_the_tenants_own_budget_too(
    database: Database, server: ChatServer, answering: Answering, anna: Caller
) -> None:
    await set_budget(database, anna.tenant_id, Budget(max_tokens=1000))
    answering.tokens = 95
    await steps(database, anna.tenant_id, "cheaper_model", "approved_answers", cheaper_model="openai/gpt-4.1-nano")
    answers = [await heard(await server.start(create(), anna)) for _ in range(13)]
    assert answers == ["By openai/gpt-4.1."] * 10 + ["By openai/gpt-4.1-nano."] + ["By extractive."] * 2
    budget = await budget_of(database, anna.tenant_id)
    assert (budget.used_tokens, budget.refused, budget.reserved_tokens) == (11 * 95, 2, 0)


async def test_a_period_that_is_over_begins_anew_by_itself(
    database: Database, server: ChatServer, anna: Caller, used_up: str
) -> None:
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(
            text(
                "update usage_allowances set period_start = now() - interval '70 days', "
                "period_end = now() - interval '40 days'"
            )
        )
    assert await heard(await server.start(add(used_up), anna)) == "By openai/gpt-4.1."
    async with database.tenant(anna.tenant_id) as session:
        row = (await session.execute(text("select period_start, period_end, used_tokens from usage_allowances"))).one()
    assert row.used_tokens == 60
    assert row.period_start <= clock.now() < row.period_end
    assert row.period_end - row.period_start < timedelta(days=32)


async def test_a_plan_without_bounds_takes_nothing_from_anybody(
    database: Database, server: ChatServer, anna: Caller, used_up: str
) -> None:
    await on_plan(database, anna.tenant_id, "self_hosted")
    assert await heard(await server.start(add(used_up), anna)) == "By openai/gpt-4.1."
    async with database.tenant(anna.tenant_id) as session:
        for table in ("usage_allowances", "usage_budgets", "usage_reservations"):
            assert await session.scalar(text(f"select count(*) from {table}")) == 0
        await session.execute(text("update runs set metered = false"))
        assert (await allowance_state(session, anna.tenant_id)).bounded is False


async def test_another_tenant_is_not_bounded(
    database: Database, server: ChatServer, used_up: str, make_tenant: object, make_agent: object
) -> None:
    other: UUID = await make_tenant()  # type: ignore[operator]
    ben = caller_of(other, agent_id=await make_agent(other))  # type: ignore[operator]
    assert (await heard(await server.start(create(), ben))).startswith("By ")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("anna@example.com", "anna@example.com"),
        ("It is <Anna.B+shop@mail.example.co.uk>.", "Anna.B+shop@mail.example.co.uk"),
        ("anna at example dot com", None),
        ("@example.com", None),
        ("a@b", None),
        ("x" * 100_000 + "@example.com", None),
    ],
)
def test_addresses_are_found_in_what_people_write(words: str, found: str | None) -> None:
    assert email_in(words) == found


async def test_what_is_refreshed_twice_is_the_same(database: Database, anna: Caller, used_up: str) -> None:
    before = await state_of(database, anna.tenant_id)
    async with database.tenant(anna.tenant_id) as session:
        await refresh_allowance(session, anna.tenant_id)
    after = await state_of(database, anna.tenant_id)
    assert isinstance(after.period.start, datetime)
    assert after == before
