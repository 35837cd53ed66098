"""No route without a limit, but for the few that are named here with a reason."""

from __future__ import annotations

from fastapi.routing import iter_route_contexts

from stonechat.app import create_app
from stonechat.limits.addresses import limit_of
from stonechat.settings import Settings

EXEMPT = {
    "/healthz": "touches nothing",
    "/readyz": "a load balancer's, which must not be told 429",
    "/embed.js": "from memory, cached by browsers",
    "/embed/{digest}/embed.js": "from memory, cached for ever",
    "/embed/assets/{digest}/{name}": "from memory, cached for ever",
    "/console/assets/{digest}/{name:path}": "from memory, cached for ever",
    "/openapi.json": "from memory",
    "/webhooks/stripe": "Stripe's, many at once; one that is not signed costs a hash",
}


def test_every_route_is_limited_or_exempt_by_name() -> None:
    app = create_app(Settings())
    limits = {context.path: limit_of(context) for context in iter_route_contexts(app.routes)}
    assert len(limits) > 20
    unlimited = {path for path, limit in limits.items() if limit is None}
    assert unlimited - EXEMPT.keys() == set()
    assert EXEMPT.keys() - unlimited == set(), "an exemption that is no longer needed"
