"""Knowledge in the console: added, watched, read, searched, deleted, each by whom it may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stonechat.accounts.models import Role
from stonechat.knowledge import service, sources
from support.console import Browser, ConsoleWorld
from support.documents import encrypted_pdf, scanned_pdf
from support.reading import Reader

PATH = "/console/knowledge"
RETURNS = "# Returns\n\nYou may send goods back within 30 days.\n\n# Shipping\n\nParcels to Norway cost 12 EUR.\n"


@pytest.fixture
async def place(world: ConsoleWorld) -> ConsoleWorld:
    """The world, in a tenant of the test's own."""
    return replace(world, tenant_id=await world.another_tenant())


@pytest.fixture
def reader(place: ConsoleWorld) -> Reader:
    return Reader(place.services.database, place.services.knowledge, place.tenant_id)


async def upload(browser: Browser, name: str, data: bytes, *, status: int = 200) -> Any:
    return await browser.htmx("POST", f"{PATH}/documents", files={"file": (name, data)}, status=status)


async def test_an_empty_list_teaches(place: ConsoleWorld) -> None:
    editor = await (await place.signed_in("editor")).page(PATH)
    assert "Begin with your own pages" in editor.text
    assert editor.one("#drop")
    viewer = await (await place.signed_in("viewer")).page(PATH)
    assert "Once an editor of your team adds documents" in viewer.text
    assert viewer.all("#drop, dialog form[hx-post]") == []


async def test_an_upload_waits_is_read_and_answers(place: ConsoleWorld, reader: Reader) -> None:
    editor = await place.signed_in("editor")
    await upload(editor, "shop_policy.md", RETURNS.encode())
    row = (await editor.page(PATH)).one("#documents tr[data-waiting]")
    assert "Waiting to be read" in row.text()
    document_id = str(row.attributes["id"])
    still = await editor.htmx("GET", f"{PATH}/progress?document={document_id}.pending")
    assert still.response.text.strip() == ""
    await reader.run_jobs()
    changed = await editor.htmx("GET", f"{PATH}/progress?document={document_id}.pending&document=doc_gone.pending")
    assert "Ready" in changed.response.text
    assert f"hx-target=\"[id='{document_id}']\"" in changed.response.text
    assert 'hx-swap="delete"' in changed.response.text, "what was deleted elsewhere leaves the list"
    page = await editor.page(f"{PATH}/documents/{document_id}")
    assert page.one("h1").text() == "Returns"
    assert "30 days" in page.one("#passages").text()


@pytest.mark.parametrize(
    ("name", "data", "status", "sentence"),
    [
        ("empty.txt", b"  \n", 422, "This file is empty"),
        ("locked.pdf", encrypted_pdf(password="secret"), 422, "password"),
        ("setup.docx", b"\x7fELF" + bytes(60), 415, "Upload a PDF, an Office"),
        ("big.txt", b"x" * (service.MAX_DOCUMENT_BYTES + 1), 413, "at most 25 MB"),
    ],
)
async def test_what_is_refused_says_why(
    place: ConsoleWorld, name: str, data: bytes, status: int, sentence: str
) -> None:
    editor = await place.signed_in("editor")
    refused = await upload(editor, name, data, status=status)
    assert sentence in refused.toast
    assert "Nothing to answer from yet" in (await editor.page(PATH)).text


async def test_the_bare_form_takes_several_and_says_which_were_refused(place: ConsoleWorld) -> None:
    editor = await place.signed_in("editor")
    files = [("file", ("a.txt", b"One.")), ("file", ("b.zip", b"\x7fELF" + bytes(60))), ("file", ("c.txt", b"Three."))]
    page = await editor.submit(f"{PATH}/documents", {}, files=files, status=422)
    assert "b.zip" in page.one("#uploads").text()
    assert len(page.all("#documents tr")) == 2
    done = await editor.submit(f"{PATH}/documents", {}, files=[("file", ("d.txt", b"Four."))])
    assert done.response.headers["location"] == PATH


