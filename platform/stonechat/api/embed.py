"""`/embed.js`, `/embed/frame` and what they need: the widget on a customer's page."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from stonechat.api.dependencies import AppServices, VisitorCaller
from stonechat.embed.assets import Asset
from stonechat.embed.frame import StockRenderer, render_frame, render_unknown
from stonechat.embed.look import render_loader
from stonechat.embed.published import published_public_config
from stonechat.embed.stock import StockReason
from stonechat.errors import (
    AgentNotPublished,
    InvalidTicket,
    NotFound,
    StonechatError,
    TenantSuspended,
    UnknownDomainKey,
)
from stonechat.identity.lookup import MAX_KEY_CHARACTERS, SiteKey
from stonechat.identity.origins import parse_origin
from stonechat.limits.addresses import limit_address

router = APIRouter(tags=["Embed"], dependencies=[Depends(limit_address)])
assets_router = APIRouter(tags=["Embed"])
"""Files from memory, which cost less than counting them; browsers and caches keep them."""

_LOADER_CACHE = "public, max-age=300, stale-while-revalidate=86400"
_FOR_EVER = "public, max-age=31536000, immutable"

PublicKey = Annotated[str, Query(alias="k", max_length=MAX_KEY_CHARACTERS, description="The domain key, `pk_…`.")]


class TicketAnswer(BaseModel):
    ticket: str


class StockTroubleBody(BaseModel):
    reason: StockReason


@assets_router.get("/embed.js", summary="The loader", response_class=Response)
async def get_loader(request: Request, services: AppServices) -> Response:
    return _file(request, services.assets.loader, cache=_LOADER_CACHE)


@assets_router.get("/embed/{digest}/embed.js", summary="The loader of one version, for ever", response_class=Response)
async def get_versioned_loader(digest: str, request: Request, services: AppServices) -> Response:
    """For pages that name the file's hash in `integrity`. Every release is kept."""
    loader = services.assets.find_loader(digest)
    if loader is None:
        raise NotFound(
            "There is no such version of the loader. Use `/embed.js`, or the address that the console shows."
        )
    return _file(request, loader, cache=_FOR_EVER)


@router.get("/e/{public_key}.js", summary="The loader with a domain key's published look", response_class=Response)
async def get_keyed_loader(public_key: str, request: Request, services: AppServices) -> Response:
    """As `/embed.js`, with the key, and with the button's colours, icon, words and paths as published.

    Needs no `data-domain-key`. Changes arrive within five minutes of publishing.
    """
    key = await services.site_keys.find(public_key)
    agent: dict[str, Any] | None = None
    with contextlib.suppress(AgentNotPublished):
        async with services.database.tenant(key.tenant_id) as session:
            agent = await published_public_config(
                session, key.tenant_id, agent_id=key.agent_id, configs=services.configs
            )
    loader = render_loader(services.assets.loader, public_key=key.public_key, agent=agent)
    return _file(request, loader, cache=_LOADER_CACHE)


@assets_router.get("/embed/assets/{digest}/{name}", summary="A built file", response_class=Response)
async def get_asset(digest: str, name: str, request: Request, services: AppServices) -> Response:
    asset = services.assets.find(digest, name)
    if asset is None:
        raise NotFound("This file belongs to another version. Reload the page.")
    return _file(request, asset, cache=_FOR_EVER)


@router.get("/embed/frame", summary="The widget's document", response_class=HTMLResponse)
async def get_frame(
    request: Request, services: AppServices, background: BackgroundTasks, public_key: PublicKey = ""
) -> Response:
    try:
        key = await services.site_keys.find(public_key)
    except UnknownDomainKey as unknown:
        page = render_unknown()
        return HTMLResponse(page.html, unknown.status, page.headers)
    agent: dict[str, Any] | None = None
    error: StonechatError | None = None
    try:
        await services.suspensions.require_active(key.tenant_id)
        async with services.database.tenant(key.tenant_id) as session:
            agent = await published_public_config(
                session, key.tenant_id, agent_id=key.agent_id, configs=services.configs
            )
    except (AgentNotPublished, TenantSuspended) as refused:
        error = refused
    stock = None
    # Opened by itself, this is a page of the console's own site, sent with the session of whoever is signed in there.
    alone = request.headers.get("sec-fetch-dest") == "document"
    if agent is not None and agent["renderer"] == "chatkit" and key.openai_domain_key and not alone:
        stock = StockRenderer(services.settings.chatkit_script, key.openai_domain_key)
    parent = _parent_of(request, key)
    background.add_task(services.installs.note_seen, key, origin=parent)
    page = render_frame(
        public_key=key.public_key,
        ticket=services.session_tokens.mint_ticket(key.public_key, parent=parent),
        parents=key.origins,
        agent=agent,
        error=error,
        script=services.assets.frame_script.path,
        extras=services.assets.extras_script.path,
        files=services.assets.digests,
        stock=stock,
    )
    return HTMLResponse(page.html, 200, page.headers, background=background)


@router.get("/embed/ticket", summary="A fresh ticket for a frame whose session still lives")
async def get_ticket(
    caller: VisitorCaller, services: AppServices, response: Response, public_key: PublicKey
) -> TicketAnswer:
    await services.suspensions.require_active(caller.tenant_id)
    key = await services.site_keys.find(public_key)
    if key.tenant_id != caller.tenant_id or key.domain_key_id != caller.domain_key_id:
        raise InvalidTicket("This session was opened under another domain key.")
    response.headers["Cache-Control"] = "no-store"
    return TicketAnswer(ticket=services.session_tokens.mint_ticket(key.public_key, parent=caller.origin))


@router.post("/embed/stock-trouble", status_code=204, summary="OpenAI's front end did not come, ours stood in")
async def report_stock_trouble(body: StockTroubleBody, caller: VisitorCaller, services: AppServices) -> Response:
    """Told by the frame, for the console. Of one visitor it counts once in ten minutes; more is taken and not counted."""
    await services.stock_troubles.note(caller, reason=body.reason)
    return Response(status_code=204)


def _parent_of(request: Request, key: SiteKey) -> str | None:
    """The page around the frame, where the browser tells its origin and the key admits it."""
    referer = _origin_part(request.headers.get("referer"))
    origin = parse_origin(referer) if referer is not None else None
    return origin if key.admits(origin) else None


def _origin_part(url: str | None) -> str | None:
    """The origin part of a URL, if it has one."""
    try:
        parts = urlsplit(url) if url else None
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}" if parts is not None and parts.netloc else None


def _file(request: Request, asset: Asset, *, cache: str) -> Response:
    headers = {
        "Cache-Control": cache,
        "ETag": asset.etag,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "Access-Control-Allow-Origin": "*",
        "Vary": "Accept-Encoding",
    }
    media_type = "application/json" if asset.name.endswith(".json") else "text/javascript"
    asked = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if asset.etag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, headers=headers | {"Content-Encoding": "gzip"}, media_type=media_type)
    return Response(asset.content, headers=headers, media_type=media_type)
