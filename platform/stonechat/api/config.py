"""`/api/v1/config`: the tenant's whole configuration as one document, in JSON or YAML."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Depends, Query, Request, Response

from stonechat.api.dependencies import ApiActor, AppServices, Services
from stonechat.configuration.configuration import apply_configuration, read_configuration
from stonechat.configuration.document import Configuration
from stonechat.configuration.means import Means
from stonechat.configuration.plan import Applied
from stonechat.configuration.texts import MAX_BYTES, MAX_YAML_BYTES, Format, read_document, write_document
from stonechat.errors import Unavailable, UnsupportedMediaType
from stonechat.limits.addresses import limit_address

router = APIRouter(prefix="/config", tags=["Configuration"], dependencies=[Depends(limit_address)])

WAIT_SECONDS = 15.0
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
ResultT = TypeVar("ResultT")

_MEDIA: dict[Format, str] = {"json": "application/json", "yaml": "application/yaml"}
_FORMS: dict[str, Format] = {
    "application/json": "json",
    "application/yaml": "yaml",
    "application/x-yaml": "yaml",
    "text/yaml": "yaml",
    "text/x-yaml": "yaml",
}
_EXAMPLE: dict[str, Any] = {
    "version": 1,
    "limits": {"visitor": {"messages_per_minute": 10, "concurrent": 2}},
    "agents": [
        {
            "draft": {"name": "Shop helper", "instructions": "Answer briefly.", "model": "extractive"},
            "published": "draft",
            "domain_keys": [
                {"name": "Shop", "environment": "production", "origins": ["https://shop.example"]},
            ],
        }
    ],
}
_BODY = {
    "required": True,
    "content": {
        media: {"schema": {"$ref": "#/components/schemas/Configuration"}, "example": _EXAMPLE}
        for media in _MEDIA.values()
    },
}


@router.get(
    "",
    summary="Export the configuration",
    response_class=Response,
    responses={200: {"model": Configuration, "content": {_MEDIA["yaml"]: {"schema": {"type": "string"}}}}},
)
async def get_config(
    actor: ApiActor,
    services: AppServices,
    form: Annotated[Format, Query(alias="format")] = "json",
    content: Annotated[bool, Query(description="With the texts and the question-answer pairs written here.")] = False,
) -> Response:
    """Everything but members, API keys, documents and secrets. Where a secret is, stands its name: `${secrets.shop.value}`."""
    async with services.database.tenant(actor.tenant_id) as session:
        found = await read_configuration(session, actor, means=means_of(services), content=content)
    written = await _in_turn(lambda: write_document(found, form=form))
    return Response(written, media_type=_MEDIA[form])


@router.put("", summary="Apply a configuration, or see what applying it would do", openapi_extra={"requestBody": _BODY})
async def put_config(
    request: Request,
    actor: ApiActor,
    services: AppServices,
    dry_run: Annotated[bool, Query(description="Do it, meet every error, and undo it.")] = False,
    prune: Annotated[
        bool, Query(description="Remove what the document does not name, of the parts that stand in it.")
    ] = False,
) -> Applied:
    """All of it or nothing. What is the same stays the same, so that applying twice changes nothing.

    Needs the scope `write`, and `admin` for what needs it elsewhere: budgets, prices, and most of what `prune` removes.
    """
    actor.require("write")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = _FORMS.get(kind)
    if form is None:
        raise UnsupportedMediaType("Send the configuration as application/json or application/yaml.")
    max_bytes = MAX_BYTES if form == "json" else MAX_YAML_BYTES
    body = await request.body()
    wanted = await _in_turn(lambda: read_document(body, form=form, max_bytes=max_bytes))
    return await apply_configuration(
        services.database, actor, means=means_of(services), wanted=wanted, dry_run=dry_run, prune=prune
    )


async def _in_turn(work: Callable[[], ResultT]) -> ResultT:
    """In a thread, one document of this process after another: a large one is seconds of a processor.

    Raises `Unavailable` where it would have to wait for too long.
    """
    turn = _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(1))
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await turn.acquire()
    except TimeoutError:
        raise Unavailable("Other configurations are being read and written. Try again in a moment.") from None
    try:
        return await asyncio.to_thread(work)
    finally:
        turn.release()


def means_of(services: Services) -> Means:
    """What applying works with, of a process's services."""
    return Means(
        settings=services.settings,
        keyring=services.keyring,
        files=services.knowledge.files,
        web=services.knowledge.web,
        outbound=services.outbound,
        flags=services.flags,
        rules=services.limiter.rules,
    )
