"""What went unanswered is gathered after the turn, grouped, counted; and goes with the conversation."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import select

from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.chat.conversations import delete_conversation
from stonechat.chat.store import PostgresStore
from stonechat.errors import NotFound
from stonechat.knowledge import unanswered
from stonechat.knowledge.unanswered import Asked, GroupView, UnansweredGroup, UnansweredQuestion
from support.chat import thread, user_message
from support.knowledge import upload
from support.platform import Platform, Visitor, of_type

RETURNS = "# Returns\n\n## Deadline\n\nYou can send a lamp back within 30 days of delivery."


async def robin(platform: Platform, **config: object) -> str:
    await upload(platform.services.knowledge, platform.tenant_id, RETURNS, filename="returns.md")
    return await platform.agent(**{"model": "extractive", "knowledge": {"enabled": True}} | config)


async def groups(platform: Platform, **options: object) -> list[GroupView]:
    await platform.services.chat.hub.afterwards_done()
    async with platform.services.database.tenant(platform.tenant_id) as session:
        found, _ = await unanswered.list_groups(session, system(platform.tenant_id), **options)  # type: ignore[arg-type]
    return found


async def asked_by(visitor: Visitor, words: str) -> str:
    """Asks; the conversation's id."""
    events = await visitor.say(words)
    return str(of_type(events, "thread.created")[0]["thread"]["id"])


async def test_what_the_documents_do_not_answer_is_gathered_and_counted(platform: Platform) -> None:
    agent = await robin(platform)
    for words in ("Do you repair kettles?", "do you repair kettles please", "Can you repair a kettle?"):
        await asked_by(platform.visitor(agent), words)
    await asked_by(platform.visitor(agent), "Who designed the moon?")
    await asked_by(platform.visitor(agent), "How many days do I have to send a lamp back?")
    await asked_by(platform.visitor(agent), "Hello!")
    first, second = await groups(platform)
    assert (first.question, first.asked, first.state) == ("Do you repair kettles?", 3, "open")
    assert sum(first.reasons.values()) == 3
    assert (second.question, second.asked) == ("Who designed the moon?", 1)
    assert first.first_seen_at < first.last_seen_at


async def test_previews_are_not_gathered(platform: Platform) -> None:
    agent = await robin(platform)
    caller = replace(platform.visitor(agent).caller, preview=True)
    token, _ = platform.services.session_tokens.mint(caller)
    await Visitor(platform, caller, token).say("Do you repair kettles?")
    assert await groups(platform) == []


async def test_personal_data_is_struck_out_before_it_is_stored(platform: Platform) -> None:
    agent = await robin(platform)
    await asked_by(
        platform.visitor(agent),
        "Repair kettles? Write to jo@example.com or call +49 170 1234567, card 4111111111111111",
    )
    (group,) = await groups(platform)
    for secret in ("jo@example.com", "1234567", "4111111111111111"):
        assert secret not in group.question
    assert "kettles" in group.question


async def test_a_thumbs_down_is_gathered_and_can_be_taken_back(platform: Platform) -> None:
    agent = await robin(platform)
    visitor = platform.visitor(agent)
    events = await visitor.say("How many days do I have to send a lamp back?")
    thread = of_type(events, "thread.created")[0]["thread"]["id"]
    items = [event["item"] for event in of_type(events, "thread.item.done")]
    answer = next(item["id"] for item in items if item["type"] == "assistant_message")
    await visitor.json("items.feedback", thread_id=thread, item_ids=[answer], kind="negative")
    (group,) = await groups(platform)
    assert group.reasons == {"thumbs_down": 1}
    async with platform.services.database.tenant(platform.tenant_id) as session:
        (question,) = await unanswered.list_questions(session, system(platform.tenant_id), group_id=group.id)
    assert question.found, "what was found then is kept"
    await visitor.json("items.feedback", thread_id=thread, item_ids=[answer], kind="positive")
    assert await groups(platform) == []


