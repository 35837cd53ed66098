"""Conversations in the console: listed, searched, read with their sources, downloaded, deleted by admins."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from chatkit.types import FileSource, URLSource

from stonechat.accounts.models import Role
from stonechat.assistant.agents import archive_agent, delete_agent
from support.console import ConsoleWorld
from support.reading import Reader, answered, asked

PATH = "/console/conversations"


@pytest.fixture
async def place(world: ConsoleWorld) -> ConsoleWorld:
    """The world, in a tenant of the test's own."""
    return replace(world, tenant_id=await world.another_tenant())


@pytest.fixture
def reader(place: ConsoleWorld) -> Reader:
    return Reader(place.services.database, place.services.knowledge, place.tenant_id)


async def test_an_empty_list_teaches(place: ConsoleWorld) -> None:
    page = await (await place.signed_in("viewer")).page(PATH)
    assert "As soon as a visitor asks something" in page.text


async def test_the_list_says_who_asked_whom_and_what_they_thought(place: ConsoleWorld, reader: Reader) -> None:
    agent, retired = await reader.agent("Robin"), await reader.agent("Wren")
    anna = await reader.user(verified=True, external_id="c-17", name="Anna Smith", email="anna@example.com")
    someone = await reader.user(visitor_hash=b"v" * 32)
    good, bad = answered("Good."), answered("Bad.")
    liked = await reader.conversation(asked("One?"), good, bad, agent_id=agent, user_id=anna, title="Returns <b>")
    await reader.judge(liked, good.id, "positive", user_id=anna)
    await reader.judge(liked, bad.id, "negative", user_id=anna)
    untitled = await reader.conversation(asked("Two?"), agent_id=retired, user_id=someone, title=None)
    async with place.services.database.tenant(place.tenant_id) as session:
        await delete_agent(session, place.actor, agent_id=retired)
    page = await (await place.signed_in("viewer")).page(PATH)
    first, second = page.all("#conversations tr")
    assert first.attributes["id"] == untitled
    assert "Without a title" in first.text()
    assert "Deleted agent" in first.text()
    assert f"Visitor {someone[-4:]}" in first.text()
    assert "Returns <b>" in second.text()
    assert "Anna Smith" in second.text()
    assert "Robin" in second.text()
    assert "Liked answers: 1" in " ".join(second.text(separator=" ").split())
    assert "Disliked answers: 1" in " ".join(second.text(separator=" ").split())


async def test_words_and_agents_narrow_the_list_and_pages_keep_them(place: ConsoleWorld, reader: Reader) -> None:
    robin, wren = await reader.agent("Robin"), await reader.agent("Wren")
    for number in range(26):
        await reader.conversation(asked(f"My parcel {number} is late"), agent_id=robin, title=f"Talk {number}")
    other = await reader.conversation(asked("Where is my parcel?"), agent_id=wren)
    await reader.conversation(asked("Opening hours?"), agent_id=robin)
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}?q=PARCEL&agent={robin}")
    assert len(page.all("#conversations tr[id]")) == 25
    more = str(page.one(".load-more a").attributes["hx-get"])
    assert f"agent={robin}" in more
    rest = await viewer.htmx("GET", more)
    assert "Talk 0" in rest.response.text
    assert other not in rest.response.text
    found = await viewer.htmx("GET", f"{PATH}?q=parcel&agent={wren}")
    assert [row.attributes["id"] for row in found.all("#conversations tr")] == [other]
    assert "Nothing that was said matches" in (await viewer.page(f"{PATH}?q=aeroplane")).text
    await viewer.page(f"{PATH}?cursor=nonsense", status=400)


async def test_a_transcript_shows_markdown_safely_and_its_sources(place: ConsoleWorld, reader: Reader) -> None:
    page_id = await reader.upload("# Returns\n\nThirty days.", filename="r.md", url="https://shop.example/returns")
    file_id = await reader.upload("# Sizes\n\nS to XL.", filename="sizes.md")
    agent = await reader.agent()
    answer = answered(
        "**Thirty** days. <script>alert(1)</script> ![x](https://evil.example/p.png) [y](javascript:alert(1))",
        URLSource(title="Returns", url="https://shop.example/returns", group="Refunds", description="Thirty days."),
        FileSource(title="Sizes", filename="Sizes"),
        FileSource(title="Gone", filename="Gone"),
        URLSource(title="Bad", url="javascript:alert(1)"),
    )
    thread_id = await reader.conversation(
        asked("How *long*?\n<img src=x>", quoted="an <i>old</i> answer"), answer, agent_id=agent, title="Returns"
    )
    await reader.judge(thread_id, answer.id, "negative")
    page = await (await place.signed_in("viewer")).page(f"{PATH}/{thread_id}")
    question, reply = page.all(".message")
    assert question.css_first("em").text() == "long"  # type: ignore[union-attr]
    assert "an <i>old</i> answer" in question.text()
    assert reply.css_first("strong").text() == "Thirty"  # type: ignore[union-attr]
    assert page.all("main img, main script, main a[href^='javascript:']") == []
    assert "<script>alert(1)</script>" in reply.text()
    assert "did not like" in reply.text()
    links = [link.attributes["href"] for link in page.all('.source a[href^="/console/knowledge"]')]
    assert links == [f"/console/knowledge/documents/{page_id}", f"/console/knowledge/documents/{file_id}"]
    assert page.text.count("(deleted or renamed since)") == 2
    for cite in page.all("a.cite"):
        page.one(str(cite.attributes["href"]).replace("#", "#", 1))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        ("cancelled", "The visitor stopped this answer"),
        ("failed", "This answer broke off"),
        ("crashed", "interrupted by a restart"),
        ("running", "being written right now"),
    ],
)
async def test_what_became_of_an_answer_is_said(
    place: ConsoleWorld, reader: Reader, status: str, sentence: str
) -> None:
    answer = answered("Half an")
    thread_id = await reader.conversation(asked("Well?"), answer)
    await reader.run(thread_id, str(Reader.run_of(answer)), status=status)
    page = await (await place.signed_in("viewer")).page(f"{PATH}/{thread_id}")
    assert sentence in page.text
    silent = await reader.conversation(asked("Well?"))
    await reader.run(silent, f"run_{silent}", status=status)
    assert len((await (await place.signed_in("viewer")).page(f"{PATH}/{silent}")).all(".message")) == 2


