"""What the framework works out of each route, once a process: it is half a second for every application that a test opens."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from fastapi import routing

_OF_ONE_APPLICATION = {"included_router", "dependency_overrides_provider"}
"""What does not change the outcome: no test of ours overrides a dependency, and the router's own part is compared below."""
_OF_THE_ROUTER = ("default_response_class", "generate_unique_id_function", "strict_content_type")


def remember_routes() -> None:
    """From now on, a route that is included in the same way is the same object in every application."""
    build = routing._EffectiveRouteContext.from_api_route
    known: dict[int, list[tuple[list[Any], routing._EffectiveRouteContext]]] = {}

    def remembered(
        *, original_route: routing.APIRoute, include_context: routing._RouterIncludeContext
    ) -> routing._EffectiveRouteContext:
        how = [
            getattr(include_context, each.name)
            for each in fields(include_context)
            if each.name not in _OF_ONE_APPLICATION
        ]
        how += [getattr(include_context.included_router, name) for name in _OF_THE_ROUTER]
        # What is kept holds the route, so that no other gets its id.
        same = known.setdefault(id(original_route), [])
        for before, made in same:
            if before == how:
                return made
        same.append((how, build(original_route=original_route, include_context=include_context)))
        return same[-1][1]

    routing._EffectiveRouteContext.from_api_route = remembered  # type: ignore[method-assign,assignment]
