"""What `extractive` knows and admits not to know, on the demo's own documents and questions as people ask them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import stonechat as package
from support.api import Tenant, new_tenant
from support.running import Running

ORIGIN = "https://shop.example"
SHOP = Path(package.__file__).parent / "demo" / "shop"
LONGEST_QUOTE = 600

ANSWERABLE = [
    ("How much is delivery to Germany?", ["9.50"]),
    ("When will my order leave if I order at 3 pm?", ["next working day", "1 pm"]),
    ("can i change my delivery address after ordering", ["until the parcel is dispatched"]),
    ("What happens if my parcel gets lost?", ["replacement", "search with the carrier"]),
    ("Do I pay customs for an order to the US?", ["not included", "courier asks"]),
    ("How many days do I have to return a blanket?", ["60 days"]),
    ("Can I send back worn slippers?", ["Socks and slippers that have been worn", "cannot be returned"]),
    ("how long does a refund take", ["three working days", "five working days"]),
    ("Do I need a printer to return something?", ["no printer", "QR code"]),
    ("Is moth damage covered by the guarantee?", ["does not cover moth damage"]),
    ("What does it cost to mend a moth hole of 3 cm?", ["£24"]),
    ("Do I need the receipt to claim on the ten year promise?", ["do not need the receipt"]),
    ("Can I pay in instalments?", ["three", "Klarna"]),
    ("How long is a gift card valid?", ["five years"]),
    ("is there a student discount?", ["15 %"]),
    ("When is the mill shop open?", ["Wednesday to Saturday"]),
    ("Who founded the company?", ["Maud and Piers Holroyd"]),
    ("Where does the wool come from?", ["Bluefaced Leicester", "British"]),
    ("Can I tumble dry a blanket?", ["Do not tumble dry"]),
    ("how do I get red wine out of wool?", ["sparkling water"]),
]
UNANSWERABLE = [
    "What is the CEO's mobile number?",
    "Do you sell electric blankets?",
    "Which bus goes to the airport?",
    "Can you recommend a good hotel in Leeds?",
    "How many calories are in a croissant?",
    "Do you ship to Japan by boat?",
    "What was your turnover last year?",
    "How do I reset my password?",
    "Are you hiring weavers?",
    "Do you offer knitting classes for beginners?",
]


@pytest.fixture(scope="module")
async def tenant(stonechat: Running) -> AsyncIterator[Tenant]:
    async with new_tenant(stonechat, "Quality") as tenant:
        for path in sorted(SHOP.iterdir()):
            document = await tenant.document(path.name, path.read_bytes())
            assert document["status"] == "ready", document
        yield tenant


async def test_it_answers_what_the_documents_say_and_abstains_otherwise(tenant: Tenant) -> None:
    key = await tenant.domain_key(await tenant.agent(), ORIGIN)
    limits = await tenant.call("GET", "/limits")
    limits["visitor"]["messages_per_minute"] = 100
    await tenant.call("PUT", "/limits", json=limits)
    token = (await tenant.session(key, ORIGIN))["token"]
    missed, invented = [], []
    for question, wanted in ANSWERABLE:
        answer = await tenant.ask(token, ORIGIN, question)
        quoted = " ".join(line[1:].strip() for line in answer.text.splitlines() if line.startswith(">"))
        assert len(quoted) <= LONGEST_QUOTE
        if not any(fact in quoted for fact in wanted):
            missed.append((question, answer.text))
        elif not answer.sources:
            missed.append((question, "no source"))
    for question in UNANSWERABLE:
        answer = await tenant.ask(token, ORIGIN, question)
        if answer.sources or "\n>" in answer.text:
            invented.append((question, answer.text))
    assert len(missed) <= len(ANSWERABLE) - 16, missed
    assert len(invented) <= len(UNANSWERABLE) - 8, invented