async def test_a_document_that_cannot_be_read_says_what_to_do(place: ConsoleWorld, reader: Reader) -> None:
    document_id = await reader.upload(scanned_pdf(), filename="scan.pdf")
    editor = await place.signed_in("editor")
    for path in (f"{PATH}?show=failed", f"{PATH}/documents/{document_id}"):
        page = await editor.page(path)
        assert "Not readable" in page.text
        assert "text recognition" in page.text
    again = await editor.htmx("POST", f"{PATH}/documents/{document_id}/reprocess?listed=1")
    assert "Waiting to be read" in again.text or "Waiting to be read" in again.response.text
    await editor.htmx("POST", f"{PATH}/documents/{document_id}/reprocess")
    await reader.run_jobs()
    assert "Not readable" in (await editor.page(PATH)).text


async def test_the_list_is_narrowed_and_paged(place: ConsoleWorld, reader: Reader) -> None:
    for number in range(27):
        await reader.upload(f"Note {number}.", filename=f"note {number:02}.txt", read=False)
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}?show=waiting")
    assert len(page.all("#documents tr[id]")) == 25
    more = page.one(".load-more a").attributes["hx-get"]
    rest = await viewer.htmx("GET", str(more))
    assert "note 00" in rest.response.text
    assert "note 02" not in rest.response.text
    assert "No document is in this state" in (await viewer.page(f"{PATH}?show=ready")).text
    await viewer.page(f"{PATH}?cursor=nonsense", status=400)
    await viewer.page(f"{PATH}?show=nonsense", status=422)


async def test_waiting_is_told_in_words_and_can_be_cancelled(place: ConsoleWorld) -> None:
    editor, viewer = await place.signed_in("editor"), await place.signed_in("viewer")
    for name in ("first.md", "second.md", "third.md"):
        await upload(editor, name, RETURNS.encode())
    third, second, first = (await editor.page(f"{PATH}?show=waiting")).all("#documents tr[data-waiting]")
    assert "Next in line." in first.text()
    assert "One of your documents is read before it." in second.text()
    assert "2 of your documents are read before it." in third.text()
    document_id = str(third.attributes["id"])
    await viewer.htmx("POST", f"{PATH}/documents/{document_id}/cancel", status=403)

    cancelled = await editor.htmx("POST", f"{PATH}/documents/{document_id}/cancel?listed=1")
    assert "Have it read again whenever you like" in cancelled.text
    page = await editor.page(f"{PATH}/documents/{document_id}")
    assert "Try again" in page.text
    assert "Cancel reading" not in page.text
    await editor.htmx("POST", f"{PATH}/documents/{document_id}/cancel", status=409)
    await editor.htmx("POST", f"{PATH}/documents/{document_id}/reprocess")
    assert "Cancel reading" in (await editor.page(f"{PATH}/documents/{document_id}")).text


async def test_long_documents_are_read_in_pages(place: ConsoleWorld, reader: Reader) -> None:
    text = "\n\n".join(f"# Part {number}\n\n{'Wool and looms. ' * 60}" for number in range(25))
    document_id = await reader.upload(text, filename="long.md")
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}/documents/{document_id}")
    assert len(page.all("#passages > li.panel")) == 20
    rest = await viewer.htmx("GET", str(page.one("#passages a[hx-get]").attributes["hx-get"]))
    assert "Part 24" in rest.response.text
    assert page.all("button[hx-delete], a[download]") == []


async def test_the_original_comes_as_a_download_that_runs_nowhere(place: ConsoleWorld, reader: Reader) -> None:
    html = "<html><body><h1>Prices</h1><p>All prices.</p><script>alert(1)</script></body></html>"
    document_id = await reader.upload(html, filename="Preise für Möbel.html")
    editor = await place.signed_in("editor")
    answer = await editor.request("GET", f"{PATH}/documents/{document_id}/original")
    assert answer.response.content.decode() == html
    headers = answer.response.headers
    assert headers["content-disposition"].startswith("attachment;")
    assert "Preise%20f%C3%BCr%20M%C3%B6bel.html" in headers["content-disposition"]
    assert "sandbox" in headers["content-security-policy"]
    assert headers["content-type"] == "application/octet-stream"


