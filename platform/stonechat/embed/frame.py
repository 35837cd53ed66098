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
) -> Document:
    """The frame of one domain key. `parents` are canonical origins; an empty list lets no page show the frame.

    `script` is the path of the frame's script, `extras` of the one which that loads when it needs to; `files` are the
    digests of what else it may need (`Assets.digests`).
    """
    config = {
        "domain_key": public_key,
        "ticket": ticket,
        "parents": list(parents),
        "extras": extras,
        "files": dict(files or {}),
        "agent": agent,
        "error": {"code": error.code, "message": error.detail or error.title} if error is not None else None,
    }
    return _document(config, title=str(agent["name"]) if agent else "Chat", parents=parents, script=script)


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


def _document(config: dict[str, Any], *, title: str, parents: Sequence[str], script: str) -> Document:
    nonce = secrets.token_urlsafe(16)
    page = _PAGE.format(title=html.escape(title), config=json_in_html(config), nonce=nonce, script=html.escape(script))
    agent = config["agent"] or {}
    return Document(page, _headers(_policy(nonce, parents, hosts=agent.get("image_hosts", ())), agent=agent))


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
            " ".join(("img-src 'self' data:", *(f"https://{host}" for host in hosts))),
            "base-uri 'none'",
            "form-action 'none'",
            f"frame-ancestors {' '.join(parents) or NOBODY}",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _headers(policy: str, *, agent: Mapping[str, Any]) -> dict[str, str]:
    # A page under COEP shows only frames that bear both of the cross-origin headers; no other page minds them. Pictures
    # from hosts that the agent lists come without credentials, since hardly any host of pictures bears CORP.
    embedder = "credentialless" if agent.get("image_hosts") else "require-corp"
    microphone = "(self)" if agent.get("dictation") else "()"
    return {
        "Content-Security-Policy": policy,
        "Cross-Origin-Embedder-Policy": embedder,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Permissions-Policy": f"camera=(), geolocation=(), microphone={microphone}",
        "Cache-Control": "no-store",
        "X-Robots-Tag": "noindex",
    }
