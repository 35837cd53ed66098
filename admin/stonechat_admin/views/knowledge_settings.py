"""`/console/knowledge/settings`: how documents are searched, and how far a new index has come."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response
from pydantic import ValidationError

from stonechat.accounts.secrets import list_secrets
from stonechat.errors import InvalidInput, TargetNotAllowed, Unavailable
from stonechat.knowledge.tuning import SearchSettings, SearchSettingsView, get_settings, put_settings
from stonechat.providers.service import list_providers
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled, refused

router = APIRouter(prefix="/console/knowledge/settings")

FUSIONS = [("rrf", "By rank (recommended)"), ("dbsf", "By score")]
_WRONG = {
    "embedding_dimensions": "Write a whole number from 8 to 4,096, or leave it empty.",
    "score_floor": "Write a number above 0 and up to 1, or leave it empty.",
}

Field = Annotated[str, Form(max_length=4000)]


@router.get("")
async def show_settings(console: Viewer) -> Response:
    values = await _values(console, await get_settings(console.session, console.actor))
    if console.is_partial:
        return console.fragment("knowledge/_search_builds.html", **values)
    return console.page("knowledge/search_settings.html", **values)


@router.post("")
async def save_settings(
    console: Editor,
    embedding_provider: Field = "",
    embedding_model: Field = "",
    embedding_dimensions: Field = "",
    fusion: Field = "rrf",
    reranker_url: Field = "",
    reranker_model: Field = "",
    reranker_secret: Field = "",
    score_floor: Field = "",
) -> Response:
    typed = {
        "embedding_provider": embedding_provider.strip(),
        # What was typed into a field that the choice does not use is not meant.
        "embedding_model": embedding_model.strip() if embedding_provider else "",
        "embedding_dimensions": embedding_dimensions.strip() if embedding_provider else "",
        "fusion": fusion,
        "reranker_url": reranker_url.strip(),
        "reranker_model": reranker_model.strip() if reranker_url.strip() else "",
        "reranker_secret": reranker_secret.strip() if reranker_url.strip() else "",
        "score_floor": score_floor.strip().replace(",", "."),
    }
    services = console.services
    before = await get_settings(console.session, console.actor)
    try:
        settings = SearchSettings.model_validate({name: value or None for name, value in typed.items()})
        if settings.reranker_url is not None and settings.reranker_url != before.reranker_url:
            await services.outbound.check(settings.reranker_url, allow_http=bool(services.settings.outbound_networks))
        async with console.session.begin_nested():
            view = await put_settings(
                console.session, console.actor, settings=settings, layout=services.settings.index_layout
            )
    except ValidationError as error:
        names = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
        form = Filled(typed, {name: _WRONG.get(name, "This is too long, or not understood.") for name in names})
    except (TargetNotAllowed, Unavailable) as error:
        form = refused(error, typed, about="reranker_url")
    except InvalidInput as error:
        form = refused(error, typed)
    else:
        building = any(build.state == "building" for build in view.builds)
        toast = "Saved. A new index is being built; the present one answers until then." if building else "Saved."
        if not console.is_partial:
            return console.go("/console/knowledge/settings", toast=toast)
        return console.fragment("knowledge/_search_settings_form.html", toast=toast, **await _values(console, view))
    values = await _values(console, before) | {"form": form}
    if console.is_partial:
        return console.fragment("knowledge/_search_settings_form.html", status=422, **values)
    return console.page("knowledge/search_settings.html", status=422, **values)


async def _values(console: Console, view: SearchSettingsView) -> dict[str, Any]:
    providers = await list_providers(console.session, console.actor)
    secrets = await list_secrets(console.session, console.actor, limit=100)
    stored = {name: "" if (value := getattr(view, name)) is None else value for name in SearchSettings.model_fields}
    return {
        "form": Filled(stored),
        "providers": [("", "None: search by words alone"), *((each.name, each.name) for each in providers)],
        "secrets": [("", "None"), *((each.name, each.name) for each in secrets)],
        "fusions": FUSIONS,
        "view": view,
        "building": any(build.state == "building" for build in view.builds),
    }
