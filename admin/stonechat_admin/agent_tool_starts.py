"""Widgets to start from, and the lines that a page needs for a tool of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from stonechat.assistant.config_tools import ClientTool


@dataclass(frozen=True)
class Start:
    """A widget to begin with."""

    label: str
    hint: str
    values: dict[str, Any]
    template: dict[str, Any]


def _argument(name: str, about: str, example: str, *, needed: str = "yes") -> dict[str, str]:
    return {"name": name, "about": about, "type": "string", "needed": needed, "only": "", "example": example}


STARTS: dict[str, Start] = {
    "card": Start(
        "A card",
        "A heading and a few lines: an order, an appointment.",
        {
            "name": "show_order",
            "description": "Shows an order at a glance. Use it once you know the order’s number and state.",
            "arguments": [
                _argument("number", "The order’s number", "4711"),
                _argument("state", "Where it is, in a few words", "On its way"),
                _argument("note", "One more line, such as the day it arrives", "It arrives tomorrow.", needed="no"),
            ],
            "copy_text": "Order {number}: {state}. {note}",
        },
        {
            "type": "Card",
            "children": [
                {"type": "Title", "value": "Order {number}"},
                {"type": "Badge", "label": "{state}"},
                {"type": "Text", "value": "{note}"},
            ],
        },
    ),
    "list": Start(
        "A list",
        "Up to fifty lines: products, appointments, shops near by.",
        {
            "name": "show_products",
            "description": "Shows a list of products with their prices. Use it when several fit the question.",
            "arguments": [],
            "schema": json.dumps(
                {
                    "type": "object",
                    "properties": {
                        "products": {
                            "type": "array",
                            "maxItems": 10,
                            "items": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}, "price": {"type": "string"}},
                                "required": ["name", "price"],
                            },
                        }
                    },
                    "required": ["products"],
                    "additionalProperties": False,
                },
                indent=2,
            ),
            "copy_text": "A list of products",
        },
        {
            "type": "ListView",
            "children": [
                {
                    "$each": "products",
                    "type": "ListViewItem",
                    "children": [
                        {"type": "Text", "value": "{item.name}", "weight": "semibold"},
                        {"type": "Text", "value": "{item.price}"},
                    ],
                }
            ],
        },
    ),
    "form": Start(
        "A form",
        "Fields to fill in and a button. What is sent goes to the AI model, or to one of your tools.",
        {
            "name": "ask_for_return",
            "description": "Shows a form for sending something back. Use it when the visitor wants to return an order.",
            "arguments": [_argument("number", "The order’s number", "4711")],
            "copy_text": "A form for returning order {number}",
        },
        {
            "type": "Card",
            "children": [
                {"type": "Title", "value": "Return order {number}"},
                {
                    "type": "Form",
                    "onSubmitAction": {"type": "return.send", "payload": {"number": "{number}"}},
                    "children": [
                        {"type": "Label", "value": "What is wrong with it?", "fieldName": "reason"},
                        {"type": "Textarea", "name": "reason", "required": True},
                        {"type": "Button", "label": "Send", "submit": True},
                    ],
                },
            ],
        },
    ),
}


def snippet_of(tool: ClientTool) -> str:
    """What to paste into a page that shows ChatKit JS, for this tool."""
    names = ", ".join(tool.parameters.get("properties", {}))
    return f"""<script>
  const chat = document.querySelector("openai-chatkit");
  // Beside the options that the page sets already:
  chat.setOptions({{
    ...options,
    async onClientTool({{ name, params }}) {{
      if (name === {json.dumps(tool.name)}) {{
        const {{ {names} }} = params;
        // Do it here. What you return is what the AI model reads.
        return {{ done: true }};
      }}
    }},
  }});
</script>"""