async def test_what_was_asked_goes_with_its_conversation(platform: Platform) -> None:
    agent = await robin(platform)
    thread = await asked_by(platform.visitor(agent), "Do you repair kettles?")
    kept = await asked_by(platform.visitor(agent), "Can you repair a kettle for Jo?")
    (group,) = await groups(platform)
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await delete_conversation(session, system(platform.tenant_id), thread_id=thread)
    (group,) = await groups(platform)
    assert group.question == "Can you repair a kettle for Jo?"
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await delete_conversation(session, system(platform.tenant_id), thread_id=kept)
        assert list(await session.scalars(select(UnansweredGroup.group_id))) == []
        assert list(await session.scalars(select(UnansweredQuestion.question))) == []


async def note(platform: Platform, words: str, *, agent: str) -> str | None:
    """Note a question in a conversation of its own."""
    visitor = platform.visitor(agent)
    caller = visitor.caller
    store = PostgresStore(platform.services.database)
    made = thread(ids.new_id("thr"))
    await store.save_thread(made, caller)
    item = user_message(made.id, words)
    await store.add_thread_item(made.id, item, caller)
    asked = Asked(agent, caller.user_id, made.id, item.id, words, "no_passages")
    async with platform.services.database.tenant(platform.tenant_id) as session:
        first = await unanswered.note_unanswered(session, platform.tenant_id, asked=asked)
    async with platform.services.database.tenant(platform.tenant_id) as session:
        assert await unanswered.note_unanswered(session, platform.tenant_id, asked=asked) is None, "noted once"
    return first


async def test_groups_are_of_one_agent_and_bounded(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unanswered, "MAX_GROUPS", 3)
    monkeypatch.setattr(unanswered, "MAX_EXAMPLES", 3)
    agent, another = await robin(platform), await platform.agent(model="extractive")
    first = await note(platform, "Do you repair kettles?", agent=agent)
    assert await note(platform, "Do you repair kettles?", agent=another) != first
    for number in range(5):
        assert await note(platform, f"Do you repair kettles? {'!' * number}", agent=agent) == first
    (group,) = await groups(platform, agent_id=agent)
    assert group.asked == 6
    async with platform.services.database.tenant(platform.tenant_id) as session:
        kept = await unanswered.list_questions(session, system(platform.tenant_id), group_id=str(first))
    assert [each.question for each in kept] == [
        "Do you repair kettles? !!!!",
        "Do you repair kettles? !!!",
        "Do you repair kettles?",
    ]
    for words in ("Who designed the moon?", "Where is the cellar?", "Which colours are there?"):
        await note(platform, words, agent=agent)
    assert len(await groups(platform)) == 3
    assert any(group.id == first for group in await groups(platform)), "what is asked most stays"


async def test_an_answered_question_that_goes_unanswered_again_is_open_again(platform: Platform) -> None:
    actor = system(platform.tenant_id)
    agent = await robin(platform)
    group_id = await note(platform, "Do you repair kettles?", agent=agent)
    for state, then in (("answered", "open"), ("dismissed", "dismissed")):
        async with platform.services.database.tenant(platform.tenant_id) as session:
            await unanswered.settle_group(session, actor, group_id=str(group_id), state=state)  # type: ignore[arg-type]
        assert await note(platform, "do you repair kettles", agent=agent) == group_id
        (group,) = await groups(platform, state=then)
        assert group.id == group_id


async def test_another_tenant_finds_nothing(platform: Platform) -> None:
    agent = await robin(platform)
    group_id = await note(platform, "Do you repair kettles?", agent=agent)
    other = UUID("01890000-0000-7000-8000-000000000001")
    async with platform.services.database.tenant(other) as session:
        assert await unanswered.list_groups(session, system(other)) == ([], None)
        with pytest.raises(NotFound):
            await unanswered.get_group(session, system(other), group_id=str(group_id))
