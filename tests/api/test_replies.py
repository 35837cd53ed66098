"""A script that answers a conversation, and is not sure whether it did."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.management import Management, management
from support.postgres import TestDatabase
from support.uploads import UploadSite


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("replies")) as opened:
        yield opened


async def test_a_reply_that_is_sent_again_is_said_once(house: Management) -> None:
    site = UploadSite(house.app, house.services, house.client, house.services.settings.data_dir / "files")
    ada = await site.newcomer(hand_over={"enabled": True})
    [thread] = [event["thread"]["id"] for event in await ada.say("Hello?") if event["type"] == "thread.created"]
    shop = await house.key(ada.caller.tenant_id, "write")
    await shop.call("POST", f"/conversations/{thread}/take-over", json={})
    key = {"Idempotency-Key": "one-reply"}
    replies = [
        await shop.call("POST", f"/conversations/{thread}/reply", json={"text": "I am here."}, headers=key)
        for _ in range(2)
    ]
    assert replies[0] == replies[1]
    items = (await shop.call("GET", f"/conversations/{thread}"))["items"]
    assert [item["id"] for item in items].count(replies[0]["item_id"]) == 1
    assert str(items).count("I am here.") == 1
