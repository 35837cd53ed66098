"""Bodies as they travel: forms with brackets in (v1), objects out, with what was asked to be expanded."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from support.stripe_double.refusals import Refused

if TYPE_CHECKING:
    from support.stripe_double.account import Account

Json = dict[str, Any]

INCLUDED_ON_DEMAND = {
    "price": {"tiers", "currency_options"},
    "customer": {"subscriptions", "sources", "tax_ids", "tax"},
    "checkout.session": {"line_items"},
    "invoice": {"payments", "confirmation_secret"},
    "coupon": {"applies_to", "currency_options"},
}
"""Fields that Stripe leaves out of an object unless they are expanded."""


def decoded_form(body: str) -> Json:
    """`items[0][price]=price_1` as `{"items": [{"price": "price_1"}]}`; every value is text."""
    tree: Json = {}
    for key, value in parse_qsl(body, keep_blank_values=True, max_num_fields=5_000):
        name, *rest = key.replace("]", "").split("[")
        node = tree
        path = [name, *rest]
        for step, following in itertools.pairwise(path):
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise Refused(f"Invalid request: {key} is both a value and an object", param=following)
        last = path[-1] or str(len(node))  # `expand[]=x`
        node[last] = value
    return {key: _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(item) for key, item in value.items()}
    if inner and all(key.isdigit() for key in inner):
        return [inner[key] for key in sorted(inner, key=int)]
    return inner


def rendered(account: Account, value: Any, expand: tuple[str, ...] = ()) -> Any:
    """What is sent of an object: private fields left out, the paths of `expand` replaced by the objects themselves."""
    if isinstance(value, list):
        return [rendered(account, item, expand) for item in value]
    if not isinstance(value, dict):
        return value
    heads: dict[str, list[str]] = {}
    for path in expand:
        head, _, rest = path.partition(".")
        heads.setdefault(head, []).append(rest)
    kind = value.get("object")
    on_demand = INCLUDED_ON_DEMAND.get(kind, set()) if isinstance(kind, str) else set()
    out: Json = {}
    for key, inner in value.items():
        if key.startswith("_") or (key in on_demand and key not in heads):
            continue
        shown = _expanded(account, value, key, inner) if key in heads else inner
        out[key] = rendered(account, shown, tuple(rest for rest in heads.get(key, []) if rest))
    return out


def _expanded(account: Account, owner: Json, key: str, value: Any) -> Any:
    if owner.get("object") == "customer" and key == "subscriptions":
        owned = [row for row in account.rows("subscription") if row["customer"] == owner["id"]]
        current = [row for row in owned if row["status"] not in ("canceled", "incomplete_expired")]
        return {
            "object": "list",
            "data": current,
            "has_more": False,
            "url": f"/v1/customers/{owner['id']}/subscriptions",
        }
    if isinstance(value, str):
        return account.objects.get(value, value)
    if isinstance(value, list):
        return [account.objects.get(item, item) if isinstance(item, str) else item for item in value]
    return value