async def test_a_deleted_document_is_gone_and_deleting_twice_says_so(place: ConsoleWorld, reader: Reader) -> None:
    one, two = [await reader.upload(f"Note {name}.", filename=f"{name}.txt") for name in ("one", "two")]
    editor = await place.signed_in("editor")
    listed = await editor.htmx("DELETE", f"{PATH}/documents/{one}?listed=1")
    assert listed.toast == "“one” was deleted. It answers no more."
    assert f"[id='{one}']" in listed.response.text
    assert listed.one("#document-filter a[aria-current]").text() == "All 1"
    twice = await editor.htmx("DELETE", f"{PATH}/documents/{one}?listed=1", status=404)
    assert twice.toast == "There is no such document."
    back = await editor.page(f"{PATH}/documents/{one}", status=404)
    assert "There is no such document." in back.text
    from_page = await editor.htmx("DELETE", f"{PATH}/documents/{two}")
    assert from_page.response.headers["hx-redirect"] == PATH
    assert "“two” was deleted" in (await editor.page(PATH)).response.text
    assert "Nothing to answer from yet" in (await editor.page(PATH)).text


async def test_deleting_the_last_one_shows_the_empty_list(place: ConsoleWorld, reader: Reader) -> None:
    document_id = await reader.upload("Note.", filename="note.txt")
    editor = await place.signed_in("editor")
    answer = await editor.htmx("DELETE", f"{PATH}/documents/{document_id}?listed=1&show=ready")
    assert "Nothing to answer from yet" in answer.response.text


async def test_a_text_written_by_hand_answers_and_goes_with_its_source(place: ConsoleWorld, reader: Reader) -> None:
    editor = await place.signed_in("editor")
    form = {"name": "Hours", "text": "We open at nine.", "url": "https://shop.example/hours"}
    added = await editor.htmx("POST", f"{PATH}/texts", form)
    assert added.told["close"]
    assert "“Hours” was added" in added.toast
    [row] = added.all("#documents tr")
    await reader.run_jobs()
    found = await editor.page(f"{PATH}/search?q=When+do+you+open")
    assert "We open at nine" in found.text
    await editor.htmx("DELETE", f"{PATH}/documents/{row.attributes['id']}?listed=1")
    async with place.services.database.tenant(place.tenant_id) as session:
        assert await sources.list_sources(session, place.actor) == ([], None)


async def test_a_question_written_by_hand_is_a_document_of_its_own(place: ConsoleWorld, reader: Reader) -> None:
    editor = await place.signed_in("editor")
    await editor.htmx("POST", f"{PATH}/questions", {"question": "Do you gift-wrap?", "answer": "Yes, for 3 EUR."})
    await reader.run_jobs()
    [row] = (await editor.page(PATH)).all("#documents tr")
    assert "Question and answer" in row.text()
    page = await editor.page(f"{PATH}/documents/{row.attributes['id']}")
    assert "Yes, for 3 EUR." in page.one("#passages").text()
    assert page.all("a[download]") == []
    refused = await editor.request("GET", f"{PATH}/documents/{row.attributes['id']}/original")
    assert refused.status == 409


@pytest.mark.parametrize(
    ("form", "typed", "field"),
    [
        ("texts", {"name": "", "text": "Kept", "url": ""}, "text-name"),
        ("texts", {"name": "Kept", "text": "  ", "url": ""}, "text-text"),
        ("texts", {"name": "Kept", "text": "x", "url": "javascript:alert(1)"}, "text-url"),
        ("texts", {"name": "x" * 301, "text": "x", "url": ""}, "text-name"),
        ("questions", {"question": "Kept?", "answer": "", "url": ""}, "faq-answer"),
        ("questions", {"question": "", "answer": "Kept", "url": ""}, "faq-question"),
    ],
)
async def test_what_is_wrong_with_a_text_is_said_at_the_field(
    place: ConsoleWorld, form: str, typed: dict[str, str], field: str
) -> None:
    editor = await place.signed_in("editor")
    answer = await editor.htmx("POST", f"{PATH}/{form}", typed, status=422)
    assert answer.one(f"#{field}").attributes["aria-invalid"] == "true"
    assert answer.one(f"#{field}-error").text(strip=True)
    assert all(value.strip() in answer.response.text for value in typed.values())


