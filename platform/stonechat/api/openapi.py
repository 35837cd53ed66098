"""What the framework cannot read off the routes: credentials, and the ChatKit protocol's plain ASGI routes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

_SCHEMES = {
    "apiKey": {"type": "http", "scheme": "bearer", "description": "An API key of the tenant, `sk_…`."},
    "session": {"type": "http", "scheme": "bearer", "description": "A visitor's token from `POST /v1/sessions`."},
}
_PROBLEM = {
    "description": "A problem; see docs/errors.md.",
    "content": {"application/problem+json": {"schema": {"type": "object"}}},
}
_RUN = {"name": "run", "in": "path", "required": True, "schema": {"type": "string"}}
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
_CHAT: dict[str, Any] = {
    "/chatkit": {
        "post": {
            "operationId": "chatkit",
            "summary": "The ChatKit protocol: JSON, or a stream of events with ids",
            "tags": ["Chat"],
            "parameters": [
                {
                    "name": "Stonechat-Stream",
                    "in": "header",
                    "schema": {"type": "string", "enum": ["resumable"]},
                    "description": "Let the answer outlive this connection.",
                }
            ],
            "requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": {
                "200": {
                    "description": "JSON for requests that only read or change; events for those that answer.",
                    "headers": {"Stonechat-Run": {"schema": {"type": "string"}, "description": "The answer's run."}},
                    "content": {"application/json": {"schema": {"type": "object"}}} | _EVENTS,
                },
                "default": _PROBLEM,
            },
        }
    },
    "/chatkit/runs/{run}/events": {
        "get": {
            "operationId": "run_events",
            "summary": "Resume a run after `Last-Event-ID`",
            "tags": ["Chat"],
            "parameters": [_RUN, {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}],
            "responses": {"200": {"description": "Every event after it.", "content": _EVENTS}, "default": _PROBLEM},
        }
    },
    "/chatkit/runs/{run}/cancel": {
        "post": {
            "operationId": "run_cancel",
            "summary": "Stop a run; what was said is kept",
            "tags": ["Chat"],
            "parameters": [_RUN],
            "responses": {"200": {"description": "It stops, or has stopped."}, "default": _PROBLEM},
        }
    },
}


def complete_openapi(app: FastAPI) -> None:
    """Make `app.openapi()` tell of credentials and of the chat."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        if "Chat" in {tag for path in document["paths"].values() for verb in path.values() for tag in verb["tags"]}:
            return document  # made before, and kept
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        for path, verbs in document["paths"].items():
            for verb in verbs.values():
                if path.startswith("/api/v1/"):
                    verb["security"] = [{"apiKey": []}]
                elif path == "/embed/ticket":
                    verb["security"] = [{"session": []}]
        for path, verbs in _CHAT.items():
            for verb in verbs.values():
                verb["security"] = [{"session": []}]
            document["paths"][path] = verbs
        return document

    app.openapi = openapi  # type: ignore[method-assign]
