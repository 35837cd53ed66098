"""Ids of the items that answers make."""

from __future__ import annotations

from stonechat import ids
from stonechat.assistant.turn import ItemKind

_PREFIXES: dict[ItemKind, str] = {
    "message": "msg",
    "hidden_context": "hcx",
    "client_tool_call": "ctc",
    "structured_input": "sti",
    "widget": "wdg",
    "workflow": "wfl",
    "task": "tsk",
    "image": "img",
}


def id_of_item(kind: ItemKind) -> str:
    """A new one; its prefix tells the kind."""
    return ids.new_id(_PREFIXES[kind])
