"""Signatures against the published example of Standard Webhooks, and what secrets look like."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from stonechat.webhooks.signing import new_signing_secret, signed_headers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SENT = {
    "message_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "attempted_at": datetime.fromtimestamp(1614265330, UTC),
    "body": b'{"test": 2432232314}',
}
KNOWN = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_published_example_has_its_signature() -> None:
    assert signed_headers([SECRET], **SENT) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": KNOWN,
    }


def test_two_secrets_sign_side_by_side() -> None:
    other = new_signing_secret()
    first, second = signed_headers([other, SECRET], **SENT)["webhook-signature"].split(" ")
    assert second == KNOWN
    assert first.startswith("v1,")
    assert first != second


def test_a_secret_is_long_enough_and_never_the_same() -> None:
    made = {new_signing_secret() for _ in range(20)}
    assert len(made) == 20
    assert all(secret.startswith("whsec_") for secret in made)
    assert all(24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64 for secret in made)