async def test_the_search_test_shows_passages_marks_and_the_quote(place: ConsoleWorld, reader: Reader) -> None:
    await reader.upload(RETURNS, filename="policy.md")
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}/search?q=How+many+days+do+I+have+to+send+something+back%3F")
    assert "would quote" in page.one("#answer-title").text()
    assert "within 30 days" in page.one("blockquote").text()
    assert {mark.text() for mark in page.all(".passage mark")} >= {"days", "send"}
    assert page.all(".quoted")
    abstains = await viewer.htmx("GET", f"{PATH}/search?q=Do+you+sell+aeroplanes+in+Norway%3F")
    assert "would say that it does not know" in abstains.response.text
    nothing = await viewer.page(f"{PATH}/search?q=xylophone")
    assert "No document shares a word" in nothing.text
    assert "Try a question" in (await viewer.page(f"{PATH}/search")).text
    assert (await viewer.page(f"{PATH}/search?q=%00%ed")).status == 200


WRITES = [
    ("POST", "/texts", {"name": "N", "text": "T"}),
    ("POST", "/questions", {"question": "Q", "answer": "A"}),
    ("POST", "/documents/{id}/reprocess", {}),
    ("DELETE", "/documents/{id}", None),
    ("GET", "/documents/{id}/original", None),
]


@pytest.mark.parametrize(("method", "path", "form"), WRITES)
async def test_viewers_change_nothing(
    place: ConsoleWorld, reader: Reader, method: str, path: str, form: dict[str, str] | None
) -> None:
    document_id = await reader.upload("Stays.", filename="stays.txt")
    viewer = await place.signed_in("viewer")
    refused = await viewer.htmx(method, PATH + path.format(id=document_id), form, status=403)
    assert "needs the role editor" in refused.toast
    await upload(viewer, "a.txt", b"One.", status=403)
    page = await viewer.page(PATH)
    assert len(page.all("#documents tr")) == 1
    assert page.all("#documents button") == []


@pytest.mark.parametrize("role", ["editor", "admin", "owner"])
async def test_editors_and_above_add_and_delete(place: ConsoleWorld, reader: Reader, role: Role) -> None:
    person = await place.signed_in(role)
    await upload(person, "a.txt", b"One.")
    [row] = (await person.page(PATH)).all("#documents tr")
    await person.htmx("DELETE", f"{PATH}/documents/{row.attributes['id']}?listed=1")


async def test_another_tenants_documents_are_not_found(place: ConsoleWorld, reader: Reader) -> None:
    document_id = await reader.upload("Unspoken heliotrope.", filename="unspoken.txt")
    stranger = await place.signed_in("owner", tenant_id=await place.another_tenant())
    for method, path in (
        ("GET", f"/documents/{document_id}"),
        ("GET", f"/documents/{document_id}/original"),
        ("POST", f"/documents/{document_id}/reprocess"),
        ("POST", f"/documents/{document_id}/cancel"),
        ("DELETE", f"/documents/{document_id}"),
    ):
        await stranger.htmx(method, PATH + path, status=404)
    found = await stranger.page(f"{PATH}/search?q=heliotrope")
    assert "Unspoken" not in found.text
    watched = await stranger.htmx("GET", f"{PATH}/progress?document={document_id}.pending")
    assert "unspoken" not in watched.response.text
    async with place.services.database.tenant(place.tenant_id) as session:
        await service.get_document(session, place.actor, document_id=document_id)


def test_the_scripts_hold_no_markup() -> None:
    static = Path(__file__).parents[2] / "admin/stonechat_admin/static"
    for name in ("uploads.js", "progress.js"):
        script = (static / name).read_text(encoding="utf-8")
        assert "innerHTML" not in script.replace('swap: "innerHTML"', "")
        assert "eval(" not in script
