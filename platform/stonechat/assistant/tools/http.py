"""Tools that ask a web service of the tenant's: one guarded request a call.

The request goes where the configuration says, through `outbound`: public addresses, no redirect, bounded in size and
time, sent once. Secret headers are read for the call and are in nothing that comes out of it.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from stonechat.assistant.config_tools import HttpTool
from stonechat.assistant.tools.calls import Ability, Call, Outcome, cut, title_of
from stonechat.assistant.tools.context import ToolAccess, TurnContext
from stonechat.assistant.tools.secrets import SecretHeaders, secret_headers
from stonechat.assistant.tools.urls import add_query, fill_url
from stonechat.errors import PayloadTooLarge, StonechatError, TargetNotAllowed, UpstreamTimedOut
from stonechat.outbound.client import OutboundResponse

MAX_RESPONSE_BYTES = 512 * 1024
MAX_ERROR_CHARACTERS = 1_000
_READABLE = ("text/", "application/json", "application/xml", "application/problem+json")


def http_ability(tool: HttpTool, access: ToolAccess) -> Ability:
    """The tool as the model may call it."""

    async def run(context: TurnContext, call: Call) -> Outcome:
        return await _ask(tool, access, context, call)

    return Ability(
        name=tool.name,
        description=tool.description,
        title=title_of(tool.name, tool.description),
        parameters=tool.parameters,
        needs_approval=tool.needs_approval,
        fingerprint=hashlib.sha256(tool.model_dump_json().encode()).hexdigest(),
        run=run,
    )


async def _ask(tool: HttpTool, access: ToolAccess, context: TurnContext, call: Call) -> Outcome:
    with context.turn.trace.span("tool", f"{tool.name}: request", method=tool.method) as span:
        url, left_over = fill_url(tool.url, call.arguments, allow_http=access.allow_http)
        body: dict[str, Any] | None = None
        if tool.method in ("GET", "DELETE"):
            url = add_query(url, left_over)
        else:
            body = left_over
        missing: list[str] = []
        try:
            secret = await secret_headers(context, access, names=tool.secret_headers, missing=missing)
        finally:
            if missing:
                span.data["missing"] = missing
                span.data["reason"] = "It names secrets that are not stored."
        headers = {"Accept": "application/json, text/*;q=0.5"} | tool.headers
        if tool.method != "GET":
            headers["Idempotency-Key"] = idempotency_key(call)
        try:
            answer = await access.outbound.request(
                tool.method,
                url,
                headers=headers | dict(secret.headers),
                json=body,
                max_bytes=MAX_RESPONSE_BYTES,
                timeout=tool.timeout_seconds,
                allow_http=access.allow_http,
            )
        except StonechatError as error:
            span.error, span.data["failure"], span.data["reason"] = (
                "failed",
                error.code,
                secret.hide(error.detail or ""),
            )
            return Outcome(error=_told(error))
        span.data.update(status=answer.status, bytes=len(answer.content))
        outcome = _read(tool, answer, secret)
        if outcome.error is not None:
            span.error = "failed"
        return outcome


def idempotency_key(call: Call) -> str:
    """The same for a call however often it is tried, another for every other call."""
    return hashlib.sha256(f"{call.key}/{call.tool}".encode()).hexdigest()[:40]


def point(document: Any, pointer: str) -> Any:
    """What an RFC 6901 JSON Pointer points at; None if there is nothing."""
    if not pointer:
        return document
    for token in pointer[1:].split("/"):
        key = token.replace("~1", "/").replace("~0", "~")
        match document:
            case dict():
                document = document.get(key)
            case list() if key.isascii() and key.isdigit() and len(key) < 10 and int(key) < len(document):
                document = document[int(key)]
            case _:
                return None
    return document


def _read(tool: HttpTool, answer: OutboundResponse, secret: SecretHeaders) -> Outcome:
    if 300 <= answer.status < 400:
        return Outcome(error="The service answered with a redirect, which is not followed.")
    text = _text(answer)
    if text is None:
        return Outcome(error="The service answered with something that is no text.")
    text = secret.hide(text)
    if answer.status >= 400:
        detail = cut(text, MAX_ERROR_CHARACTERS) if text else None
        return Outcome(error=f"The service answered with the status {answer.status}.", data=detail)
    try:
        document = secret.hide_in(json.loads(text)) if text.strip() else None
    except (ValueError, RecursionError):
        if tool.result:
            return Outcome(error="The service answered with something that is not JSON.")
        return Outcome(data=text)
    if tool.result:
        document = {name: point(document, pointer) for name, pointer in tool.result.items()}
    return Outcome(data=document)


def _told(error: StonechatError) -> str:
    """Without the address, which is nothing for visitors; the trace has it."""
    match error:
        case UpstreamTimedOut():
            return "The service did not answer in time."
        case PayloadTooLarge():
            return "The service answered with more than can be read."
        case TargetNotAllowed():
            return "The service is not one that can be asked. The owner of this assistant can see why."
        case _:
            return "The service could not be reached, or its answer could not be understood."


def _text(answer: OutboundResponse) -> str | None:
    kind = answer.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if answer.content and not (kind.startswith(_READABLE) or kind.endswith("+json")):
        return None
    return answer.content.decode("utf-8", "replace")