async def test_who_is_gone_is_called_so(place: ConsoleWorld, reader: Reader) -> None:
    agent = await reader.agent("Wren")
    thread_id = await reader.conversation(asked("Hello"), agent_id=agent, user_id="usr_erased")
    viewer = await place.signed_in("viewer")
    async with place.services.database.tenant(place.tenant_id) as session:
        await archive_agent(session, place.actor, agent_id=agent)
    page = await viewer.page(f"{PATH}/{thread_id}")
    assert "Deleted visitor" in page.text
    assert "Retired since." in page.text
    async with place.services.database.tenant(place.tenant_id) as session:
        await delete_agent(session, place.actor, agent_id=agent)
    assert "Deleted agent" in (await viewer.page(f"{PATH}/{thread_id}")).text


async def test_long_conversations_come_in_pages(place: ConsoleWorld, reader: Reader) -> None:
    thread_id = await reader.conversation(*(asked(f"Word {number}.") for number in range(103)))
    viewer = await place.signed_in("viewer")
    page = await viewer.page(f"{PATH}/{thread_id}")
    assert len(page.all(".message")) == 100
    earlier = await viewer.htmx("GET", str(page.one("ol a[hx-get]").attributes["hx-get"]))
    assert [f"Word {number}." in earlier.response.text for number in range(4)] == [True, True, True, False]


async def test_a_conversation_is_downloaded_whole(place: ConsoleWorld, reader: Reader) -> None:
    thread_id = await reader.conversation(asked("Hello?"), answered("Hello."))
    answer = await (await place.signed_in("viewer")).request("GET", f"{PATH}/{thread_id}/export")
    assert answer.response.headers["content-disposition"] == 'attachment; filename="conversation.json"'
    assert [item["content"][0]["text"] for item in json.loads(answer.response.text)["items"]] == ["Hello?", "Hello."]


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_only_admins_delete(place: ConsoleWorld, reader: Reader, role: Role) -> None:
    thread_id = await reader.conversation(asked("Stays"))
    person = await place.signed_in(role)
    assert (await person.page(f"{PATH}/{thread_id}")).all("button[hx-delete]") == []
    assert "needs the role admin" in (await person.htmx("DELETE", f"{PATH}/{thread_id}", status=403)).toast
    await person.page(f"{PATH}/{thread_id}")


@pytest.mark.parametrize("role", ["admin", "owner"])
async def test_a_deleted_conversation_is_gone(place: ConsoleWorld, reader: Reader, role: Role) -> None:
    thread_id = await reader.conversation(asked("Goes"))
    person = await place.signed_in(role)
    gone = await person.htmx("DELETE", f"{PATH}/{thread_id}")
    assert gone.response.headers["hx-redirect"] == PATH
    assert "The conversation was deleted." in (await person.page(PATH)).response.text
    assert "There is no such conversation." in (await person.page(f"{PATH}/{thread_id}", status=404)).text
    assert (await person.htmx("DELETE", f"{PATH}/{thread_id}", status=404)).toast == "There is no such conversation."


async def test_another_tenants_conversations_are_not_found(place: ConsoleWorld, reader: Reader) -> None:
    thread_id = await reader.conversation(asked("Heliotrope"), title="Heliotrope")
    stranger = await place.signed_in("owner", tenant_id=await place.another_tenant())
    for method, path in (("GET", thread_id), ("GET", f"{thread_id}/export"), ("DELETE", thread_id)):
        await stranger.htmx(method, f"{PATH}/{path}", status=404)
    assert thread_id not in (await stranger.page(f"{PATH}?q=heliotrope")).response.text
    await (await place.signed_in("viewer")).page(f"{PATH}/{thread_id}")
