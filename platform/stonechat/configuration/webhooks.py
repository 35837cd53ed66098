"""Webhook endpoints, without their secrets: each tenant's endpoint signs with one of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stonechat.configuration.document import WebhookEntry, placeholder
from stonechat.configuration.plan import Work, differing, paired
from stonechat.webhooks import endpoints
from stonechat.webhooks.catalogue import CATALOGUE
from stonechat.webhooks.endpoints import EndpointChanges, EndpointFields, EndpointView


async def read_webhooks(work: Work) -> list[WebhookEntry]:
    """The endpoints, in the order in which they were made."""
    return [
        WebhookEntry(
            id=view.id,
            url=view.url,
            description=view.description,
            events=view.events,
            enabled=view.enabled,
            secret=placeholder("webhook_endpoints", view.id, "secret"),
        )
        for view in await _held(work)
    ]


async def apply_webhooks(work: Work, entries: Sequence[WebhookEntry]) -> None:
    """Make and change endpoints. A new one has a secret that nobody was shown: a new one is asked for."""
    session, actor, settings = work.session, work.actor, work.means.settings
    held = await _held(work)
    urls = [_checked_url(work, number, entry) for number, entry in enumerate(entries)]
    by_entry = {id(entry): url for entry, url in zip(entries, urls, strict=True)}
    found, others = paired(
        entries,
        held,
        path="webhook_endpoints",
        entry_id=lambda entry: entry.id,
        row_id=lambda view: view.id,
        entry_name=lambda entry: by_entry[id(entry)],
        row_name=lambda view: view.url,
    )
    for other in others:
        if work.left_over("webhook endpoint", other.url):
            await endpoints.delete_endpoint(session, actor, endpoint_id=other.id)
    for number, (entry, url, view) in enumerate(zip(entries, urls, found, strict=True)):
        path, wanted = f"webhook_endpoints.{number}", _wanted(entry, url)
        with work.at(path):
            if view is None:
                fields = EndpointFields(url=url, description=entry.description, events=entry.events)
                made = await endpoints.create_endpoint(
                    session, actor, keyring=work.means.keyring, settings=settings, fields=fields
                )
                if not entry.enabled:
                    off = EndpointChanges(enabled=False)
                    await endpoints.change_endpoint(session, actor, endpoint_id=made.id, settings=settings, changes=off)
                work.done("create", "webhook endpoint", url, path=path)
                which = url if work.dry_run else f"{made.id}, which sends to {url}"
                work.ask(f"{path}.secret", f"Rotate the secret of the webhook endpoint {which}, to see one.")
            elif changed := differing({name: getattr(view, name) for name in wanted}, wanted):
                changes = EndpointChanges.model_validate({name: wanted[name] for name in changed})
                await endpoints.change_endpoint(session, actor, endpoint_id=view.id, settings=settings, changes=changes)
                work.done("change", "webhook endpoint", url, path=path, fields=changed)
            else:
                work.same()


async def _held(work: Work) -> list[EndpointView]:
    return (await endpoints.list_endpoints(work.session, work.actor)).data[::-1]


def _checked_url(work: Work, number: int, entry: WebhookEntry) -> str:
    with work.at(f"webhook_endpoints.{number}"):
        return endpoints.checked_url(entry.url, work.means.settings)


def _wanted(entry: WebhookEntry, url: str) -> dict[str, Any]:
    """As it is stored: kinds of events in the catalogue's order. Unknown ones stay, to be refused."""
    order = {kind.name: number for number, kind in enumerate(CATALOGUE)}
    events = entry.events
    if events is not None:
        events = sorted(dict.fromkeys(events), key=lambda name: (order.get(name, len(order)), name))
    return {"url": url, "description": entry.description.strip(), "events": events, "enabled": entry.enabled}
