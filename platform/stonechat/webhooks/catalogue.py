"""What endpoints can be told: one list for the API's validation, the console's checkboxes, the guide, and what is sent.

`data` of a delivery holds the fields that an event's example has here, and never more: what else a payload carries for
our own subscribers stays inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TEST = "webhook.test"
"""What the button “Send a test” sends, whatever the endpoint asked for. It cannot be chosen."""


@dataclass(frozen=True, slots=True)
class EventKind:
    """A kind of event, as its tenant reads it."""

    name: str
    group: str
    sentence: str
    """When it happens."""
    example: Mapping[str, Any]
    """Of `data`. Fields may be missing where there is nothing to say."""


_CONVERSATION = {
    "conversation_id": "thr_01kb3v5n8x2c4d6e8f0g2h4j6k",
    "agent_id": "agt_01kb3v1q7m9n1p3r5s7t9v1w3x",
    "user_id": "usr_01kb3v4y6z8a0b2c4d6e8f0g2h",
}
_HANDLED = {**_CONVERSATION, "handled_by": "per_01kb3txk2m4n6p8q0r2s4t6v8w"}
_DOCUMENT = {"document_id": "doc_01kb3w0a2b4c6d8e0f2g4h6j8k", "source_id": None, "title": "Returns", "url": None}
_SOURCE = {"source_id": "src_01kb3w2c4d6e8f0g2h4j6k8m0n", "name": "Help pages", "url": "https://shop.example/help"}
_PERIOD = {"period_start": "2026-11-01T00:00:00+00:00", "period_end": "2026-12-01T00:00:00+00:00"}

CATALOGUE: tuple[EventKind, ...] = (
    EventKind(
        "conversation.handed_over",
        "Conversations",
        "An assistant asked for a person.",
        {**_CONVERSATION, "title": "A parcel that did not come", "reason": "The visitor wants a refund."},
    ),
    EventKind("conversation.taken_over", "Conversations", "A person of the team began to answer.", _HANDLED),
    EventKind("conversation.given_back", "Conversations", "A person gave it back to the assistant.", _HANDLED),
    EventKind("conversation.resolved", "Conversations", "What a person was needed for is done.", _HANDLED),
    EventKind(
        "conversation.closed",
        "Conversations",
        "It was closed: it takes no more messages.",
        {**_HANDLED, "reason": "Settled by phone."},
    ),
    EventKind(
        "conversation.locked",
        "Conversations",
        "It was locked: it takes no messages for now.",
        {**_HANDLED, "reason": "We look into it."},
    ),
    EventKind(
        "conversation.reopened",
        "Conversations",
        "It takes messages again.",
        {**_HANDLED, "reason": None},
    ),
    EventKind(
        "conversation.contact_left",
        "Conversations",
        "A visitor left an e-mail address because the assistant could not answer.",
        {**_CONVERSATION, "email": "robin@example.com"},
    ),
    EventKind(
        "message.rated",
        "Conversations",
        "A visitor judged answers.",
        {**_CONVERSATION, "message_ids": ["msg_01kb3v6p0q2r4s6t8v0w2x4y6z"], "rating": "negative"},
    ),
    EventKind("document.ready", "Knowledge", "A document was read, and answers come from it.", _DOCUMENT),
    EventKind(
        "document.failed",
        "Knowledge",
        "A document could not be read.",
        {**_DOCUMENT, "code": "document_encrypted", "error": "This document is protected by a password."},
    ),
    EventKind("source.synced", "Knowledge", "A web source was fetched.", {**_SOURCE, "documents": 12, "removed": 1}),
    EventKind(
        "source.failed",
        "Knowledge",
        "A web source could not be fetched.",
        {**_SOURCE, "code": "source_empty", "error": "The site has no page in it that could be read."},
    ),
    EventKind(
        "agent.published",
        "Agents and plan",
        "What visitors meet of an agent changed.",
        {"agent_id": _CONVERSATION["agent_id"], "name": "Robin", "version": 7},
    ),
    EventKind(
        "usage.threshold_reached",
        "Agents and plan",
        "50, 80 or 100 percent of the plan, or of your own budget, are used.",
        {
            "bound": "plan",
            "percent": 80,
            **_PERIOD,
            "used_messages": 812,
            "included_messages": 1000,
            "used_tokens": 1_310_000,
            "included_tokens": None,
            "used_cost_micros": None,
            "max_tokens": None,
            "max_cost_micros": None,
        },
    ),
    EventKind(
        "subscription.changed",
        "Agents and plan",
        "The plan changed, or its state did: each field that did, before and after.",
        {
            "plan_key": ["starter", "pro"],
            "plan_version": [1, 1],
            "provider": ["stripe", "stripe"],
            "status": ["trialing", "active"],
            "pending_plan_key": [None, None],
            "cancel_at": [None, None],
        },
    ),
)
KINDS: Mapping[str, EventKind] = {kind.name: kind for kind in CATALOGUE}


def data_of(kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    """What of an event's payload is told: the fields of the catalogue that it has."""
    return {name: payload[name] for name in KINDS[kind].example if name in payload}
