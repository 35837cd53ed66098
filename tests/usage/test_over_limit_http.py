"""The end of what may be used, as visitors and a customer's script meet it over HTTP: the whole application, a model host on
loopback that reports what it used, and the real index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.assistant.config_tools import HandOver
from stonechat.assistant.over_limit import EMAIL_REQUEST, EMAIL_THANKS
from stonechat.limits.rules import LimitRules
from stonechat.plans.overrides import add_override
from stonechat.usage.allowance import allowance_state, refresh_allowance
from stonechat.usage.quota import REFUSAL, Budget
from support import fake_openai as host
from support.allowances import include
from support.billing import use
from support.budgets import budget_of, ledger_total, set_budget
from support.chat import decode, spoken
from support.knowledge import run_jobs
from support.platform import ORIGIN, Platform, Visitor, open_platform
from support.postgres import TestDatabase

CROWD = 100
TOKENS = 127
"""What the host says of each answer."""


@dataclass
class Models:
    """What the host was asked, by model, and how many at once; those in `broken` are not there."""

    asked: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    now: int = 0
    most: int = 0

    def reply(self, request: host.Received) -> Iterator[bytes]:
        model = str(json.loads(request.body)["model"])
        self.asked.append(model)
        if model in self.broken:
            yield from host.refusal(404, "model_not_found")
            return
        self.now += 1
        self.most = max(self.most, self.now)
        yield from host.chat_text(f"By {model}.")
        self.now -= 1


@dataclass
class Shop:
    """One tenant, its agent with the model `acme/large`, and its API."""

    platform: Platform
    models: Models
    tenant_id: UUID
    agent_id: str
    key: str
    """An API key."""

    async def api(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = await self.platform.http.request(method, f"/api/v1{path}", headers=headers, **options)
        assert answer.status_code == expect, answer.text
        return answer.json()

    async def steps(self, *steps: str, **more: str) -> None:
        await self.api("PUT", "/usage/steps", json={"steps": [*steps], **more})

    async def nothing_left(self) -> None:
        """All that is included was used."""
        await include(self.platform.services.database, self.tenant_id, tokens=1000)
        await use(self.platform.services.database, self.tenant_id, tokens=1000)

    async def a_tenth_left(self) -> None:
        await include(self.platform.services.database, self.tenant_id, tokens=1_000_000)
        await use(self.platform.services.database, self.tenant_id, tokens=950_000)

    def visitor(self) -> Visitor:
        return self.platform.visitor(self.agent_id)

    async def ask(self, words: str, *, visitor: Visitor | None = None, thread: str | None = None) -> tuple[str, str]:
        """The thread, and what the visitor reads."""
        events = await (visitor or self.visitor()).say(words, thread)
        created = [event["thread"]["id"] for event in events if event["type"] == "thread.created"]
        answers = [event for event in events if event.get("item", {}).get("type") != "user_message"]
        return thread or str(created[0]), spoken(answers)

    async def charged(self) -> dict[str, int]:
        """Tokens by model."""
        rows = (await self.api("GET", "/usage", params={"group_by": "model"}))["data"]
        return {row["model"]: row["input_tokens"] + row["output_tokens"] for row in rows}


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    async with open_platform(test_database, folder, outbound_allowed=("127.0.0.0/8",)) as opened:
        yield opened


@pytest.fixture
async def shop(platform: Platform) -> AsyncIterator[Shop]:
    """A tenant of its own."""
    models = Models()
    async with host.fake_openai(choose=models.reply) as fake:
        tenant_id = ids.new_tenant_id()
        rules = LimitRules.model_validate(
            {
                "visitor": {"messages_per_minute": 10_000, "concurrent": 100},
                "agent": {"messages_per_minute": 10_000},
                "tenant": {"messages_per_minute": 10_000},
            }
        )
        async with platform.services.database.tenant(tenant_id) as session:
            values = {"t": tenant_id, "r": rules.model_dump_json(), "n": clock.now()}
            await session.execute(text("insert into tenants (tenant_id, name) values (:t, 'Shop')"), values)
            await session.execute(
                text("insert into limit_rules (tenant_id, rules, updated_at) values (:t, cast(:r as jsonb), :n)"),
                values,
            )
            _, key = await create_api_key(session, system(tenant_id), name="tests", scopes=["admin"])
        platform.tenant_id = tenant_id
        await platform.provider(fake.url)
        agent_id = await platform.agent(model="acme/large", max_output_tokens=16)
        yield Shop(platform, models, tenant_id, agent_id, key)


@pytest.mark.parametrize("bound", ["plan", "budget"])
async def test_a_hundred_sessions_at_once_pass_a_thousand_tokens_by_no_more_than_the_calls_in_flight(
    shop: Shop, bound: str
) -> None:
    http, database = shop.platform.http, shop.platform.services.database
    if bound == "plan":
        await include(database, shop.tenant_id, tokens=1000)
    else:
        await set_budget(database, shop.tenant_id, Budget(max_tokens=1000))
    body = {"name": "Site", "environment": "production", "origins": [ORIGIN]}
    key = (await shop.api("POST", f"/agents/{shop.agent_id}/domain-keys", 201, json=body))["key"]

    async def come_in() -> dict[str, str]:
        answer = await http.post("/v1/sessions", json={"domain_key": key}, headers={"Origin": ORIGIN})
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}", "Origin": ORIGIN}

    async def chatkit(headers: dict[str, str], type_: str, **params: Any) -> httpx.Response:
        answer = await http.post("/chatkit", json={"type": type_, "params": params}, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer

    async def ask(headers: dict[str, str]) -> tuple[str, str]:
        said = {"content": [{"type": "input_text", "text": "Hi?"}], "attachments": [], "inference_options": {}}
        events = decode((await chatkit(headers, "threads.create", input=said)).content)
        assert not [event for event in events if event["type"] == "error"]
        answers = [event for event in events if event.get("item", {}).get("type") != "user_message"]
        return events[0]["thread"]["id"], spoken(answers)

    visitors = await asyncio.gather(*(come_in() for _ in range(CROWD)))
    assert len({each["Authorization"] for each in visitors}) == CROWD
    waves = 0
    heard: list[tuple[str, str]] = []
    while waves < 10 and await ledger_total(database, shop.tenant_id) < 1000:
        heard = await asyncio.gather(*(ask(each) for each in visitors))
        waves += 1
        assert {answer for _, answer in heard} <= {"By large.", REFUSAL}
    calls, spent = len(shop.models.asked), await ledger_total(database, shop.tenant_id)
    assert spent == TOKENS * calls, "the ledger says what the host said"
    assert 1000 <= spent < 1000 + TOKENS * shop.models.most
    async with database.tenant(shop.tenant_id) as session:
        state = await allowance_state(session, shop.tenant_id)
        assert await session.scalar(text("select count(*) from usage_reservations")) == 0
    if bound == "plan":
        assert (state.used.tokens, state.used.messages, state.refused) == (spent, calls, CROWD * waves - calls)
    else:
        budget = await budget_of(database, shop.tenant_id)
        assert (budget.used_tokens, budget.refused, budget.reserved_tokens) == (spent, CROWD * waves - calls, 0)

    visitor, thread = next(
        (each, thread) for each, (thread, said) in zip(visitors, heard, strict=True) if said == REFUSAL
    )
    kept = (await chatkit(visitor, "items.list", thread_id=thread, order="asc", limit=10)).json()["data"]
    assert [(item["type"], item["content"][0]["text"]) for item in kept] == [
        ("user_message", "Hi?"),
        ("assistant_message", REFUSAL),
    ]


PAIRS = [
    {"question": "How long do refunds take?", "answer": "A refund is on your account within five working days."},
    {"question": "Do you ship to Norway?", "answer": "Yes, parcels to Norway cost twelve euros."},
]
DOCUMENT = """# Refunds

