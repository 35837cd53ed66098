"""Endpoints: addresses of a tenant's own that are told of its events."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal, cast
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import tenant_cipher
from stonechat.errors import Conflict, InvalidInput, NotFound, TargetNotAllowed
from stonechat.outbound.policy import Policy
from stonechat.plans.entitlements import require_room
from stonechat.plans.terms import MAX_WEBHOOK_ENDPOINTS
from stonechat.settings import Settings
from stonechat.web import Page, decode_cursor, encode_cursor
from stonechat.webhooks.catalogue import CATALOGUE, KINDS
from stonechat.webhooks.disabling import disable
from stonechat.webhooks.models import WebhookEndpointRow
from stonechat.webhooks.signing import new_signing_secret

MAX_ENDPOINTS = MAX_WEBHOOK_ENDPOINTS
"""Of one tenant, where its plan does not say less."""
MAX_URL, MAX_DESCRIPTION = 2048, 300
OVERLAP = timedelta(hours=24)
"""For so long after a rotation the old secret signs as well."""
SECRET_KIND = "webhook_secret"
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f]")


class EndpointFields(BaseModel):
    """What a tenant says of an endpoint."""

    model_config = ConfigDict(extra="forbid")

    url: Annotated[str, Field(description="Where events are sent: https, a public host, no user name in it.")]
    description: Annotated[str, Field(description="For yourself, at most 300 characters.")] = ""
    events: Annotated[
        list[str] | None,
        Field(max_length=2 * len(CATALOGUE), description="The kinds of events; null for all, later ones included."),
    ] = None


class EndpointChanges(BaseModel):
    """What to change; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid")

    url: str | None = None
    description: str | None = None
    events: Annotated[list[str] | None, Field(max_length=2 * len(CATALOGUE))] = None
    enabled: bool | None = None


class EndpointView(BaseModel):
    """An endpoint, without its secret."""

    id: str
    url: str
    description: str
    events: list[str] | None
    enabled: bool
    disabled_reason: Literal["", "by_hand", "failing", "gone"]
    """Why it is not enabled: somebody did it, it did nothing but fail for days, or it answered 410."""
    old_secret_until: AwareDatetime | None
    """While a secret that was replaced still signs as well."""
    failing_since: AwareDatetime | None
    paused_until: AwareDatetime | None
    last_success_at: AwareDatetime | None
    created_at: AwareDatetime


class EndpointWithSecret(EndpointView):
    """A new endpoint, or one with a new secret, which is shown this once."""

    secret: str


async def create_endpoint(
    session: AsyncSession, actor: Actor, *, keyring: Keyring, settings: Settings, fields: EndpointFields
) -> EndpointWithSecret:
    """A new endpoint, enabled. Raises `InvalidInput`, `PlanLimitReached`, or `Conflict` where there are too many for any plan."""
    actor.require("admin")
    # Creations wait for one another, so that no two are both the last: where the plan bounds them, and where it does not.
    await session.execute(
        select(func.pg_advisory_xact_lock(func.hashtextextended(f"{actor.tenant_id}:webhook_endpoints", 0)))
    )
    held = endpoints_held(actor.tenant_id)
    await require_room(session, actor.tenant_id, "webhook_endpoints", used=held)
    if (await session.scalar(held) or 0) >= MAX_ENDPOINTS:
        raise Conflict(f"There are already {MAX_ENDPOINTS} endpoints. Delete one that is not used.")
    made = WebhookEndpointRow(
        tenant_id=actor.tenant_id,
        endpoint_id=ids.new_id("whe"),
        url=checked_url(fields.url, settings),
        description=_description(fields.description),
        events=_events(fields.events),
        enabled=True,
        disabled_reason="",
        created_at=clock.now(),
    )
    secret = new_signing_secret()
    cipher = await tenant_cipher(session, keyring, actor.tenant_id)
    made.sealed_secret = cipher.seal(secret.encode(), kind=SECRET_KIND, subject=made.endpoint_id)
    session.add(made)
    await session.flush()
    await record_audit(
        session, actor, "webhook_endpoint.create", subject_id=made.endpoint_id, detail={"events": made.events}
    )
    return EndpointWithSecret(**_view(made).model_dump(), secret=secret)


def endpoints_held(tenant_id: UUID) -> Select[int]:
    """How many the tenant has, enabled or not."""
    return select(func.count()).select_from(WebhookEndpointRow).where(WebhookEndpointRow.tenant_id == tenant_id)


async def list_endpoints(
    session: AsyncSession, actor: Actor, *, limit: int = MAX_ENDPOINTS, cursor: str | None = None
) -> Page[EndpointView]:
    """The tenant's endpoints, newest first."""
    actor.require("read")
    row = WebhookEndpointRow
    chosen = select(row).where(row.tenant_id == actor.tenant_id).order_by(row.endpoint_id.desc()).limit(limit + 1)
    if cursor is not None:
        chosen = chosen.where(row.endpoint_id < decode_cursor(cursor, str)[0])
    rows = list(await session.scalars(chosen))
    following = encode_cursor(rows[limit - 1].endpoint_id) if len(rows) > limit else None
    return Page(data=[_view(each) for each in rows[:limit]], next_cursor=following)


async def get_endpoint(session: AsyncSession, actor: Actor, *, endpoint_id: str) -> EndpointView:
    """One endpoint. Raises `NotFound`."""
    actor.require("read")
    return _view(await load_endpoint(session, actor, endpoint_id=endpoint_id))


