"""An assistant with two documents, and the process's clients with short limits."""

from collections.abc import AsyncIterator

import pytest

from stonechat.assistant.agent import Assistant
from stonechat.db.session import Database
from stonechat.providers.deadlines import StreamLimits
from stonechat.providers.retries import RetryPolicy
from stonechat.settings import Settings
from support.assistant import (
    REFUNDS,
    SHIPPING,
    FakeKnowledge,
    model_providers,
)


@pytest.fixture
def knowledge() -> FakeKnowledge:
    return FakeKnowledge(REFUNDS, SHIPPING)


@pytest.fixture
async def assistant(database: Database, knowledge: FakeKnowledge) -> AsyncIterator[Assistant]:
    limits = StreamLimits(connect=5, first_event=5, idle=5, total=20)
    async with model_providers(database, limits=limits, retries=RetryPolicy(first_pause=0.01)) as providers:
        yield Assistant(knowledge=knowledge, providers=providers, settings=Settings())
