"""What receivers get, whatever they do: signed, at least once, never followed elsewhere, and never without an end."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.memberships import add_member
from stonechat.webhooks import delivering, sending
from stonechat.webhooks.deliveries import replay_delivery
from stonechat.webhooks.delivering import IN_A_ROW, SCHEDULE
from stonechat.webhooks.endpoints import EndpointChanges, change_endpoint, rotate_secret
from support.loopback import Answer, Received, plain, serve
from support.outbound import write_for_ever
from support.webhooks import KEYRING, OK, SETTINGS, TAKEN, Hooks, at, signature_of


async def test_an_event_arrives_signed_as_the_specification_says(hooks: Hooks) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        event_id = await hooks.happen()
        await hooks.deliver(endpoint.id)
        (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/hook")
    assert request.headers["webhook-id"] == event_id
    assert "." not in event_id
    assert abs(int(request.headers["webhook-timestamp"]) - clock.now().timestamp()) < 60
    assert request.headers["webhook-signature"] == signature_of(endpoint.secret, request)
    assert request.headers["content-type"] == "application/json"
    told = json.loads(request.body)
    assert told.keys() == {"type", "timestamp", "data"}
    assert (told["type"], told["data"]) == ("conversation.taken_over", TAKEN)
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert (delivery.status, delivery.last_status, delivery.response) == ("delivered", 200, "thanks")
    assert delivery.duration_ms is not None


async def test_only_what_was_asked_for_arrives_and_only_once(hooks: Hooks) -> None:
    async with serve(OK) as receiver:
        some = await hooks.endpoint(at(receiver.port, "/some"), events=["conversation.closed"])
        every = await hooks.endpoint(at(receiver.port, "/all"))
        event_id = await hooks.happen()
        await hooks.dispatch(event_id)  # a job runs at least once
        for endpoint in (some, every):
            await hooks.deliver(endpoint.id)
            await hooks.deliver(endpoint.id)
        assert [request.path for request in receiver.requests] == ["/all"]


async def test_what_a_payload_holds_besides_stays_inside(hooks: Hooks) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen(payload={**TAKEN, "internal": "of no one's concern"})
        await hooks.deliver(endpoint.id)
        assert b"internal" not in receiver.requests[0].body


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_day(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        async with hooks.database.tenant(hooks.tenant_id) as session:
            rotated = await rotate_secret(session, hooks.actor, endpoint_id=endpoint.id, keyring=KEYRING)
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        later = clock.now() + timedelta(hours=25)
        monkeypatch.setattr(clock, "now", lambda: later)
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        first, second = receiver.requests
    both = [signature_of(secret, first) for secret in (rotated.secret, endpoint.secret)]
    assert first.headers["webhook-signature"].split(" ") == both
    assert second.headers["webhook-signature"] == signature_of(rotated.secret, second)


async def hang(_request: Received, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def stay_silent_after_the_head(_request: Received, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
    await asyncio.sleep(30)


async def hang_up(_request: Received, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


HOSTILE: dict[str, tuple[Answer | bytes, int | None, str]] = {
    "hangs": (hang, None, "did not answer in time"),
    "hangs up": (hang_up, None, "not proper HTTP"),
    "speaks nonsense": (b"nonsense\r\n\r\n", None, "not proper HTTP"),
    "fails": (plain(b"oh dear", status=500), 500, "failed (500)"),
    "refuses": (plain(status=403), 403, "refused it (403)"),
    "is not there": (plain(status=404), 404, "nothing at this address"),
    "redirects to a private address": (
        plain(status=307, headers={"Location": "http://10.0.0.1/metadata"}),
        307,
        "redirects are not followed",
    ),
    "says it answers with too much": (plain(b"x" * 2_000_000), None, "larger than"),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_an_attempt_that_failed_is_made_again(hooks: Hooks, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "SECONDS", 0.2)
    answer, status, words = HOSTILE[how]
    async with serve(answer) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        event_id = await hooks.happen()
        await hooks.deliver(endpoint.id)
        (delivery,) = await hooks.deliveries(endpoint.id)
        assert len(receiver.requests) == 1, "nothing was followed, and nothing tried twice at once"
    assert (delivery.status, delivery.attempts, delivery.last_status) == ("queued", 1, status)
    assert words in delivery.last_error
    assert len(delivery.response) <= 2000
    assert SCHEDULE[0] <= hooks.until_next(delivery) < SCHEDULE[0] * 1.3 + timedelta(seconds=2)
    async with serve(OK) as receiver:
        async with hooks.database.tenant(hooks.tenant_id) as session:
            changes = EndpointChanges(url=at(receiver.port))
            await change_endpoint(session, hooks.actor, endpoint_id=endpoint.id, settings=SETTINGS, changes=changes)
        await hooks.pass_time(endpoint.id, timedelta(minutes=1))
        await hooks.deliver(endpoint.id)
        assert receiver.requests[0].headers["webhook-id"] == event_id, "the same on every attempt"
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert (delivery.status, delivery.attempts, delivery.last_error) == ("delivered", 2, "")


@pytest.mark.parametrize("answer", [write_for_ever, stay_silent_after_the_head], ids=["endless", "silent"])
async def test_of_a_body_only_the_beginning_is_read(
    hooks: Hooks, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "EXCERPT_SECONDS", 0.1)
    async with serve(answer) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.deliver(endpoint.id)
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert (delivery.status, delivery.last_status) == ("delivered", 200)
    assert delivery.response in ("x" * 2000, "")


async def test_a_private_address_is_never_asked(hooks: Hooks) -> None:
    endpoint = await hooks.endpoint("http://sly.test/hook")
    await hooks.happen()
    await hooks.deliver(endpoint.id)
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert "not on the public internet" in delivery.last_error
    assert delivery.last_status is None


@pytest.mark.parametrize(("asked", "least"), [("90", 90), ("999999999", 6 * 3600), ("nonsense", 5)])
async def test_who_is_asked_too_often_is_left_alone_for_as_long_as_it_says(
    hooks: Hooks, asked: str, least: int
) -> None:
    async with serve(plain(status=429, headers={"Retry-After": asked})) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        tried = len(receiver.requests)
    first, _ = await hooks.deliveries(endpoint.id)
    assert timedelta(seconds=least) <= hooks.until_next(first) < timedelta(seconds=least * 1.2 + 3)
    assert tried == (2 if asked == "nonsense" else 1), "a rest is the whole endpoint's"


async def test_the_schedule_ends_after_most_of_a_day(hooks: Hooks) -> None:
    async with serve(plain(status=500)) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        for planned in (*SCHEDULE, None):
            await hooks.deliver(endpoint.id)
            (delivery,) = await hooks.deliveries(endpoint.id)
            if planned is not None:
                assert planned <= hooks.until_next(delivery) < planned * 1.2 + timedelta(seconds=3)
            await hooks.pass_time(endpoint.id, timedelta(hours=13))
        assert (delivery.status, delivery.attempts, len(receiver.requests)) == ("failed", 8, 8)
    assert timedelta(hours=12) < sum(SCHEDULE, timedelta()) < timedelta(days=1)


async def test_a_dead_endpoint_is_asked_seldom_however_much_waits(hooks: Hooks) -> None:
    async with serve(plain(status=503)) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        for _ in range(6):
            await hooks.happen()
        for _ in range(4):
            await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == delivering.RESTS_AFTER
        await hooks.pass_time(endpoint.id, delivering.FIRST_REST + timedelta(seconds=1))
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == delivering.RESTS_AFTER + 1, "one, to see whether it is back"


async def test_who_is_gone_is_sent_nothing_more_and_the_owners_are_told(hooks: Hooks) -> None:
    await own(hooks)
    async with serve(plain(status=410)) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == 1
    row = await hooks.row(endpoint.id)
    assert (row.enabled, row.disabled_reason) == (False, "gone")
    assert {delivery.status for delivery in await hooks.deliveries(endpoint.id)} == {"failed"}
    assert await mails(hooks) == ["Webhooks to one.test are switched off"]


async def test_who_only_fails_for_days_is_switched_off_and_the_owners_are_told(hooks: Hooks) -> None:
    await own(hooks)
    async with serve(plain(status=500)) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        await hooks.pass_time(endpoint.id, timedelta(days=4))
        await hooks.deliver(endpoint.id)
        assert (await hooks.row(endpoint.id)).enabled
        await hooks.pass_time(endpoint.id, timedelta(days=1))
        await hooks.deliver(endpoint.id)
    row = await hooks.row(endpoint.id)
    assert (row.enabled, row.disabled_reason) == (False, "failing")
    assert await mails(hooks) == ["Webhooks to one.test are switched off"]


async def test_one_success_and_the_days_of_failing_begin_anew(hooks: Hooks) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        async with hooks.database.tenant(hooks.tenant_id) as session:
            await session.execute(
                text("update webhook_endpoints set failures = 9, failing_since = now() - interval '4 days'")
            )
        await hooks.deliver(endpoint.id)
    row = await hooks.row(endpoint.id)
    assert (row.failures, row.failing_since) == (0, None)


async def test_a_worker_that_dies_between_attempt_and_record_loses_nothing(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        event_id = await hooks.happen()

        async def die(*_: object) -> None:
            raise SystemExit  # what a kill leaves behind: the request is out, the transaction never began

        with monkeypatch.context() as patch:
            patch.setattr(hooks.deliverer, "_record", die)
            with pytest.raises(SystemExit):
                await hooks.deliver(endpoint.id)
        (delivery,) = await hooks.deliveries(endpoint.id)
        assert (delivery.status, delivery.attempts) == ("queued", 1)
        await hooks.deliver(endpoint.id)  # another worker, while the dead one's lease holds
        assert len(receiver.requests) == 1
        await hooks.pass_time(endpoint.id, delivering.LEASE + timedelta(seconds=1))
        await hooks.deliver(endpoint.id)
        assert [request.headers["webhook-id"] for request in receiver.requests] == [event_id] * 2
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)


async def test_two_workers_do_not_send_to_one_endpoint_at_once(hooks: Hooks) -> None:
    at_once, most = 0, 0

    async def slow(_request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        writer.write(OK)

    async with serve(slow) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        for _ in range(4):
            await hooks.happen()
        await asyncio.gather(*(hooks.deliver(endpoint.id) for _ in range(3)))
        ids = [request.headers["webhook-id"] for request in receiver.requests]
    assert (len(set(ids)), len(ids), most) == (4, 4, 1)


async def test_one_job_sends_so_many_and_then_lets_others_go_first(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert IN_A_ROW <= 50
    monkeypatch.setattr(delivering, "IN_A_ROW", 2)
    async with serve(OK) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        for _ in range(3):
            await hooks.happen()
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == 2
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == 3


async def test_a_replay_while_an_attempt_is_out_has_the_last_word(
    hooks: Hooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = False

    async def replay_meanwhile(_request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal replayed
        if not replayed:
            replayed = True
            (delivery,) = await hooks.deliveries(endpoint.id)
            async with hooks.database.tenant(hooks.tenant_id) as session:
                await replay_delivery(session, hooks.actor, endpoint_id=endpoint.id, delivery_id=delivery.delivery_id)
        writer.write(OK)

    async with serve(replay_meanwhile) as receiver:
        endpoint = await hooks.endpoint(at(receiver.port))
        await hooks.happen()
        await hooks.deliver(endpoint.id)
        assert len(receiver.requests) == 2
    (delivery,) = await hooks.deliveries(endpoint.id)
    assert delivery.status == "delivered"


async def own(hooks: Hooks) -> None:
    """Give the tenant an owner."""
    async with hooks.database.tenant(hooks.tenant_id) as session:
        await add_member(session, hooks.actor, email=f"owner-{hooks.tenant_id.hex}@example.com", role="owner")


async def mails(hooks: Hooks) -> list[str]:
    """Subjects of the mails of this tenant."""
    async with hooks.database.platform() as session:
        found = await session.scalars(
            text("select subject from mail_log where tenant_id = :tenant"), {"tenant": hooks.tenant_id}
        )
        return list(found)
