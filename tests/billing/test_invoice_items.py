"""The double speaks of invoice items as Stripe does: what it refuses here would fail there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from support.stripe_gateway import stripe_in_process

START = datetime(2027, 3, 1, tzinfo=UTC)


@pytest.fixture
async def v1() -> AsyncIterator[Any]:
    async with stripe_in_process(clock=lambda: START) as double:
        yield double.client.v1


@pytest.fixture
async def customer(v1: Any) -> str:
    await v1.products.create_async({"id": "beyond", "name": "Tokens beyond the plan"})
    return str((await v1.customers.create_async({"name": "Acme"}))["id"])


def of_price(**more: Any) -> dict[str, Any]:
    return {"price_data": {"currency": "eur", "product": "beyond", "unit_amount_decimal": "0.0002"}, **more}


async def test_an_item_waits_for_the_next_invoice_and_is_found_by_what_was_noted_on_it(v1: Any, customer: str) -> None:
    params = of_price(customer=customer, quantity=1_234_567, metadata={"settlement": "set_1"}, description="So many")
    options = {"idempotency_key": "set_1"}
    made = [await v1.invoice_items.create_async(params, options) for _ in range(2)]
    assert made[0]["id"] == made[1]["id"]
    assert (made[0]["amount"], made[0]["currency"], made[0]["invoice"]) == (247, "eur", None)
    with pytest.raises(stripe.IdempotencyError):
        await v1.invoice_items.create_async(params | {"quantity": 1}, options)
    listed = await v1.invoice_items.list_async({"customer": customer, "created": {"gte": int(START.timestamp())}})
    assert [item["metadata"]["settlement"] for item in listed["data"]] == ["set_1"]
    assert not (await v1.invoice_items.list_async({"customer": customer, "pending": False}))["data"]
    plain = await v1.invoices.create_async({"customer": customer, "auto_advance": True})
    assert plain["lines"]["data"] == [], "only an invoice that is told to takes what waits"
    params = {"customer": customer, "auto_advance": True, "pending_invoice_items_behavior": "include"}
    invoice = await v1.invoices.create_async(params)
    (line,) = invoice["lines"]["data"]
    assert (line["amount"], line["quantity"], line["description"]) == (247, 1_234_567, "So many")
    assert (await v1.invoice_items.retrieve_async(made[0]["id"]))["invoice"] == invoice["id"]


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"amount": 100},
        {"amount": 100, "currency": "eur", "quantity": 2},
        of_price(amount=100),
        of_price(currency="usd"),
        of_price(period={"start": 20, "end": 10}),
        {"price_data": {"currency": "eur", "product": "nothing", "unit_amount": 1}},
        of_price(settlement="set_1"),
    ],
)
async def test_what_stripe_does_not_take_is_refused(v1: Any, customer: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        await v1.invoice_items.create_async({"customer": customer, **wrong})


async def test_an_item_is_deleted_while_its_invoice_is_a_draft(v1: Any, customer: str) -> None:
    item = await v1.invoice_items.create_async({"customer": customer, "amount": 100, "currency": "eur"})
    await v1.invoice_items.delete_async(item["id"])
    with pytest.raises(stripe.InvalidRequestError):
        await v1.invoice_items.retrieve_async(item["id"])
    item = await v1.invoice_items.create_async({"customer": customer, "amount": 100, "currency": "eur"})
    params = {"customer": customer, "pending_invoice_items_behavior": "include"}
    invoice = await v1.invoices.create_async(params)
    await v1.invoices.finalize_invoice_async(invoice["id"])
    with pytest.raises(stripe.InvalidRequestError):
        await v1.invoice_items.delete_async(item["id"])
