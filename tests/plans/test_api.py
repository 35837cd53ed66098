"""`GET /api/v1/plan` says what holds, and why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.api import plan
from stonechat.api.dependencies import Services
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from support.plans import OPERATOR
from support.postgres import TestDatabase
from support.visitors import build_app, client_of, running_services


@pytest.fixture(scope="module")
async def services(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path_factory.mktemp("plans")) as opened:
        yield opened


async def test_a_script_reads_what_the_plan_allows_and_why(services: Services, tenant_id: UUID) -> None:
    until = datetime(2999, 1, 1, tzinfo=UTC)
    async with services.database.tenant(tenant_id) as session:
        _, key = await create_api_key(session, system(tenant_id), name="reads", scopes=["read"])
        await set_subscription(session, tenant_id, plan_key="starter", provider="manual", status="active")
        await add_override(session, tenant_id, field="seats", value=9, reason="Beta.", expires_at=until, by=OPERATOR)
    app = build_app(services)
    app.include_router(plan.router, prefix="/api/v1")
    async with client_of(app) as api:
        answer = await api.get("/api/v1/plan", headers={"Authorization": f"Bearer {key}"})
    told = answer.json()
    assert answer.status_code == 200, answer.text
    assert (told["effective"]["key"], told["effective"]["seats"], told["effective"]["agents"]) == ("starter", 9, 3)
    assert (told["subscription"]["plan"], told["subscription"]["status"], told["lapsed"]) == (
        "starter",
        "active",
        False,
    )
    seats = next(line for line in told["explain"] if line["field"] == "seats")
    assert seats["in_words"] == "Starter: 3. Exception until 1 January 2999: 9. Reason: Beta."
    assert (seats["plan_value"], seats["override_value"], seats["effective"]) == (3, 9, 9)
    assert OPERATOR not in answer.text
