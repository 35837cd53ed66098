"""Templates to responses, under a policy that lets nothing inline run.

A page is asked for whole, or by htmx as a fragment that is put into the page; both say so in `HX-Request-Type`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request

from stonechat import clock
from stonechat_admin.assets import asset_url
from stonechat_admin.cookies import FLASH, THEME, clear_cookie, read_cookie, set_cookie
from stonechat_admin.navigation import navigation_for, operator_navigation

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; frame-src 'self'"
)
HTMX_CONFIG = json.dumps(
    {
        "includeIndicatorCSS": False,
        "defaultSettleDelay": 0,
        "extensions": "sse",
        "noSwap": [204, 304, 401, 403, 404, 409, 429, "5xx"],
    }
)
ToastKind = Literal["success", "error", "info"]


@cache
def _icon(name: str) -> str:
    drawing = (HERE / "icons" / f"{name}.svg").read_text(encoding="utf-8")
    return " ".join(drawing[drawing.index("<svg") :].split())


def icon(name: str, classes: str = "size-4") -> Markup:
    """A drawing of `icons/`, in the colour of the text around it and silent to screen readers."""
    drawn = _icon(name).replace(f'class="lucide lucide-{name}"', f'class="{classes} shrink-0" aria-hidden="true"', 1)
    return Markup(drawn)  # noqa: S704  our own files


def ago(moment: datetime | None) -> str:
    """How long ago, in words: `just now`, `5 minutes ago`, `3 March 2026`."""
    if moment is None:
        return "never"
    seconds = int((clock.now() - moment).total_seconds())
    for unit, size, up_to in (("minute", 60, 3600), ("hour", 3600, 86400), ("day", 86400, 14 * 86400)):
        if seconds < 60:
            return "just now"
        if seconds < up_to:
            count = seconds // size
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return f"{moment.day} {moment:%B %Y}"


def in_utc(moment: datetime) -> str:
    """A moment to the minute, with its zone: `3 March 2026, 16:05 UTC`."""
    at = moment.astimezone(UTC)
    return f"{at.day} {at:%B %Y, %H:%M} UTC"


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.filters |= {"ago": ago, "in_utc": in_utc, "rfc3339": clock.rfc3339}
_templates.globals |= {"icon": icon, "asset": asset_url, "htmx_config": HTMX_CONFIG}


def is_partial(request: Request) -> bool:
    """Whether htmx asks for a fragment, rather than a browser for a page."""
    return request.headers.get("hx-request-type") == "partial"


def markup(template: str, **values: Any) -> Markup:
    """A template rendered, to be put into another."""
    return Markup(_templates.get_template(template).render(**values))  # noqa: S704  templates escape


def page(
    request: Request, template: str, *, status: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> HTMLResponse:
    """A whole page, in the console's frame if somebody is signed in and chose a tenant. Shows and forgets the flash."""
    console, desk = getattr(request.state, "console", None), getattr(request.state, "desk", None)
    at_work = console or desk
    theme = request.cookies.get(THEME)
    flash = read_cookie(request, FLASH)
    html = _templates.get_template(template).render(
        console=console,
        desk=desk,
        csrf=at_work.signed_in.csrf if at_work else values.pop("csrf", ""),
        theme=theme if theme in ("light", "dark") else "system",
        navigation=operator_navigation(request) if desk else navigation_for(request, console),
        flash=_read_flash(flash),
        **values,
    )
    response = HTMLResponse(html, status, {**_headers(), **(headers or {})})
    if flash is not None:
        clear_cookie(request, response, FLASH)
    return response


def fragment(
    request: Request,
    template: str | None = None,
    *,
    status: int = 200,
    toast: str | None = None,
    kind: ToastKind = "success",
    close: bool = False,
    show: str | None = None,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> HTMLResponse:
    """A part of a page, for htmx to put where the request said. `close` shuts the open dialog, `show` opens one by id.

    Whoever sent a form without htmx, whose script did not load, gets the same as a page of its own.
    """
    console, desk = getattr(request.state, "console", None), getattr(request.state, "desk", None)
    html = ""
    if template is not None:
        at_work = console or desk
        csrf = at_work.signed_in.csrf if at_work else ""
        html = _templates.get_template(template).render(console=console, desk=desk, csrf=csrf, **values)
    if request.method == "POST" and not is_partial(request):
        if show:
            html = html.replace(f'<dialog id="{show}"', f'<dialog open id="{show}"')
        content = Markup(html)  # noqa: S704  templates escape
        back = _came_from(request)
        return page(request, "alone.html", status=status, headers=headers, content=content, told=toast or "", back=back)
    told: dict[str, Any] = {}
    if toast:
        told["toast"] = {"kind": kind, "text": toast}
    if close:
        told["close"] = True
    if show:
        told["show"] = show
    extra = {"Console": json.dumps(told)} if told else {}
    return HTMLResponse(html, status, {**_headers(), **extra, **(headers or {})})


def go(request: Request, url: str, *, toast: str | None = None) -> Response:
    """On to another page of ours, whichever way the request came; the toast is shown there."""
    response: Response
    if is_partial(request):
        response = Response(status_code=200, headers={**_headers(), "HX-Redirect": url})
    else:
        response = RedirectResponse(url, 303, _headers())
    if toast:
        set_cookie(request, response, FLASH, json.dumps(toast).encode().hex(), max_age=60)
    return response


def _came_from(request: Request) -> str:
    """The page of this room that the form stood on."""
    path = urlsplit(request.headers.get("referer", "")).path
    home = "/operator" if request.url.path.startswith("/operator") else "/console"
    return path if path == home or path.startswith(f"{home}/") else home


def _read_flash(raw: str | None) -> str | None:
    try:
        text = json.loads(bytes.fromhex(raw or ""))
    except ValueError:
        return None
    return text[:300] if isinstance(text, str) else None


def _headers() -> dict[str, str]:
    """Never cached: pages of the console hold what only one person may see."""
    return {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "Vary": "HX-Request-Type, Cookie",
    }