Refunds take nine weeks when they are paid by cheque.

# Wool

Merino wool is washed by hand at thirty degrees.
"""


async def test_over_the_limit_only_approved_answers_are_quoted(shop: Shop) -> None:
    knowledge = shop.platform.services.knowledge
    await shop.api("POST", "/knowledge/documents", 202, files={"file": ("care.md", DOCUMENT.encode())})
    await shop.api("POST", "/knowledge/sources", 201, json={"type": "faq", "name": "Approved", "pairs": PAIRS})
    await run_jobs(knowledge, shop.tenant_id)
    await shop.nothing_left()
    await shop.steps("approved_answers", "ask_email")
    visitor = shop.visitor()
    _, answer = await shop.ask("How long do refunds take?", visitor=visitor)
    assert "within five working days" in answer
    assert "nine weeks" not in answer
    for question in ("How do I wash merino wool?", "How long do parcels from Peru take?", "Who are you?"):
        _, answer = await shop.ask(question, visitor=visitor)
        assert answer == EMAIL_REQUEST, question
    assert shop.models.asked == []
    assert sum((await shop.charged()).values()) == 1000, "no step spent anything"


async def test_the_last_tenth_is_answered_by_the_cheaper_model_and_charged_as_such(shop: Shop) -> None:
    prices = [
        {"provider": "acme", "model": name, "input": price, "output": 0} for name, price in (("large", 9), ("small", 1))
    ]
    await shop.api("PUT", "/usage/prices", json={"prices": prices})
    await shop.a_tenth_left()
    await shop.steps("cheaper_model", "message", cheaper_model="acme/small")
    assert (await shop.ask("Hi?"))[1] == "By small."
    assert shop.models.asked == ["small"]
    rows = (await shop.api("GET", "/usage", params={"group_by": "model"}))["data"]
    (row,) = [row for row in rows if row["model"] == "small"]
    assert (row["provider"], row["input_tokens"], row["output_tokens"], row["cost_micros"]) == ("acme", 120, 7, 120)
    await use(shop.platform.services.database, shop.tenant_id, tokens=50_000)
    assert (await shop.ask("Hi?"))[1] == REFUSAL, "nothing is left now, for the cheaper model neither"
    assert shop.models.asked == ["small"]


@pytest.mark.parametrize("how", ["refused by its host", "its provider is gone"])
@pytest.mark.parametrize(
    ("steps", "said"), [(("ask_email", "message"), EMAIL_REQUEST), (("message",), "By large."), ((), "By large.")]
)
async def test_where_the_cheaper_model_fails_the_next_step_answers_and_nobody_is_told_that_nothing_is_left(
    shop: Shop, how: str, steps: tuple[str, ...], said: str
) -> None:
    await shop.a_tenth_left()
    gone = how == "its provider is gone"
    if gone:
        await shop.platform.provider("http://127.0.0.1:9/v1", name="nobody")
    await shop.steps("cheaper_model", *steps, cheaper_model="nobody/small" if gone else "acme/small")
    async with shop.platform.services.database.tenant(shop.tenant_id) as session:
        await session.execute(text("delete from model_providers where name = 'nobody'"))
    shop.models.broken = {"small"}
    thread, answer = await shop.ask("Hi?", visitor=(visitor := shop.visitor()))
    assert answer == said
    items = await visitor.items(thread)
    assert [item["type"] for item in items] == ["user_message", "assistant_message"]
    async with shop.platform.services.database.tenant(shop.tenant_id) as session:
        assert await session.scalar(text("select count(*) from usage_reservations")) == 0


async def test_an_address_is_asked_for_and_kept_for_the_team(shop: Shop) -> None:
    await shop.nothing_left()
    await shop.steps("ask_email", "message")
    visitor = shop.visitor()
    thread, answer = await shop.ask("Do you have it in blue?", visitor=visitor)
    assert answer == EMAIL_REQUEST
    assert (await shop.ask("anna@example.com", visitor=visitor, thread=thread))[1] == EMAIL_THANKS
    assert (await shop.ask("And in red?", visitor=visitor, thread=thread))[1] == REFUSAL
    kept = (await shop.api("GET", "/usage/contacts"))["data"]
    assert [(each["email"], each["conversation_id"]) for each in kept] == [("anna@example.com", thread)]
    assert shop.models.asked == []


async def test_a_person_is_asked_while_the_plan_includes_that_and_the_next_step_answers_after(shop: Shop) -> None:
    database = shop.platform.services.database
    await shop.nothing_left()
    await shop.steps("hand_over", "ask_email")
    thread, answer = await shop.ask("Hi?")
    assert answer == HandOver().message
    handed = (await shop.api("GET", "/conversations", params={"handling": "waiting_for_person"}))["data"]
    assert [each["id"] for each in handed] == [thread]
    async with database.tenant(shop.tenant_id) as session:
        await add_override(
            session, shop.tenant_id, field="hand_over", value=False, reason="A test.", expires_at=None, by="a test"
        )
        await refresh_allowance(session, shop.tenant_id)
    other, answer = await shop.ask("Hi?")
    assert answer == EMAIL_REQUEST
    handed = (await shop.api("GET", "/conversations", params={"handling": "waiting_for_person"}))["data"]
    assert [each["id"] for each in handed] == [thread], "nobody was asked for the second"
    assert other != thread
