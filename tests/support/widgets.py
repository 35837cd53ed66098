"""A tool that shows an order, and the tool that its form runs."""

from __future__ import annotations

from typing import Any

TEMPLATE = {
    "type": "Card",
    "novelty": {"unknown": ["kept", 1]},
    "children": [
        {"type": "Title", "value": "Order {number}"},
        {"$each": "lines", "type": "Row", "children": [{"type": "Text", "value": "{number}. {item.name}: {item.price}"}]},
        {
            "type": "Form",
            "onSubmitAction": {"type": "order.change", "payload": {"number": "{number}"}},
            "children": [{"type": "Input", "name": "note"}, {"type": "Select", "name": "size.value", "options": []}],
        },
        {"type": "Button", "label": "Print", "onClickAction": {"type": "page.print", "handler": "client"}},
        {"type": "Button", "label": "Like", "onClickAction": {"type": "like"}},
    ],
}  # fmt: skip
SHOW = {
    "kind": "widget",
    "name": "show_order",
    "description": "Shows an order.",
    "parameters": {
        "type": "object",
        "properties": {"number": {"type": "string"}, "lines": {"type": "array", "maxItems": 100}},
        "required": ["number"],
    },
    "template": TEMPLATE,
    "copy_text": "Order {number}",
    "actions": {"order.change": "change_order"},
}
ORDER = {"number": "A7", "lines": [{"name": "Tea", "price": 3}, {"name": "Cake", "price": 4.5}]}
EVIL = "See [this](https://evil.example/?q=1), card 4111 1111 1111 1111 ![x](https://evil.example/x.png)"
"""What a model or a service was talked into saying."""


def change(url: str, **changes: Any) -> dict[str, Any]:
    """A tool that needs no approval, unless `changes` say so."""
    return {
        "approval": "never",
        "kind": "http",
        "name": "change_order",
        "description": "Changes an order.",
        "method": "POST",
        "url": f"{url}/orders/{{number}}",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "note": {"type": "string", "maxLength": 20}},
            "required": ["number"],
        },
    } | changes
