"""Webhooks: what is not signed is refused and logged, what is signed is taken in once, and nobody's event is lost."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from stonechat import clock, ids
from stonechat.billing import webhooks
from stonechat.billing.customers import register_customer
from stonechat.billing.models import BillingEventRow
from stonechat.db.session import Database
from stonechat.errors import NotFound, WebhookRefused
from support.billing import SECRET, held_clock, paying_tenant, signature, snapshot, thin, waiting_jobs
from support.platform import Platform, open_platform
from support.postgres import TestDatabase


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    changes = {
        "stripe_secret_key": SecretStr("sk_test_123"),
        "stripe_webhook_secret": SecretStr(f"whsec_of_another_destination, {SECRET}"),
        "stripe_api_base": "http://127.0.0.1:9",
    }
    async with open_platform(test_database, tmp_path_factory.mktemp("billing"), **changes) as opened:
        yield opened


@pytest.fixture
async def customer_id(database: Database) -> str:
    """A customer of a tenant of its own."""
    tenant_id = await paying_tenant(database)
    async with database.tenant(tenant_id) as session:
        return await register_customer(session, tenant_id, ids.new_id("cus"))


async def post(platform: Platform, payload: bytes, header: str | None) -> int:
    headers = {} if header is None else {"Stripe-Signature": header}
    return (await platform.http.post("/webhooks/stripe", content=payload, headers=headers)).status_code


async def event(database: Database, event_id: str) -> BillingEventRow | None:
    async with database.directory() as session:
        return await session.get(BillingEventRow, event_id)


def forged(payload: bytes) -> str:
    return signature(payload, secret="whsec_guessed_by_somebody_else_000")


BAD = {
    "forged": forged,
    "signed with nothing": lambda payload: signature(payload, secret=""),
    "old": lambda payload: signature(payload, at=clock.now() - timedelta(minutes=6)),
    "of the future": lambda payload: signature(payload, at=clock.now() + timedelta(minutes=6)),
    "of another body": lambda payload: signature(payload + b" "),
    "empty": lambda _payload: "",
    "unsigned": lambda _payload: None,
    "without a time": lambda payload: signature(payload).partition(",")[2],
    "of another scheme": lambda payload: signature(payload).replace("v1=", "v0="),
    "nonsense": lambda _payload: "t=,v1=,=,t=t",
    "endless": lambda payload: signature(payload) + ",v1=0" * 1000,
}


@pytest.mark.parametrize("bad", BAD)
async def test_what_is_not_signed_is_refused_and_logged(
    platform: Platform, customer_id: str, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    event_id = ids.new_id("evt")
    payload = snapshot(customer_id, event_id=event_id)
    with caplog.at_level(logging.WARNING, "stonechat.billing.webhooks"):
        assert await post(platform, payload, BAD[bad](payload)) == 400
    assert "was refused" in caplog.text
    assert SECRET not in caplog.text
    assert await event(platform.services.database, event_id) is None


@pytest.mark.parametrize(
    ("reason", "payload", "header"),
    [
        ("wrong_signature", b"{}", forged),
        ("unsigned", b"{}", lambda _payload: None),
        ("too_old", b"{}", BAD["of the future"]),
        ("malformed", b"{}", signature),
    ],
)
async def test_what_is_refused_is_counted_by_its_reason(
    platform: Platform, reason: str, payload: bytes, header: Callable[[bytes], str | None]
) -> None:
    async def counted() -> dict[str, int]:
        async with platform.services.database.platform() as session:
            return await webhooks.count_refusals(session, day=clock.now().date())

    before = await counted()
    for _ in range(2):
        assert await post(platform, payload, header(payload)) == 400
    assert await counted() == before | {reason: before.get(reason, 0) + 2}


async def test_a_refusal_waits_for_no_count(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise OperationalError("select", {}, ConnectionRefusedError())

    monkeypatch.setattr(database, "platform", away)
    with pytest.raises(WebhookRefused):
        await webhooks.receive(database, b"{}", signature=None, secrets=[SECRET])


@pytest.mark.parametrize("secrets", [[], [""], ["", "  "]])
async def test_without_a_secret_every_webhook_is_refused(
    database: Database, customer_id: str, secrets: list[str]
) -> None:
    payload = snapshot(customer_id)
    for header in (signature(payload, secret=""), signature(payload, secret="  "), signature(payload)):
        with pytest.raises(WebhookRefused):
            await webhooks.receive(database, payload, signature=header, secrets=secrets)


async def test_a_platform_without_stripe_has_no_such_address(test_database: TestDatabase, tmp_path: Path) -> None:
    async with open_platform(test_database, tmp_path) as opened:
        payload = snapshot("cus_1")
        assert await post(opened, payload, signature(payload)) == 404


NO_EVENTS = [
    b"", b"null", b"[]", b"{}", b'{"object": "event"}', b"\xff", b"[" * 2000, b'{"object":"event","type":"a","id":"b"}',
    b'{"object":"event","type":"a","id":"b","created":"x","data":{"object":{}}}',
    b'{"object":"event","type":"a","id":"b","created":1e300,"data":{"object":{}}}',
    b'{"object":"event","type":"a\\u0000","id":"b","created":1,"data":{"object":{}}}',
    b'{"object":"event","type":"a","id":"b","created":1,"data":{"object":{"customer":7}}}',
    b'{"object":"v2.core.event","type":"a","id":"b","created":"2027-01-01T00:00:00"}',
    b'{"object":"event","type":"a","id":"\\ud800","created":1,"data":{"object":{}}}',
    b'{"object":"event","type":"a","id":"b","created":1,"data":{"object":{"customer":"cus_\\udfff"}}}',
    b'{"object":"v2.core.event","type":"\\udbff\\ud800","id":"b","created":"2027-01-01T00:00:00Z"}',
]  # fmt: skip


@pytest.mark.parametrize("payload", NO_EVENTS, ids=range(len(NO_EVENTS)))
async def test_what_is_signed_and_no_event_is_a_bad_request(platform: Platform, payload: bytes) -> None:
    header = signature(payload) if payload != b"\xff" else "t=1,v1=00"
    assert await post(platform, payload, header) == 400


async def test_an_event_is_taken_in_once(platform: Platform, customer_id: str) -> None:
    event_id = ids.new_id("evt")
    payload = snapshot(customer_id, event_id=event_id)
    for _ in range(3):
        assert await post(platform, payload, signature(payload)) == 204
    taken = await event(platform.services.database, event_id)
    assert taken is not None
    assert taken.state == "queued"
    assert taken.tenant_id is not None
    assert await waiting_jobs(platform.services.database, taken.tenant_id, "billing.sync") == 1


async def test_many_events_of_a_customer_make_one_job(platform: Platform, customer_id: str) -> None:
    for _ in range(10):
        payload = snapshot(customer_id)
        assert await post(platform, payload, signature(payload)) == 204
    async with platform.services.database.directory() as session:
        tenant_id = await webhooks.tenant_of_customer(session, customer_id)
    assert tenant_id is not None
    assert await waiting_jobs(platform.services.database, tenant_id, "billing.sync") == 1


async def test_the_event_of_an_unknown_customer_is_kept_and_matched_later(database: Database) -> None:
    tenant_id, customer_id, event_id = await paying_tenant(database), ids.new_id("cus"), ids.new_id("evt")
    payload = snapshot(customer_id, event_id=event_id)
    assert await webhooks.receive(database, payload, signature=signature(payload), secrets=[SECRET])
    kept = await event(database, event_id)
    assert kept is not None
    assert (kept.state, kept.tenant_id) == ("unmatched", None)
    async with database.tenant(tenant_id) as session:
        await register_customer(session, tenant_id, customer_id)
    assert await webhooks.match_events(database, tenant_id, customer_id=customer_id) == 1
    matched = await event(database, event_id)
    assert matched is not None
    assert (matched.state, matched.tenant_id) == ("queued", tenant_id)
    assert await waiting_jobs(database, tenant_id, "billing.sync") == 1


async def test_a_thin_event_asks_whose_its_object_is(database: Database) -> None:
    payload = thin("subscription", "sub_1", event_id=(event_id := ids.new_id("evt")))
    assert await webhooks.receive(database, payload, signature=signature(payload), secrets=[SECRET])
    kept = await event(database, event_id)
    assert kept is not None
    assert (kept.state, kept.thin, kept.object_id) == ("queued", True, "sub_1")
    assert await waiting_jobs(database, UUID(int=0), "billing.locate") >= 1


async def test_what_concerns_no_customer_is_kept_and_ignored(database: Database) -> None:
    payload = thin("price", "price_1", event_id=(event_id := ids.new_id("evt")))
    assert await webhooks.receive(database, payload, signature=signature(payload), secrets=[SECRET])
    kept = await event(database, event_id)
    assert kept is not None
    assert kept.state == "ignored"


async def test_a_failed_event_is_replayed(database: Database, customer_id: str) -> None:
    payload = snapshot(customer_id, event_id=(event_id := ids.new_id("evt")))
    await webhooks.receive(database, payload, signature=signature(payload), secrets=[SECRET])
    async with database.directory() as session:
        tenant_id = await webhooks.tenant_of_customer(session, customer_id)
    assert tenant_id is not None
    await webhooks.mark_failed(database, tenant_id=tenant_id, reason="Stripe was down.")
    failed = await event(database, event_id)
    assert failed is not None
    assert (failed.state, failed.error) == ("failed", "Stripe was down.")
    await webhooks.replay_event(database, event_id)
    again = await event(database, event_id)
    assert again is not None
    assert (again.state, again.error) == ("queued", None)
    await webhooks.mark_done(database, tenant_id, before=clock.now())
    done = await event(database, event_id)
    assert done is not None
    assert done.state == "done"
    with pytest.raises(NotFound):
        await webhooks.replay_event(database, "evt_unheard_of")


async def test_events_long_over_are_forgotten(database: Database) -> None:
    payload = thin("price", "price_1", event_id=(event_id := ids.new_id("evt")))
    with held_clock(clock.now() - timedelta(days=181)):
        await webhooks.receive(database, payload, signature=signature(payload), secrets=[SECRET])
    assert await webhooks.purge_events(database) >= 1
    assert await event(database, event_id) is None
