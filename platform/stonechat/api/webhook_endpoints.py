"""`/api/v1/webhook-endpoints`: addresses that are told of the tenant's events, and the log of what was sent there."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Moment, Page
from stonechat.webhooks import deliveries, endpoints
from stonechat.webhooks.deliveries import DeliveryDetail, DeliveryStatus, DeliveryView, Replayed
from stonechat.webhooks.endpoints import EndpointChanges, EndpointFields, EndpointView, EndpointWithSecret

router = APIRouter(
    prefix="/webhook-endpoints", tags=["Webhooks"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


class ReplayIn(BaseModel):
    """What to send again."""

    model_config = ConfigDict(extra="forbid")

    since: Moment = Field(description="Deliveries that were written down then or later, and failed for good.")


@router.get("", summary="List the webhook endpoints, newest first")
async def list_webhook_endpoints(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[EndpointView]:
    return await endpoints.list_endpoints(session, actor, limit=limit, cursor=cursor)


@router.post("", status_code=201, summary="Create a webhook endpoint; its secret is shown once")
async def create_webhook_endpoint(
    body: EndpointFields, actor: ApiActor, session: TenantSession, services: AppServices
) -> EndpointWithSecret:
    return await endpoints.create_endpoint(
        session, actor, keyring=services.keyring, settings=services.settings, fields=body
    )


@router.get("/{endpoint_id}", summary="One webhook endpoint")
async def get_webhook_endpoint(endpoint_id: str, actor: ApiActor, session: TenantSession) -> EndpointView:
    return await endpoints.get_endpoint(session, actor, endpoint_id=endpoint_id)


@router.patch("/{endpoint_id}", summary="Change a webhook endpoint, or switch it on or off")
async def change_webhook_endpoint(
    endpoint_id: str, body: EndpointChanges, actor: ApiActor, session: TenantSession, services: AppServices
) -> EndpointView:
    return await endpoints.change_endpoint(
        session, actor, endpoint_id=endpoint_id, settings=services.settings, changes=body
    )


@router.delete("/{endpoint_id}", status_code=204, summary="Delete a webhook endpoint with its deliveries")
async def delete_webhook_endpoint(endpoint_id: str, actor: ApiActor, session: TenantSession) -> None:
    await endpoints.delete_endpoint(session, actor, endpoint_id=endpoint_id)


@router.post("/{endpoint_id}/rotate-secret", summary="A new secret, shown once; the old one signs as well for a day")
async def rotate_webhook_secret(
    endpoint_id: str, actor: ApiActor, session: TenantSession, services: AppServices
) -> EndpointWithSecret:
    return await endpoints.rotate_secret(session, actor, endpoint_id=endpoint_id, keyring=services.keyring)


@router.post("/{endpoint_id}/test", summary="Send a test event")
async def send_test_webhook(endpoint_id: str, actor: ApiActor, session: TenantSession) -> DeliveryDetail:
    return await deliveries.send_test_event(session, actor, endpoint_id=endpoint_id)


@router.post("/{endpoint_id}/replay", summary="Send again what failed since a moment, up to a thousand deliveries")
async def replay_failed_webhooks(endpoint_id: str, body: ReplayIn, actor: ApiActor, session: TenantSession) -> Replayed:
    return await deliveries.replay_failed(session, actor, endpoint_id=endpoint_id, since=body.since)


@router.get("/{endpoint_id}/deliveries", summary="List an endpoint's deliveries of the last 30 days, newest first")
async def list_webhook_deliveries(
    endpoint_id: str,
    actor: ApiActor,
    session: TenantSession,
    status: Annotated[DeliveryStatus | None, Query(description="Only these.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[DeliveryView]:
    return await deliveries.list_deliveries(
        session, actor, endpoint_id=endpoint_id, status=status, limit=limit, cursor=cursor
    )


@router.get("/{endpoint_id}/deliveries/{delivery_id}", summary="One delivery, with what was sent and answered")
async def get_webhook_delivery(
    endpoint_id: str, delivery_id: str, actor: ApiActor, session: TenantSession
) -> DeliveryDetail:
    return await deliveries.get_delivery(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay", summary="Send one delivery again")
async def replay_webhook_delivery(
    endpoint_id: str, delivery_id: str, actor: ApiActor, session: TenantSession
) -> DeliveryDetail:
    return await deliveries.replay_delivery(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id)
