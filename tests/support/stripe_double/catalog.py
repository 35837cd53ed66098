"""What is sold: products and their prices."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]


@route("POST", "/v1/products", "ProductCreateParams")
def create_product(call: Call) -> Json:
    account, now = call.account, call.account.now()
    given = {key: call.params[key] for key in call.params if key not in ("default_price_data", "expand", "id")}
    product_id = call.get("id") or account.new_id("prod", 14)
    if product_id in account.objects:
        raise Refused("Product already exists.", code="resource_already_exists", param="id")
    product = account.put(
        {
            "active": True,
            "images": [],
            "marketing_features": [],
            "metadata": {},
            "type": "service",
            **given,
            "id": product_id,
            "object": "product",
            "created": now,
            "updated": now,
        }
    )
    if data := call.get("default_price_data"):
        product["default_price"] = new_price(account, {**data, "product": product_id})["id"]
    account.emit("product.created", product)
    return product


@route("POST", "/v1/products/{id}", "ProductUpdateParams")
def update_product(call: Call) -> Json:
    return changed(call, "product", "product.updated")


def changed(call: Call, kind: str, event: str, *, apart: tuple[str, ...] = ()) -> Json:
    """Set plain fields; metadata is merged, and an empty value unsets."""
    subject = call.account.find(kind, call.id)
    for key, value in call.params.items():
        if key == "metadata":
            merge_metadata(subject, value)
        elif key not in ("expand", *apart):
            subject[key] = None if value == "" else value
    if "updated" in subject:
        subject["updated"] = call.account.now()
    call.account.emit(event, subject)
    return subject


def merge_metadata(subject: Json, given: Any) -> None:
    if given == "":
        subject["metadata"] = {}
    elif given:
        merged = {**(subject.get("metadata") or {}), **given}
        subject["metadata"] = {key: value for key, value in merged.items() if value != ""}


@route("GET", "/v1/products/{id}", "ProductRetrieveParams")
def get_product(call: Call) -> Json:
    return call.account.find("product", call.id)


@route("GET", "/v1/products", "ProductListParams")
def list_products(call: Call) -> Json:
    wanted = call.get("ids")
    rows = [row for row in call.account.rows("product") if wanted is None or row["id"] in wanted]
    return listed(call, rows, equal=("active",))


@route("DELETE", "/v1/products/{id}", "ProductDeleteParams")
def delete_product(call: Call) -> Json:
    product = call.account.find("product", call.id)
    if any(price["product"] == call.id for price in call.account.rows("price")):
        raise Refused("This product cannot be deleted because it has one or more user-created prices.")
    call.account.emit("product.deleted", product)
    return call.account.drop("product", call.id)


@route("POST", "/v1/prices", "PriceCreateParams")
def create_price(call: Call) -> Json:
    account, params = call.account, dict(call.params)
    if data := params.pop("product_data", None):
        now = account.now()
        product = account.put(
            {
                "active": True,
                "images": [],
                "marketing_features": [],
                "metadata": {},
                "type": "service",
                **data,
                "id": account.new_id("prod", 14),
                "object": "product",
                "created": now,
                "updated": now,
            }
        )
        account.emit("product.created", product)
        params["product"] = product["id"]
    return new_price(account, params)


def new_price(account: Account, params: Json) -> Json:
    if "product" not in params:
        raise Refused("Missing required param: product.", code="parameter_missing", param="product")
    account.named("product", params["product"], "product")
    recurring, tiers = params.get("recurring"), params.get("tiers")
    scheme = params.get("billing_scheme", "per_unit")
    if scheme == "tiered":
        if not tiers or "tiers_mode" not in params or tiers[-1].get("up_to") != "inf":
            raise Refused(
                "Tiered prices need `tiers`, the last of them with `up_to` inf, and `tiers_mode`.", param="tiers"
            )
    elif "unit_amount" not in params and "unit_amount_decimal" not in params:
        raise Refused(
            "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set.", param="unit_amount"
        )
    if recurring and recurring.get("usage_type") == "metered":
        if not recurring.get("meter"):
            raise Refused("You must pass `recurring[meter]` for metered prices.", param="recurring[meter]")
        account.named("billing.meter", recurring["meter"], "recurring[meter]")
    key = params.get("lookup_key")
    for other in account.rows("price"):
        if key and other["lookup_key"] == key:
            if not params.get("transfer_lookup_key"):
                raise Refused(f"A price (`{other['id']}`) already uses that lookup key.", param="lookup_key")
            other["lookup_key"] = None
    amount = params.get("unit_amount_decimal", params.get("unit_amount"))
    price = account.put(
        {
            "id": account.new_id("price"),
            "object": "price",
            "active": params.get("active", True),
            "billing_scheme": scheme,
            "created": account.now(),
            "currency": params["currency"].lower(),
            "lookup_key": key,
            "metadata": params.get("metadata", {}),
            "nickname": params.get("nickname"),
            "product": params["product"],
            "tax_behavior": params.get("tax_behavior", "unspecified"),
            "tiers": [_tier(tier) for tier in tiers] if tiers else None,
            "tiers_mode": params.get("tiers_mode"),
            "transform_quantity": params.get("transform_quantity"),
            "type": "recurring" if recurring else "one_time",
            "recurring": _recurring(recurring) if recurring else None,
            "unit_amount": int(amount) if amount is not None and Decimal(amount) % 1 == 0 else None,
            "unit_amount_decimal": None if amount is None else str(amount),
        }
    )
    account.emit("price.created", price)
    return price


def _recurring(given: Json) -> Json:
    defaults = {"interval_count": 1, "usage_type": "licensed", "meter": None, "trial_period_days": None}
    return {**defaults, **given}


def _tier(given: Json) -> Json:
    tier: Json = {"up_to": None if given["up_to"] == "inf" else int(given["up_to"])}
    for name in ("flat_amount", "unit_amount"):
        amount = given.get(f"{name}_decimal", given.get(name))
        tier[name] = int(amount) if amount is not None and Decimal(amount) % 1 == 0 else None
        tier[f"{name}_decimal"] = None if amount is None else str(amount)
    return tier


@route("POST", "/v1/prices/{id}", "PriceUpdateParams")
def update_price(call: Call) -> Json:
    return changed(call, "price", "price.updated", apart=("transfer_lookup_key", "currency_options"))


@route("GET", "/v1/prices/{id}", "PriceRetrieveParams")
def get_price(call: Call) -> Json:
    return call.account.find("price", call.id)


@route("GET", "/v1/prices", "PriceListParams")
def list_prices(call: Call) -> Json:
    keys, recurring = call.get("lookup_keys"), call.get("recurring", {})
    rows = [
        row
        for row in call.account.rows("price")
        if (keys is None or row["lookup_key"] in keys)
        and all((row["recurring"] or {}).get(name) == value for name, value in recurring.items())
    ]
    return listed(call, rows, equal=("active", "product", "type", "currency"))
