"""The frame: the document in which the widget lives, and the headers that keep it there."""

from __future__ import annotations

import html
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stonechat.errors import StonechatError

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1, viewport-fit=cover">
<meta name="robots" content="noindex">
<title>{title}</title>
</head>
<body>
<noscript>This chat needs JavaScript.</noscript>
<script type="application/json" id="stonechat-config">{config}</script>
<script type="module" nonce="{nonce}" src="{script}"></script>
</body>
</html>
"""

NOBODY = "'none'"
_UNKNOWN = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="robots" content="noindex"><title>No chat here</title></head>
<body>
<h1>There is no chat here</h1>
<p>This page’s chat was moved or switched off. If the site is yours, check its <code>data-domain-key</code>
against the domain keys of your agent.</p>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class StockRenderer:
    """OpenAI's front end, for a frame that may load it."""

    script: str
    """The address of the script; the frame may load what lies beside it, too."""
    domain_key: str
    """What OpenAI gave for the host that serves the frame: the script asks OpenAI whether it is in order."""

    @property
    def folder(self) -> str:
        """Where scripts may come from."""
        return self.script.rpartition("/")[0] + "/"

    @property
    def origin(self) -> str:
        """Where frames may come from, and what may ask for the microphone."""
        return "/".join(self.script.split("/", 3)[:3])


@dataclass(frozen=True, slots=True)
class Document:
    """An HTML document with its own headers."""

    html: str
    headers: dict[str, str]


def render_frame(
    *,
    public_key: str,
    ticket: str,
    parents: Sequence[str],
    agent: dict[str, Any] | None,
    error: StonechatError | None,
    script: str,
    extras: str,
    files: Mapping[str, str] | None = None,
    stock: StockRenderer | None = None,
) -> Document:
    """The frame of one domain key. `parents` are canonical origins; an empty list lets no page show the frame.

    `script` is the path of the frame's script, `extras` of the one which that loads when it needs to; `files` are the
    digests of what else it may need (`Assets.digests`). With `stock` it draws OpenAI's front end, under a policy that lets it.
    """
    config: dict[str, Any] = {
        "domain_key": public_key,
        "ticket": ticket,
        "parents": list(parents),
        "extras": extras,
        "files": dict(files or {}),
        "agent": agent,
        "error": {"code": error.code, "message": error.detail or error.title} if error is not None else None,
    }
    if stock is not None:
        config["stock"] = {"script": stock.script, "domain_key": stock.domain_key}
    title = str(agent["name"]) if agent else "Chat"
    return _document(config, title=title, parents=parents, script=script, stock=stock)


def render_preview(
    *,
    agent: dict[str, Any],
    scheme: Literal["light", "dark"],
    script: str,
    extras: str,
    files: Mapping[str, str] | None = None,
) -> Document:
    """The frame with a public configuration that nobody published, for the console's own pages and no others.

    It opens no session; the page around it posts what is being changed (`widget/src/frame/preview.ts`).
    """
    config: dict[str, Any] = {
        "domain_key": "",
        "ticket": "",
        "parents": [],
        "extras": extras,
        "files": dict(files or {}),
        "agent": agent,
        "error": None,
        "preview": scheme,
    }
    return _document(config, title=str(agent["name"]), parents=("'self'",), script=script)


def render_unknown() -> Document:
    """What a person sees who opens the frame of a key that does not exist; no page can show it."""
    policy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return Document(_UNKNOWN, _headers(policy, agent={}))


def _document(
    config: dict[str, Any], *, title: str, parents: Sequence[str], script: str, stock: StockRenderer | None = None
) -> Document:
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.format(title=html.escape(title), config=json_in_html(config), nonce=nonce, script=html.escape(script))
    agent = config["agent"] or {}
    hosts = agent.get("image_hosts", ())
    policy = _stock_policy(nonce, parents, stock, hosts=hosts) if stock else _policy(nonce, parents, hosts=hosts)
    return Document(page, _headers(policy, agent=agent, stock=stock))


def json_in_html(value: object) -> str:
    """JSON that stays data inside a script element whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _policy(nonce: str, parents: Sequence[str], *, hosts: Sequence[str]) -> str:
    # Scripts that a script with the nonce imports are covered by it.
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}'",
            "style-src 'none'",
            "connect-src 'self'",
            _pictures(hosts),
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {' '.join(parents) or NOBODY}",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _pictures(hosts: Sequence[str]) -> str:
    return " ".join(("img-src 'self' data:", *(f"https://{host}" for host in hosts)))


def _stock_policy(nonce: str, parents: Sequence[str], stock: StockRenderer, *, hosts: Sequence[str]) -> str:
    # What OpenAI's script needs where it runs, and no more: the conversation is in a frame of its own, under OpenAI's policy.
    # It styles its element as it likes and makes no promise about Trusted Types. Requests still go to this host alone.
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'nonce-{nonce}' {stock.folder}",
            "style-src 'unsafe-inline'",
            "connect-src 'self'",
            _pictures(hosts),
            f"frame-src {stock.origin}",
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {' '.join(parents) or NOBODY}",
        )
    )


def _headers(policy: str, *, agent: Mapping[str, Any], stock: StockRenderer | None = None) -> dict[str, str]:
    # A page under COEP shows only frames that bear both of the cross-origin headers; no other page minds them. Pictures
    # from hosts that the agent lists come without credentials, since hardly any host of pictures bears CORP.
    embedder = "credentialless" if agent.get("image_hosts") else "require-corp"
    # OpenAI's frame bears neither, and would be kept out.
    embedder = "unsafe-none" if stock is not None else embedder
    ears = "(self)" if stock is None else f'(self "{stock.origin}")'
    microphone = ears if agent.get("dictation") else "()"
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Embedder-Policy": embedder,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Permissions-Policy": f"camera=(), geolocation=(), microphone={microphone}",
        "Cache-Control": "no-store",
        "X-Robots-Tag": "noindex",
    }
