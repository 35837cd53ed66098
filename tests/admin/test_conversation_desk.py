"""Answering as a person in the console: the list of who waits, taking over, giving back, locking, and who may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stonechat.accounts.actor import Actor
from stonechat.chat import conversations, hand_over
from stonechat.identity.caller import Caller
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


async def ask_for_person(place: ConsoleWorld, thread: str, agent: str) -> None:
    caller = Caller(tenant_id=place.tenant_id, user_id="usr_gone", agent_id=agent)
    await hand_over.request_person(place.services.database, caller, thread_id=thread, reason="Wants a refund")


async def state(place: ConsoleWorld, thread: str) -> conversations.Conversation:
    actor = Actor(place.tenant_id, "system", None, frozenset({"read"}))
    async with place.services.database.tenant(place.tenant_id) as session:
        return await conversations.get_conversation(session, actor, thread_id=thread)


async def test_the_list_shows_who_waits(place: ConsoleWorld, reader: Reader) -> None:
    agent = await reader.agent("Robin")
    waiting = await reader.conversation(asked("A person!"), agent_id=agent)
    await reader.conversation(asked("Hours?"), answered("Nine to five."), agent_id=agent)
    await ask_for_person(place, waiting, agent)
    viewer = await place.signed_in("viewer")
    found = await viewer.htmx("GET", f"{PATH}?handling=waiting_for_person")
    assert [row.attributes["id"] for row in found.all("#conversations tr")] == [waiting]
    assert "Waiting for a person" in found.text or "Waiting for a person" in found.response.text
    assert len((await viewer.page(f"{PATH}?handling=nonsense")).all("#conversations tr")) == 2
    assert "Nothing that was said matches" in (await viewer.page(f"{PATH}?handling=with_person")).text


async def test_an_editor_answers_gives_back_and_closes(place: ConsoleWorld, reader: Reader) -> None:
    agent = await reader.agent("Robin")
    thread = await reader.conversation(asked("A person!"), agent_id=agent)
    await ask_for_person(place, thread, agent)
    editor = await place.signed_in("editor")
    page = await editor.page(f"{PATH}/{thread}")
    assert "has asked for a person" in page.text
    empty = await editor.htmx("POST", f"{PATH}/{thread}/reply", data={"text": "  "}, status=422)
    assert "Write something" in empty.text or "between 1 and" in empty.text
    await editor.htmx("POST", f"{PATH}/{thread}/reply", data={"text": "I am **Anna**, hello."})
    found = await state(place, thread)
    assert (found.handling, found.handled_by) == ("with_person", editor.person_id)
    assert found.items[-1]["written_by"] == editor.person_id
    page = await editor.page(f"{PATH}/{thread}")
    assert editor.email in page.text or "answers. The agent is silent" in page.text
    heads = [head.text() for head in page.all(".message-head .font-medium")]
    assert heads[-1] != "Robin"
    await editor.htmx("POST", f"{PATH}/{thread}/give-back")
    assert (await state(place, thread)).handling == "open"
    await editor.htmx("POST", f"{PATH}/{thread}/take-over")
    await editor.htmx("POST", f"{PATH}/{thread}/resolve")
    assert (await state(place, thread)).handling == "resolved"
    await editor.htmx("POST", f"{PATH}/{thread}/status", data={"status": "closed", "reason": "All is said."})
    assert (await state(place, thread)).status == {"type": "closed", "reason": "All is said."}
    page = await editor.page(f"{PATH}/{thread}")
    assert "All is said." in page.text
    assert not page.all(f'form[hx-post="{PATH}/{thread}/reply"]')
    await editor.htmx("POST", f"{PATH}/{thread}/status", data={"status": "active"})
    assert (await state(place, thread)).status == {"type": "active"}


@pytest.mark.parametrize("verb", ["reply", "take-over", "give-back", "resolve", "status"])
async def test_viewers_read_and_other_tenants_do_not_find(place: ConsoleWorld, reader: Reader, verb: str) -> None:
    agent = await reader.agent("Robin")
    thread = await reader.conversation(asked("Hello"), agent_id=agent)
    viewer = await place.signed_in("viewer")
    assert "Answer as a person" not in (await viewer.page(f"{PATH}/{thread}")).text
    data = {"text": "x", "status": "closed"}
    await viewer.htmx("POST", f"{PATH}/{thread}/{verb}", data=data, status=403)
    stranger = await replace(place, tenant_id=await place.another_tenant()).signed_in("owner")
    await stranger.htmx("POST", f"{PATH}/{thread}/{verb}", data=data, status=404)
    found = await state(place, thread)
    assert (found.handling, found.status, len(found.items)) == ("open", {"type": "active"}, 1)
