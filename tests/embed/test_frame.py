"""The frame's document: its data stays data, and its headers say who may hold it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from stonechat.embed.frame import Document, json_in_html, render_frame, render_preview, render_unknown
from stonechat.errors import AgentNotPublished

HOSTILE = "</script><script>alert(1)</script><!--\u2028&amp;\u2029'\"`${x}\\"


class Scripts(HTMLParser):
    """Every script element of a document, as a browser's parser sees them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[dict[str, str | None], str]] = []
        self.title = ""
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        if tag == "script":
            self.found.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._open = None

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attributes, text = self.found[-1]
            self.found[-1] = attributes, text + data
        elif self._open == "title":
            self.title += data


def frame(**changes: Any) -> Document:
    values: dict[str, Any] = {
        "public_key": "pk_1",
        "ticket": "a.b.c",
        "parents": ["https://shop.example", "https://*.example.com:8443"],
        "agent": {"name": "Robin", "greeting": "Hello"},
        "error": None,
        "script": "/embed/assets/0123/frame.js",
        "extras": "/embed/assets/4567/extras.js",
        "files": {},
    }
    return render_frame(**values | changes)


def parse(document: Document) -> Scripts:
    parser = Scripts()
    parser.feed(document.html)
    return parser


def config_of(document: Document) -> Any:
    attributes, text = parse(document).found[0]
    assert attributes == {"type": "application/json", "id": "stonechat-config"}
    return json.loads(text)


def test_the_document_holds_the_config_and_one_script_with_the_policys_nonce() -> None:
    document = frame()
    assert config_of(document) == {
        "domain_key": "pk_1",
        "ticket": "a.b.c",
        "parents": ["https://shop.example", "https://*.example.com:8443"],
        "extras": "/embed/assets/4567/extras.js",
        "files": {},
        "agent": {"name": "Robin", "greeting": "Hello"},
        "error": None,
    }
    _, (script, text) = parse(document).found
    assert (script["type"], script["src"], text) == ("module", "/embed/assets/0123/frame.js", "")
    assert f"script-src 'nonce-{script['nonce']}'" in document.headers["Content-Security-Policy"]


def test_hostile_names_stay_data() -> None:
    document = frame(agent={"name": HOSTILE, "greeting": HOSTILE})
    assert len(parse(document).found) == 2
    assert config_of(document)["agent"] == {"name": HOSTILE, "greeting": HOSTILE}
    assert parse(document).title == HOSTILE
    assert "<!--" not in document.html


@pytest.mark.parametrize("text", ["</script>", "<!--<script>", "\u2028\u2029", "&lt;", "ünï😀", "\ud800"])
def test_json_in_html_survives_every_parser(text: str) -> None:
    encoded = json_in_html({"a": text})
    assert not re.search("[<>&\u2028\u2029]", encoded)
    assert json.loads(encoded) == {"a": text}


def test_the_policy_is_the_one_that_ran_clean_in_browsers() -> None:
    policy = frame().headers["Content-Security-Policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert re.fullmatch(r"script-src 'nonce-[A-Za-z0-9_-]{16,}'", policy[1])
    assert policy[2:] == [
        "style-src 'none'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors https://shop.example https://*.example.com:8443",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]


def test_an_empty_list_of_origins_lets_no_page_hold_the_frame() -> None:
    assert "frame-ancestors 'none'" in frame(parents=[]).headers["Content-Security-Policy"].split("; ")


def test_nonces_differ() -> None:
    assert frame().headers["Content-Security-Policy"] != frame().headers["Content-Security-Policy"]


def test_pages_under_coep_can_hold_it_and_nobody_keeps_it() -> None:
    headers = frame().headers
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert headers["Cache-Control"] == "no-store"


def test_an_agent_that_is_not_there_yet_is_said_so() -> None:
    config = config_of(frame(agent=None, error=AgentNotPublished()))
    assert config["agent"] is None
    assert config["error"] == {"code": "agent_not_published", "message": "This agent has not been published yet"}


def test_the_page_for_an_unknown_key_runs_nothing_and_stands_alone() -> None:
    document = render_unknown()
    assert not parse(document).found
    assert "frame-ancestors 'none'" in document.headers["Content-Security-Policy"]
    assert document.headers["Cache-Control"] == "no-store"


def test_a_preview_is_for_the_console_alone_and_carries_no_ticket() -> None:
    document = render_preview(
        agent={"name": HOSTILE, "greeting": HOSTILE},
        scheme="dark",
        script="/embed/assets/0123/frame.js",
        extras="/embed/assets/4567/extras.js",
    )
    [config, script] = parse(document).found
    data = json.loads(config[1])
    assert data["preview"] == "dark"
    assert data["agent"] == {"name": HOSTILE, "greeting": HOSTILE}
    assert data["ticket"] == data["domain_key"] == ""
    assert script[0]["src"] == "/embed/assets/0123/frame.js"
    assert "frame-ancestors 'self';" in document.headers["Content-Security-Policy"]


def test_pictures_come_from_listed_hosts_only_and_the_microphone_is_asked_for_only_where_people_may_dictate() -> None:
    plain = frame().headers
    assert "img-src 'self' data:;" in plain["Content-Security-Policy"]
    assert plain["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert "microphone=()" in plain["Permissions-Policy"]

    agent = {"name": "Robin", "image_hosts": ["img.example.com", "*.cdn.example"], "dictation": True}
    offering = frame(agent=agent).headers
    assert "img-src 'self' data: https://img.example.com https://*.cdn.example;" in offering["Content-Security-Policy"]
    assert offering["Cross-Origin-Embedder-Policy"] == "credentialless"
    assert "microphone=(self)" in offering["Permissions-Policy"]


def test_no_customers_page_gets_a_preview() -> None:
    assert "preview" not in json.loads(parse(frame()).found[0][1])