async def change_endpoint(
    session: AsyncSession,
    actor: Actor,
    *,
    endpoint_id: str,
    settings: Settings,
    changes: EndpointChanges,
) -> EndpointView:
    """Change what is given. Switched off, what waits for it fails; switched on, it starts with a clean slate."""
    actor.require("admin")
    row = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    given = changes.model_fields_set
    if "url" in given:
        row.url = checked_url(changes.url or "", settings)
        row.failures, row.failing_since, row.paused_until = 0, None, None
    if "description" in given:
        row.description = _description(changes.description or "")
    if "events" in given:
        row.events = _events(changes.events)
    if changes.enabled is True and not row.enabled:
        row.enabled, row.disabled_reason = True, ""
        row.failures, row.failing_since, row.paused_until = 0, None, None
    if changes.enabled is False and row.enabled:
        await disable(session, row, reason="by_hand")
    row.updated_at = clock.now()
    await session.flush()
    detail: dict[str, object] = {"fields": sorted(given)}
    if "enabled" in given:
        detail["enabled"] = row.enabled
    await record_audit(session, actor, "webhook_endpoint.change", subject_id=endpoint_id, detail=detail)
    return _view(row)


async def rotate_secret(
    session: AsyncSession, actor: Actor, *, endpoint_id: str, keyring: Keyring
) -> EndpointWithSecret:
    """A new secret. For a day deliveries are signed with the old one as well. Raises `NotFound`."""
    actor.require("admin")
    row = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    secret = new_signing_secret()
    cipher = await tenant_cipher(session, keyring, actor.tenant_id)
    row.sealed_old_secret, row.old_secret_until = row.sealed_secret, clock.now() + OVERLAP
    row.sealed_secret = cipher.seal(secret.encode(), kind=SECRET_KIND, subject=endpoint_id)
    row.updated_at = clock.now()
    await session.flush()
    await record_audit(session, actor, "webhook_endpoint.rotate_secret", subject_id=endpoint_id)
    return EndpointWithSecret(**_view(row).model_dump(), secret=secret)


async def delete_endpoint(session: AsyncSession, actor: Actor, *, endpoint_id: str) -> None:
    """Delete it with its deliveries; nothing more is sent there. Raises `NotFound`."""
    actor.require("admin")
    row = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    await session.delete(row)
    await session.flush()
    await record_audit(session, actor, "webhook_endpoint.delete", subject_id=endpoint_id)


async def load_endpoint(
    session: AsyncSession, actor: Actor, *, endpoint_id: str, lock: bool = False
) -> WebhookEndpointRow:
    """The tenant's endpoint, locked until the transaction ends if asked. Raises `NotFound`."""
    row = WebhookEndpointRow
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.endpoint_id == endpoint_id)
    found: WebhookEndpointRow | None = None
    if "\x00" not in endpoint_id:
        found = await session.scalar(chosen.with_for_update() if lock else chosen)
    if found is None:
        raise NotFound("There is no such endpoint.")
    return found


async def signing_secrets(session: AsyncSession, row: WebhookEndpointRow, *, keyring: Keyring) -> list[str]:
    """The secret, and the one before it while that counts. Raises `SecretUnreadable`."""
    cipher = await tenant_cipher(session, keyring, row.tenant_id)
    sealed = [row.sealed_secret]
    if row.sealed_old_secret is not None and row.old_secret_until is not None and row.old_secret_until > clock.now():
        sealed.append(row.sealed_old_secret)
    return [cipher.open(each, kind=SECRET_KIND, subject=row.endpoint_id).decode() for each in sealed]


def http_allowed(settings: Settings) -> bool:
    """Whether addresses without encryption are taken: nowhere but in development."""
    return not settings.is_production


def checked_url(url: str, settings: Settings) -> str:
    """The address as it is stored. Raises `InvalidInput` for one that nothing is sent to."""
    url = url.strip()
    if not 1 <= len(url) <= MAX_URL:
        raise _fault("url", f"An address has 1 to {MAX_URL:,} characters.")
    try:
        target = Policy(allowed_networks=settings.outbound_networks).target(url, allow_http=http_allowed(settings))
    except TargetNotAllowed as error:
        raise _fault("url", str(error)) from None
    if len(target.url) > MAX_URL:
        raise _fault("url", f"An address has 1 to {MAX_URL:,} characters.")
    return target.url


def _description(text: str) -> str:
    text = text.strip()
    if len(text) > MAX_DESCRIPTION or _INVISIBLE.search(text) or not _storable(text):
        raise _fault("description", f"A description is one line of at most {MAX_DESCRIPTION} characters.")
    return text


def _events(kinds: list[str] | None) -> list[str] | None:
    if kinds is None:
        return None
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise _fault("events", f"There is no kind of event “{unknown[0][:60]}”.")
    if not kinds:
        raise _fault("events", "Choose at least one kind of event, or all of them.")
    return [kind.name for kind in CATALOGUE if kind.name in kinds]


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _fault(field: str, message: str) -> InvalidInput:
    return InvalidInput(message, errors=[{"field": field, "message": message}])


def _view(row: WebhookEndpointRow) -> EndpointView:
    now = clock.now()
    return EndpointView(
        id=row.endpoint_id,
        url=row.url,
        description=row.description,
        events=row.events,
        enabled=row.enabled,
        disabled_reason=cast("Literal['', 'by_hand', 'failing', 'gone']", row.disabled_reason),
        old_secret_until=row.old_secret_until if row.old_secret_until and row.old_secret_until > now else None,
        failing_since=row.failing_since,
        paused_until=row.paused_until if row.paused_until and row.paused_until > now else None,
        last_success_at=row.last_success_at,
        created_at=row.created_at,
    )
