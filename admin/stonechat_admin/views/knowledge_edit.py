"""`/console/knowledge/documents/{id}/edit`: texts, and questions with their answers, as somebody wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat.errors import EditConflict, InvalidInput, NotFound
from stonechat.knowledge import editing, service
from stonechat.knowledge.editing import Rewriting, Written
from stonechat.knowledge.schemas import Pair, TextSourceIn
from stonechat_admin.auth import Console, Editor
from stonechat_admin.forms import Filled, refused

router = APIRouter(prefix="/console/knowledge/documents/{document_id}/edit")

PAIRS = 25
"""On one page."""
Typed = Annotated[str, Form()]
Several = Annotated[list[str] | None, Form()]
_FILL = "Fill in both, or empty both to remove the question."


@router.get("")
async def edit(
    document_id: str, console: Editor, start: Annotated[int, Query(ge=0, le=editing.MAX_PAIRS)] = 0
) -> Response:
    written = await _written(console, document_id)
    pairs = [(pair.question, pair.answer, "\n".join(pair.variants)) for pair in written.pairs[start : start + PAIRS]]
    return _page(console, document_id, written, start=start, pairs=pairs, form=_filled(written))


@router.post("/text")
async def save_text(
    document_id: str, console: Editor, name: Typed = "", text: Typed = "", url: Typed = "", seen: Typed = ""
) -> Response:
    written = await _written(console, document_id)
    typed = {"name": name, "text": text, "url": url}
    try:
        TextSourceIn(type="text", name=name, text=text)
        async with console.session.begin_nested():
            await _rewrite(console, written, Rewriting(name=name.strip(), text=text, url=url), seen=seen)
    except ValidationError as error:
        form = Filled(
            typed, {str(item["loc"][-1]): "Fill this in, and keep it short enough." for item in error.errors()}
        )
        return _page(console, document_id, written, start=0, pairs=[], form=form, status=422)
    except (InvalidInput, EditConflict) as error:
        form = refused(error, typed)
        return _page(console, document_id, written, start=0, pairs=[], form=form, status=422)
    return console.go(
        f"/console/knowledge/documents/{document_id}", toast=f"“{name.strip()}” was saved. It is read again."
    )


@router.post("/pairs")
async def save_pairs(
    document_id: str,
    console: Editor,
    question: Several = None,
    answer: Several = None,
    variants: Several = None,
    name: Typed = "",
    url: Typed = "",
    seen: Typed = "",
    start: Annotated[int, Form(ge=0, le=editing.MAX_PAIRS)] = 0,
) -> Response:
    """Those of one page: emptied ones go, the last is new."""
    written = await _written(console, document_id)
    shown = list(zip(question or [], answer or [], variants or [], strict=False))[: PAIRS + 1]
    form = Filled({"name": name, "url": url})
    try:
        changed = [
            Pair(
                question=" ".join(asked.split()),
                answer=said,
                variants=[line.strip() for line in other.splitlines() if line.strip()],
            )
            for asked, said, other in shown
            if asked.strip() or said.strip()
        ]
        pairs = [*written.pairs[:start], *changed, *written.pairs[start + PAIRS :]]
        async with console.session.begin_nested():
            await _rewrite(console, written, Rewriting(name=name.strip() or None, pairs=pairs, url=url), seen=seen)
    except (ValidationError, InvalidInput, EditConflict) as error:
        message = _FILL if isinstance(error, ValidationError) else str(error)
        form = Filled(form.values, {}, message)
        return _page(console, document_id, written, start=start, pairs=shown, form=form, status=422)
    return console.go(
        f"/console/knowledge/documents/{document_id}", toast="The questions were saved. They are read again."
    )


async def _written(console: Console, document_id: str) -> Written:
    document = await service.get_document(console.session, console.actor, document_id=document_id)
    if document.source_id is None:
        raise NotFound("This was uploaded. Upload the changed file in its place.")
    files = console.services.knowledge.files
    return await editing.read_written(console.session, console.actor, files=files, source_id=document.source_id)


async def _rewrite(console: Console, written: Written, change: Rewriting, *, seen: str) -> None:
    await editing.rewrite_source(
        console.session,
        console.actor,
        files=console.services.knowledge.files,
        source_id=written.source_id,
        change=change,
        seen=seen or None,
    )


def _filled(written: Written) -> Filled:
    return Filled({"name": written.name, "text": written.text or "", "url": written.url or ""})


def _page(
    console: Console,
    document_id: str,
    written: Written,
    *,
    start: int,
    pairs: Sequence[tuple[str, str, str]],
    form: Filled,
    status: int = 200,
) -> Response:
    return console.page(
        "knowledge/edit.html",
        status=status,
        document_id=document_id,
        written=written,
        form=form,
        pairs=pairs,
        start=start,
        total=len(written.pairs),
        following=start + PAIRS if start + PAIRS < len(written.pairs) else None,
        earlier=max(0, start - PAIRS) if start else None,
        blank=len(pairs) <= PAIRS and status == 200,
    )
