"""Where Stripe sends its events."""

from __future__ import annotations

from fastapi import APIRouter, Request

from stonechat.api.dependencies import AppServices
from stonechat.billing import webhooks
from stonechat.errors import NotFound

router = APIRouter(tags=["billing"])


@router.post("/webhooks/stripe", status_code=204, include_in_schema=False)
async def stripe_webhook(request: Request, services: AppServices) -> None:
    """Take in one event, snapshot or thin; one that was taken in before is answered alike."""
    if services.billing.gateway is None:
        raise NotFound("Nothing is paid by Stripe here.")
    await webhooks.receive(
        services.database,
        await request.body(),
        signature=request.headers.get("stripe-signature"),
        secrets=services.billing.webhook_secrets,
        address=str(getattr(request.state, "client_address", "")),
    )
