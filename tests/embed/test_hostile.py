"""Hostile names and words in the frame's document and in the loader of a key: they stay data."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from stonechat.embed.assets import load_assets
from stonechat.embed.frame import render_frame
from stonechat.embed.look import render_loader
from support.hostile import ADDRESSES, MARKDOWN, STYLES, TEXTS

VECTORS = [*TEXTS, *STYLES, *ADDRESSES, *MARKDOWN]


class Read(HTMLParser):
    """The elements of a document, and what the script of its configuration holds."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.config = ""
        self._within: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._within = dict(attrs).get("id")

    def handle_endtag(self, tag: str) -> None:
        self._within = None

    def handle_data(self, data: str) -> None:
        if self._within == "stonechat-config":
            self.config += data


def everywhere(vector: str) -> dict[str, Any]:
    theme = dict.fromkeys(("accent", "scheme", "radius", "density"), vector)
    launcher = {"label": vector, "position": vector, "icon": "chat", "teaser": {"text": vector, "delay_seconds": 1}}
    said = dict.fromkeys(("name", "greeting", "disclaimer", "placeholder", "locale"), vector)
    more = {"prompts": [{"label": vector, "prompt": vector}], "models": [{"id": vector, "label": vector}]}
    return said | more | {"theme": theme, "launcher": launcher | {"hidden_paths": ["/" + vector]}}


def test_no_word_of_a_configuration_becomes_markup_of_the_frame() -> None:
    clean: list[str] | None = None
    for vector in ["Plain", *VECTORS]:
        agent = everywhere(vector)
        page = render_frame(
            public_key=vector, ticket=vector, parents=[], agent=agent, error=None, script="/frame.js", extras=vector
        )
        read = Read(page.html)
        clean = clean or read.tags
        assert read.tags == clean, vector
        config = json.loads(read.config)
        assert config["agent"] == agent
        assert config["ticket"] == vector


def test_no_word_of_a_configuration_becomes_code_of_the_loader() -> None:
    loader = load_assets().loader
    for vector in VECTORS:
        made = render_loader(loader, public_key="pk_1", agent=everywhere(vector)).content
        head = made.removesuffix(loader.content).decode("ascii")
        code, _, rest = head.partition("document.currentScript?.dataset??{},")
        look, end = json.JSONDecoder().raw_decode(rest)
        assert rest[end:] == ");\n"
        assert "\n" not in code + rest[:end]
        assert (look["label"], look.get("teaser", "")) == (vector, vector)
