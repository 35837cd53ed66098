"""The playground: the draft answers as it is saved, and the passages behind an answer are shown with their scores."""

from __future__ import annotations

import json
from typing import Any

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.identity.caller import Caller
from support.api import message
from support.console import Browser, ConsoleWorld
from support.identity import PLATFORM
from support.knowledge import upload


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Robin"} | config)


async def token_of(browser: Browser, agent: AgentView) -> str:
    answer = await browser.htmx("POST", f"/console/agents/{agent.id}/playground/session")
    body = answer.response.json()
    assert 0 < body["seconds"] <= 900
    return str(body["token"])


async def ask(browser: Browser, token: str, question: str, thread: str | None = None) -> list[dict[str, Any]]:
    answer = await browser.http.post(
        "/chatkit", json=message(question, thread), headers={"Authorization": f"Bearer {token}", "Origin": PLATFORM}
    )
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def thread_and_item(events: list[dict[str, Any]]) -> tuple[str, str]:
    done = [event["item"] for event in events if event["type"] == "thread.item.done"]
    return done[-1]["thread_id"], done[-1]["id"]


async def test_the_session_is_for_the_draft_and_its_editor(world: ConsoleWorld) -> None:
    agent = await make(world)
    anna, ben = await world.signed_in("editor"), await world.signed_in("editor")
    callers: list[Caller] = [
        world.services.session_tokens.verify(await token_of(browser, agent)) for browser in (anna, anna, ben)
    ]
    assert all(caller.preview and caller.agent_id == agent.id for caller in callers)
    assert callers[0].user_id == callers[1].user_id != callers[2].user_id


async def test_an_answer_shows_the_passages_with_titles_and_scores(world: ConsoleWorld) -> None:
    words = "# Care\n\nOil the walnut loom twice a year."
    await upload(world.services.knowledge, world.tenant_id, words, filename="care.md", title="Care of <looms>")
    agent = await make(world, model="extractive")
    editor = await world.signed_in("editor")
    events = await ask(editor, await token_of(editor, agent), "How often do I oil the walnut loom?")
    thread, item = thread_and_item(events)
    shown = await editor.htmx("GET", f"/console/agents/{agent.id}/playground/passages?thread={thread}&item={item}")
    assert "1 passage for" in shown.text
    assert "Care of <looms>" in shown.text
    assert "Oil the walnut loom twice a year." in shown.text
    score = float(str(shown.one("progress").attributes["value"]))
    assert score > 0
    assert f"{score:.2f}" in shown.text


async def test_answers_come_from_the_draft_as_saved_last(world: ConsoleWorld) -> None:
    agent = await make(world, model="scripted")
    editor = await world.signed_in("editor")
    token = await token_of(editor, agent)
    first = await ask(editor, token, "Hello?")
    thread, item = thread_and_item(first)
    async with world.services.database.tenant(world.tenant_id) as session:
        await agents.patch_draft(
            session, world.actor, agent_id=agent.id, patch={"model": "extractive", "knowledge": {"enabled": False}}
        )
    second = await ask(editor, token, "Hello again?", thread)
    said = [event["item"]["content"][0]["text"] for event in second if event["type"] == "thread.item.done"]
    assert "I answer by quoting documents" in said[-1]
    shown = await editor.htmx("GET", f"/console/agents/{agent.id}/playground/passages?thread={thread}&item={item}")
    assert "Nothing was searched for this answer." in shown.text


async def test_answers_of_another_tenant_are_not_found(world: ConsoleWorld) -> None:
    agent = await make(world, model="scripted")
    editor = await world.signed_in("editor")
    thread, item = thread_and_item(await ask(editor, await token_of(editor, agent), "Hello?"))
    tenant_id = await world.another_tenant()
    stranger = await world.signed_in("owner", tenant_id=tenant_id)
    async with world.services.database.tenant(tenant_id) as session:
        actor = world.actor.__class__(tenant_id, "system", None, frozenset({"admin"}))
        own = await agents.create_agent(session, actor, config={"name": "Theirs"})
    path = f"/console/agents/{own.id}/playground/passages?thread={thread}&item={item}"
    assert (await stranger.htmx("GET", path, status=404)).toast == "There is no such answer."
