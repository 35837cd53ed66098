"""`/console/knowledge/sites`: pages, sitemaps and whole sites that assistants read, and keep up to date."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat.errors import InvalidInput, NotFound, TargetNotAllowed, TooManySources
from stonechat.knowledge import sources
from stonechat.knowledge.models import Schedule, Source
from stonechat.knowledge.schemas import WebSourceIn
from stonechat.knowledge.web import service
from stonechat.knowledge.web.models import PageState
from stonechat.knowledge.web.progress import DEFAULT_PAGES, MAX_PAGES
from stonechat.web import Cursor
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled, refused
from stonechat_admin.web_sites import PAGE_FILTERS, SCHEDULES, SITE_FORM, PageFilter, describe, describe_page

router = APIRouter(prefix="/console/knowledge/sites")

PAGES = 50
Typed = Annotated[str, Form()]


@router.get("")
async def show_sites(console: Viewer) -> Response:
    found = await service.list_web_sources(console.session, console.actor)
    return console.page("web_sites/page.html", sites=[describe(source) for source in found], **SITE_FORM)


@router.post("")
async def add_site(
    console: Editor,
    url: Typed = "",
    type: Typed = "site",  # noqa: A002  as the API has it
    schedule: Typed = "never",
    max_pages: Typed = str(DEFAULT_PAGES),
    exclude: Typed = "",
) -> Response:
    typed = {"url": url, "type": type, "schedule": schedule, "max_pages": max_pages, "exclude": exclude}
    await console.services.flags.require("web_sources", console.tenant_id)
    try:
        body = WebSourceIn.model_validate(typed | {"url": _address(url), "exclude": exclude.split()})
        async with console.session.begin_nested():
            made = await service.create_web_source(
                console.session, console.actor, web=console.services.knowledge.web, source=body
            )
    except ValidationError as error:
        return _again(console, Filled(typed, _complaints(error)))
    except (InvalidInput, TargetNotAllowed, TooManySources) as error:
        return _again(console, refused(error, typed, about="url"))
    return console.go(f"/console/knowledge/sites/{made.source_id}", toast="It is being fetched.")


def _address(text: str) -> str:
    """An address from what people type: the name of a site alone will do."""
    text = text.strip()
    return f"https://{text}" if text and "://" not in text else text


def _again(console: Console, form: Filled) -> Response:
    return console.fragment("web_sites/_form.html", status=422, **(SITE_FORM | {"site_form": form}))


_SENTENCES = {
    "url": "Fill in the address, as it stands in the browser.",
    "max_pages": f"A number from 1 to {MAX_PAGES}.",
    "exclude": "Paths that begin with a slash, such as /blog, at most 50.",
}


def _complaints(error: ValidationError) -> dict[str, str]:
    fields = {str(item["loc"][0]) for item in error.errors()}
    return {name: _SENTENCES.get(name, "Choose one of these.") for name in fields}


async def _site(console: Console, source_id: str) -> Source:
    source = await sources.get_source(console.session, console.actor, source_id=source_id)
    if source.kind not in service.WEB:
        raise NotFound("There is no such web site.")
    return source


@router.get("/{source_id}")
async def show_site(
    source_id: str,
    console: Viewer,
    show: Annotated[PageFilter, Query()] = "",
    cursor: Cursor = None,
    part: Annotated[str, Query()] = "",
) -> Response:
    source = await _site(console, source_id)
    site = describe(source)
    states = cast("tuple[PageState, ...]", PAGE_FILTERS[show])
    pages, following = await service.list_pages(
        console.session, console.actor, source=source, state=states or None, limit=PAGES, cursor=cursor
    )
    values: dict[str, Any] = {
        "site": site,
        "pages": [describe_page(page) for page in pages],
        "following": following,
        "chosen": show,
    }
    if console.is_partial:
        return console.fragment("web_sites/_progress.html" if part == "state" else "web_sites/_pages.html", **values)
    form = Filled({"schedule": source.schedule})
    return console.page("web_sites/site.html", form=form, schedules=SCHEDULES, **values)


@router.post("/{source_id}/sync")
async def sync_site(source_id: str, console: Editor) -> Response:
    await _site(console, source_id)
    await console.services.flags.require("web_sources", console.tenant_id)
    source = await service.sync_source(console.session, console.actor, source_id=source_id)
    return console.fragment("web_sites/_state.html", toast="It is being fetched.", site=describe(source))


@router.post("/{source_id}/cancel")
async def cancel_site(source_id: str, console: Editor) -> Response:
    await _site(console, source_id)
    source = await service.cancel_sync(console.session, console.actor, source_id=source_id)
    return console.fragment(
        "web_sites/_state.html", toast="Stopped. What was read so far stays.", site=describe(source)
    )


@router.post("/{source_id}/schedule")
async def schedule_site(source_id: str, console: Editor, schedule: Typed = "") -> Response:
    await _site(console, source_id)
    if schedule not in dict(SCHEDULES):
        raise InvalidInput("Choose how often it is fetched again.")
    chosen = cast("Schedule", schedule)
    source = await service.update_source(console.session, console.actor, source_id=source_id, schedule=chosen)
    return console.fragment("web_sites/_state.html", toast="Saved.", site=describe(source))


@router.delete("/{source_id}")
async def delete_site(source_id: str, console: Editor) -> Response:
    source = await _site(console, source_id)
    await sources.delete_source(console.session, console.actor, source_id=source_id)
    return console.go("/console/knowledge/sites", toast=f"“{source.name}” was deleted, with its pages.")
