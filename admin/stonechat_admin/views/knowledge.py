"""`/console/knowledge`: what assistants answer from."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, Response, UploadFile
from pydantic import ValidationError

from stonechat.errors import InvalidInput, StonechatError
from stonechat.knowledge import browse, service, sources
from stonechat.knowledge.progress import places_in_line
from stonechat.knowledge.schemas import FaqSourceIn, Pair, TextSourceIn
from stonechat.web import Cursor
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.documents import STATUSES, Show, by_filter, describe, look
from stonechat_admin.forms import Filled, refused
from stonechat_admin.web_sites import SITE_FORM

router = APIRouter(prefix="/console/knowledge")

PAGE = 25
MAX_FILES = 20
"""Sent in one form, which happens only where scripts do not run."""
MAX_WATCHED = 100
Typed = Annotated[str, Form()]


async def _list(console: Console, *, show: Show = "", cursor: str | None = None) -> dict[str, Any]:
    """What the list is drawn from."""
    counts = await browse.count_documents(console.session, console.actor)
    found, following = await service.list_documents(
        console.session, console.actor, status=STATUSES[show] if show else None, limit=PAGE, cursor=cursor
    )
    kinds = await browse.kinds_of_sources(console.session, console.actor, documents=found)
    places = await places_in_line(console.session, console.actor, documents=found)
    return {
        "documents": [describe(document, kinds, places) for document in found],
        "following": following,
        "chosen": show,
        **by_filter(counts),
    }


def _page(console: Console, values: dict[str, Any], *, status: int = 200, **more: Any) -> Response:
    forms = {"text_form": Filled(), "faq_form": Filled(), "refusals": []}
    return console.page(
        "knowledge/page.html",
        status=status,
        max_bytes=service.MAX_DOCUMENT_BYTES,
        max_megabytes=service.MAX_DOCUMENT_BYTES // 1024 // 1024,
        **values,
        **SITE_FORM,
        **(forms | more),
    )


@router.get("")
async def show_knowledge(
    console: Viewer, show: Annotated[Show, Query()] = "", cursor: Cursor = None, part: Annotated[str, Query()] = ""
) -> Response:
    values = await _list(console, show=show, cursor=cursor)
    if console.is_partial:
        return console.fragment("knowledge/_list.html" if part == "list" else "knowledge/_rows.html", **values)
    return _page(console, values)


@router.get("/progress")
async def show_progress(
    console: Viewer, document: Annotated[list[str] | None, Query()] = None, show: Annotated[Show, Query()] = ""
) -> Response:
    """The rows of documents that were waiting a moment ago, as `<id>.<look>`, where there is news."""
    asked = dict(item.rpartition(".")[::2] for item in (document or [])[:MAX_WATCHED])
    found = await browse.get_documents(console.session, console.actor, document_ids=list(asked))
    kinds = await browse.kinds_of_sources(console.session, console.actor, documents=found)
    news = [each for each in found if asked[each.document_id] != look(each)]
    places = await places_in_line(console.session, console.actor, documents=news)
    changed = [describe(each, kinds, places) for each in news]
    counts = await browse.count_documents(console.session, console.actor)
    gone = sorted(asked.keys() - {each.document_id for each in found})
    return console.fragment("knowledge/_progress.html", documents=changed, gone=gone, chosen=show, **by_filter(counts))


@router.post("/documents")
async def upload_documents(console: Editor, file: Annotated[list[UploadFile], File()]) -> Response:
    """One file at a time where scripts run; several at once from the bare form."""
    await console.services.flags.require("uploads", console.tenant_id)
    added, refusals = 0, []
    for each in file[:MAX_FILES]:
        try:
            async with console.session.begin_nested():
                await service.create_document(
                    console.session,
                    console.actor,
                    files=console.services.knowledge.files,
                    data=await each.read(service.MAX_DOCUMENT_BYTES + 1),
                    filename=each.filename,
                )
            added += 1
        except StonechatError as error:
            if console.is_partial or error.status >= 500:
                raise
            refusals.append((each.filename or "A file", str(error)))
    if len(file) > MAX_FILES:
        refusals.append(("The rest", f"Send at most {MAX_FILES} files at once."))
    if console.is_partial:
        return console.fragment()
    if refusals:
        return _page(console, await _list(console), status=422, refusals=refusals)
    return console.go("/console/knowledge", toast=f"{added} document{'' if added == 1 else 's'} added.")


@router.post("/texts")
async def write_text(console: Editor, name: Typed = "", text: Typed = "", url: Typed = "") -> Response:
    typed = {"name": name, "text": text, "url": url}
    try:
        source = TextSourceIn(type="text", name=name, text=text, url=url or None)
    except ValidationError as error:
        return _again(console, "text", Filled(typed, _complaints(error, typed)))
    return await _write(console, source, "text", typed)


@router.post("/questions")
async def write_question(console: Editor, question: Typed = "", answer: Typed = "", url: Typed = "") -> Response:
    typed = {"question": question, "answer": answer, "url": url}
    try:
        pair = Pair(question=question, answer=answer)
        source = FaqSourceIn(type="faq", name=" ".join(pair.question.split())[:300], pairs=[pair], url=url or None)
    except ValidationError as error:
        return _again(console, "faq", Filled(typed, _complaints(error, typed)))
    return await _write(console, source, "faq", typed)


async def _write(console: Console, source: TextSourceIn | FaqSourceIn, form: str, typed: dict[str, str]) -> Response:
    await console.services.flags.require("uploads", console.tenant_id)
    try:
        async with console.session.begin_nested():
            files = console.services.knowledge.files
            await sources.create_source(console.session, console.actor, files=files, source=source)
    except InvalidInput as error:
        return _again(console, form, refused(error, typed))
    return console.fragment(
        "knowledge/_written.html",
        toast=f"“{source.name}” was added. It answers in a moment.",
        close=True,
        form_name=form,
        text_form=Filled(),
        faq_form=Filled(),
        **await _list(console),
    )


def _again(console: Console, form: str, filled: Filled) -> Response:
    values: dict[str, Any] = {f"{form}_form": filled}
    return console.fragment(f"knowledge/_{form}_form.html", status=422, **values)


_SENTENCES = {
    "string_too_short": "Fill this in.",
    "string_too_long": "This is too long: at most {max_length} characters.",
}


def _complaints(error: ValidationError, typed: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for item in error.errors():
        name = str(item["loc"][-1])
        sentence = _SENTENCES.get(item["type"], "This cannot be used.")
        found.setdefault(name if name in typed else next(iter(typed)), sentence.format(**item.get("ctx", {})))
    return found
