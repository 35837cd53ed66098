"""`/dev/mail`: in development, the mail that nobody sent."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from stonechat.api.dependencies import AppServices
from stonechat.mail.transports import folder_of
from stonechat_admin.render import page

router = APIRouter()

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox allow-top-navigation-by-user-activation"
"""Mails carry their style inline, because mail programs read no other; nothing else in them may do anything."""


@router.get("/dev/mail")
async def list_mails(request: Request, services: AppServices) -> Response:
    return page(request, "dev_mail/list.html", mails=await folder_of(services.settings).list_mails())


@router.get("/dev/mail/{mail_id}")
async def show_mail(mail_id: str, request: Request, services: AppServices) -> Response:
    return page(request, "dev_mail/mail.html", mail=await folder_of(services.settings).find_mail(mail_id))


@router.get("/dev/mail/{mail_id}/html")
async def show_html(mail_id: str, services: AppServices) -> Response:
    mail = await folder_of(services.settings).find_mail(mail_id)
    html = mail.html.replace("<a href=", '<a target="_top" href=')
    return HTMLResponse(html, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})
