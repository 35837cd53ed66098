"""The loader with a key's published look in it, at an address of the key's own: `/e/pk_….js`.

The button then has its colours, icon and words at once, and still nothing is asked of the platform before a visitor shows
interest. What is published reaches pages within the five minutes that browsers keep the file.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from typing import Any

from stonechat.embed.assets import Asset

ICONS = {
    "chat": None,  # the loader's own
    "question": "M14 3a11 11 0 1 1 0 22a11 11 0 0 1 0-22M12.6 18.4v2.9h2.9v-2.9zM9.6 11.6h2.7c0-2.4 3.4-2.3 3.4-.2 "
    "0 1.8-3 2.3-3 5.4h2.6c0-1.9 3.1-2.4 3.1-5.6 0-5-8.8-5.1-8.8.4",
    "spark": "M14 2q1.4 10.6 12 12-10.6 1.4-12 12-1.4-10.6-12-12 10.6-1.4 12-12",
    "heart": "M14 25C6 19 3 15 3 10.500a6 6 0 0 1 11-3.400a6 6 0 0 1 11 3.400C25 15 22 19 14 25",
}
"""Clip paths in a box of 28 by 28."""

# The tag's own attributes win over what was published.
_PREFIX = "((d,l)=>{for(let k in l)d[k]??=l[k]})(document.currentScript?.dataset??{},%s);\n"


def render_loader(loader: Asset, *, public_key: str, agent: dict[str, Any] | None) -> Asset:
    """The loader of one key. `agent` is its public configuration, None where nothing is published."""
    look = json.dumps({"domainKey": public_key} | (_look(agent) if agent is not None else {}), ensure_ascii=True)
    content = (_PREFIX % look).encode("ascii") + loader.content
    return Asset("embed.js", content, gzip.compress(content, 6, mtime=0), hashlib.sha256(content).hexdigest())


def hidden_expression(patterns: list[str]) -> str:
    """A regular expression, good in JavaScript, for paths that one of the patterns covers whole."""
    parts = (".*".join(re.sub(r"[.+?^${}()|[\]\\/-]", r"\\\g<0>", part) for part in p.split("*")) for p in patterns)
    return f"^(?:{'|'.join(parts)})$"


def _look(agent: dict[str, Any]) -> dict[str, str]:
    launcher = agent["launcher"]
    icon, teaser = ICONS[launcher["icon"]], launcher["teaser"]
    look = {"accent": agent["theme"]["accent"], "position": launcher["position"], "label": launcher["label"]}
    if icon is not None:
        look["icon"] = icon
    if teaser["text"]:
        look |= {"teaser": teaser["text"], "delay": str(teaser["delay_seconds"] * 1000)}
    if launcher["hidden_paths"]:
        look["hidden"] = hidden_expression(launcher["hidden_paths"])
    return look
