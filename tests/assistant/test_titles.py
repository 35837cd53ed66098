"""Names of conversations: one short call of the agent's own model, bounded and counted like every other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from chatkit.types import ThreadMetadata
from sqlalchemy import select, text

from stonechat import clock, ids
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.titles import MAX_TITLE, TitleModel, tidy_title
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.errors import ProviderResting
from stonechat.identity.caller import Caller
from stonechat.providers.breaker import FAILURES
from stonechat.usage.ledger import UsageLedgerRow
from support import fake_openai as host
from support.assistant import add_provider, model_providers, user_message


@dataclass
class Naming:
    """A conversation that has just begun, and the host that is asked for its name."""

    database: Database
    titles: TitleModel
    fake: host.FakeOpenAI
    tenant_id: UUID

    async def name(self, *, model: str = "acme/small") -> str | None:
        turn = Turn(
            Caller(self.tenant_id, "usr_1", "agt_1"),
            AgentConfig(name="Robin", model=model),
            ThreadMetadata(id="thr_1", created_at=clock.now()),
            [user_message("Two cups of tea, please")],
            lambda _kind: ids.new_id("itm"),
        )
        async with asyncio.timeout(5):
            return await self.titles.title(turn)

    async def uses(self) -> list[tuple[str, str, bool]]:
        row = UsageLedgerRow
        async with self.database.tenant(self.tenant_id) as session:
            found = await session.scalars(select(row).where(row.tenant_id == self.tenant_id))
            return [(use.purpose, f"{use.provider}/{use.model}", use.estimated) for use in found]


@pytest.fixture
async def naming(database: Database, tenant_id: UUID) -> AsyncIterator[Naming]:
    reply = host.chat_whole("“Call 4111 1111 1111 1111.”")
    async with host.fake_openai(reply) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        yield Naming(database, TitleModel(database, providers), fake, tenant_id)


async def test_a_name_is_tidied_held_to_the_rules_and_counted(naming: Naming) -> None:
    name = await naming.name()
    assert name is not None
    assert name.startswith("Call ")
    assert "1111" not in name
    assert [(purpose, model) for purpose, model, _ in await naming.uses()] == [("title", "acme/small")]


async def test_models_built_in_name_nothing(naming: Naming) -> None:
    assert await naming.name(model="extractive") is None
    assert naming.fake.requests == []


async def test_nothing_is_named_for_a_tenant_whose_budget_is_used_up(naming: Naming) -> None:
    async with naming.database.tenant(naming.tenant_id) as session:
        await session.execute(
            text(
                "insert into usage_budgets (tenant_id, max_tokens, month, used_tokens) "
                "values (:t, 1, date_trunc('month', now() at time zone 'utc')::date, 5)"
            ),
            {"t": naming.tenant_id},
        )
    assert await naming.name() is None
    assert naming.fake.requests == []


async def test_a_model_that_is_too_slow_is_counted_all_the_same(
    naming: Naming, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stonechat.assistant.titles.SECONDS", 0.05)
    naming.fake.replies[:] = [[host.SILENCE]]
    assert await naming.name() is None
    assert await naming.uses() == [("title", "acme/small", True)]


async def test_a_host_that_refuses_costs_nothing(naming: Naming) -> None:
    naming.fake.replies[:] = [host.refusal(400)]
    assert await naming.name() is None
    assert await naming.uses() == []


async def test_a_host_that_rests_is_left_alone_and_a_name_counts_for_its_rest(naming: Naming) -> None:
    naming.fake.replies[:] = [host.refusal(500)]
    for _ in range(FAILURES + 2):
        assert await naming.name() is None
    assert len(naming.fake.requests) == FAILURES
    assert await naming.uses() == []
    breakers = naming.titles._providers.breakers
    (place,) = breakers._states  # the one that answers of this model go through
    with pytest.raises(ProviderResting), breakers.calling(place):
        pass
    async with naming.titles._providers.model(naming.tenant_id, "acme/small") as resolved:
        assert resolved.breaker_key == place
    breakers._states[place].open_until = 0  # its rest is over
    naming.fake.replies[:] = [host.chat_whole("Tea for two")]
    assert await naming.name() == "Tea for two"
    assert len(breakers) == 0


async def test_refusing_a_name_is_no_trouble_of_the_hosts(naming: Naming) -> None:
    naming.fake.replies[:] = [host.refusal(400)]
    for _ in range(FAILURES + 1):
        assert await naming.name() is None
    assert len(naming.fake.requests) == FAILURES + 1


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("\n # **Tea for two.**\nand more", "Tea for two"),
        ("“…”", "…"),
        (" \n ", None),
        ("word " * 40, f"{('word ' * 12).strip()}…"),
    ],
)
def test_a_name_is_one_short_line(said: str, name: str | None) -> None:
    assert tidy_title(said) == name
    assert name is None or len(name) <= MAX_TITLE + 1
