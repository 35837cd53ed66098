"""The vectors of `widget/test/fixtures/hostile.json` as items, events and configuration of the protocol."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from support.history import WHEN, assistant_message, item, user_message
from support.running import ROOT

VECTORS: dict[str, list[str]] = json.loads((ROOT / "widget/test/fixtures/hostile.json").read_text("utf-8"))
ADDRESSES, TEXTS, MARKDOWN, STYLES = (VECTORS[name] for name in ("addresses", "texts", "markdown", "styles"))
FORMS = ("[x]($)", "[x](<$>)", "<$>", "![x]($)", "[x][a]\n\n[a]: $", "[![x]($)]($)", "$", "[$](https://x.example)")
NODES = (
    "Text", "Title", "Caption", "Markdown", "Badge", "Icon", "Image", "Button", "Divider", "Label", "Input", "Textarea",
    "Select", "DatePicker", "Checkbox", "RadioGroup", "Table", "Chart", "Form", "Row", "ListViewItem", "iframe", "script",
)  # fmt: skip
NAMES = (
    "value", "label", "name", "title", "text", "alt", "placeholder", "defaultValue", "caption", "fieldName", "ariaLabel",
    "pattern", "inputType", "iconStart", "color", "size", "src", "href", "url", "srcdoc", "html", "onclick", "style", "id",
)  # fmt: skip
LOOKS = (
    "background", "color", "width", "height", "minWidth", "maxHeight", "padding", "margin", "gap", "radius", "border",
    "aspectRatio", "flex", "align", "justify", "wrap", "textAlign", "weight", "size", "spacing", "fit", "position",
)  # fmt: skip


def _source(kind: str, vector: str) -> dict[str, Any]:
    said = {"title": vector or "x", "description": vector}
    if kind == "url":
        return said | {"type": "url", "url": vector, "attribution": vector}
    return said | ({"type": "file", "filename": vector} if kind == "file" else {"type": "entity", "id": vector})


def _nodes(vector: str) -> list[dict[str, Any]]:
    one = dict.fromkeys(NAMES, vector)
    more = {
        "options": [{"value": vector, "label": vector}],
        "columns": [{"key": vector, "label": vector}],
        "rows": [{vector: vector}, [vector]],
        "data": [{vector: 1}],
        "series": [{"type": "bar", "dataKey": vector, "label": vector, "color": vector}],
        "xAxis": {"dataKey": vector},
        "onClickAction": {"type": vector or "x", "payload": {vector: vector}, "handler": "client"},
    }
    return [one | more | {"type": kind, "children": [{"type": "Text", "value": vector}]} for kind in NODES]


def _widget(name: str, children: Sequence[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    return item("widget", name, widget={"type": "Card", "children": children} | fields, copy_text=None)


def stored_items() -> list[dict[str, Any]]:
    """Everything that a conversation may hold, an item or a few a vector; the id names the vector's place in its list."""
    items = [assistant_message(f"md_{at}", vector) for at, vector in enumerate(MARKDOWN)]
    for at, vector in enumerate(TEXTS):
        sources = [_source(kind, vector) for kind in ("url", "file", "entity")]
        tag = {"type": "input_tag", "id": vector, "text": vector, "data": {"x": vector}, "interactive": False}
        items += [
            assistant_message(f"text_{at}", vector, sources),
            user_message(
                f"said_{at}", vector, quoted_text=vector, content=[tag, {"type": "input_text", "text": vector}]
            ),
            _widget(f"node_{at}", _nodes(vector), status={"text": vector, "icon": vector}),
        ]
    for at, vector in enumerate(ADDRESSES):
        links = "\n\n".join(form.replace("$", vector) for form in FORMS)
        picture = [{"type": "Image", "src": vector, "alt": "x"}, {"type": "Markdown", "value": links}]
        items += [
            assistant_message(f"link_{at}", links, [_source("url", vector)]),
            _widget(f"picture_{at}", picture, status={"text": "x", "favicon": vector}),
            item("generated_image", f"image_{at}", image={"id": "g", "url": vector}),
        ]
    for at, vector in enumerate(STYLES):
        looks = dict.fromkeys(LOOKS, vector)
        items.append(
            _widget(f"style_{at}", [looks | {"type": kind, "value": "x", "children": []} for kind in NODES], **looks)
        )
    for at in range(0, len(TEXTS), 20):
        tasks = [
            {"type": "custom", "title": vector, "content": vector, "icon": None, "status_indicator": "none"}
            for vector in TEXTS[at : at + 20]
        ]
        flow = {"type": "custom", "tasks": tasks, "summary": {"title": TEXTS[at], "icon": None}, "expanded": True}
        items.append(item("workflow", f"flow_{at}", workflow=flow))
    return items


def streamed_events() -> list[dict[str, Any]]:
    """What only comes while an answer is written, or what a store of ours would not take."""
    base = {"thread_id": "thr_x", "created_at": WHEN}
    events: list[dict[str, Any]] = [
        {"type": "notice", "level": "info", "title": each, "message": each} for each in TEXTS
    ]
    for at, vector in enumerate(ADDRESSES):
        file = {"id": f"atc_{at}", "type": "image", "name": vector, "mime_type": vector, "preview_url": vector}
        said = user_message(f"file_{at}", "x") | base | {"attachments": [file]}
        events.append({"type": "thread.item.done", "item": said})
    for at, vector in enumerate(TEXTS):
        asked = {
            "type": "multiple_choice",
            "id": vector,
            "question": vector,
            "description": vector,
            "options": [{"value": vector}],
        }
        form = item("structured_input", f"form_{at}", status="pending", inputs=[asked]) | base
        events += [
            {"type": "thread.item.done", "item": form},
            {"type": "progress_update", "text": vector, "icon": vector},
        ]
    events.append({"type": "thread.item.done", "item": assistant_message("end", "End.") | base})
    events.append({"type": "error", "code": "custom", "message": "".join(TEXTS[28:60]), "allow_retry": True})
    return events


_PLAIN = [vector for vector in TEXTS if vector.isprintable() and len(vector) <= 80]
CONFIG: dict[str, Any] = {
    "name": "</title></script><script>pwned()</script><img src=x onerror=pwned()>",
    "greeting": "</script><script>pwned()</script>\n" + "".join(_PLAIN[20:30])[:400],
    "placeholder": "\"><img src=x onerror=pwned()>' onfocus='pwned()' autofocus='",
    "disclaimer": "<!--<script>--><svg onload=pwned()>[x](javascript:pwned())",
    "prompts": [{"label": vector, "prompt": vector} for vector in _PLAIN[30:36]],
    "launcher": {
        "label": '"><img src=x onerror=pwned()>',
        "teaser": {"text": "</script><img src=x onerror=pwned()>${pwned()}", "delay_seconds": 0},
    },
}
