"""The rules of an agent: set in plain words, refused field by field, and tried before anybody meets them."""

from __future__ import annotations

from typing import Any

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.assistant.guardrails.findings import Finding, note
from support.console import Answer, ConsoleWorld
from support.reading import Reader, asked

TYPED = {
    "message": "Not here.",
    "max_characters": "500",
    "languages": "en, DE",
    "topics": "Weapons: build a bomb, gun\nGambling",
    "moderation": "on",
    "moderation_model": "judge",
    "injection": "block",
    "links": "listed",
    "link_hosts": "shop.example\n*.CDN.example",
    "images": "listed",
    "redact": ["secrets", "emails"],
    "strict": "on",
}
SAVED = {
    "message": "Not here.",
    "input": {
        "max_characters": 500,
        "languages": ["en", "de"],
        "blocked_topics": [
            {"name": "Weapons", "phrases": ["build a bomb", "gun"]},
            {"name": "Gambling", "phrases": ["Gambling"]},
        ],
        "moderation": True,
        "moderation_model": "judge",
        "injection": "block",
    },
    "output": {
        "links": "listed",
        "link_hosts": ["shop.example", "*.cdn.example"],
        "images": "listed",
        "redact": ["secrets", "emails"],
        "strict": True,
    },
}


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Wren"} | config)


async def draft(world: ConsoleWorld, agent: AgentView) -> dict[str, Any]:
    async with world.services.database.tenant(world.tenant_id) as session:
        return (await agents.get_agent(session, world.actor, agent_id=agent.id)).draft.as_json()


def fields(page: Answer) -> dict[str, Any]:
    """What the form would send as it stands."""
    values: dict[str, Any] = {}
    for node in page.all("#agent-form input[name]"):
        name, kind = str(node.attributes["name"]), node.attributes.get("type")
        if kind in ("checkbox", "radio") and "checked" not in node.attributes:
            continue
        values.setdefault(name, []).append(node.attributes.get("value") or "")
    for node in page.all("#agent-form textarea[name]"):
        values[str(node.attributes["name"])] = [node.text().removeprefix("\n")]
    return {name: several[0] if len(several) == 1 else several for name, several in values.items()}


async def test_every_rule_is_set_and_shown_again(world: ConsoleWorld) -> None:
    agent = await make(world)
    path = f"/console/agents/{agent.id}/rules"
    editor = await world.signed_in("editor")
    answer = await editor.htmx("POST", path, TYPED | {"revision": "1"})
    assert answer.toast.startswith("Saved.")
    assert (await draft(world, agent))["guardrails"] == SAVED
    page = await editor.page(path)
    sent = fields(page)
    await editor.htmx("POST", path, sent)
    assert (await draft(world, agent))["guardrails"] == SAVED


async def test_saving_the_form_as_it_stands_changes_nothing(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    path = f"/console/agents/{agent.id}/rules"
    before = await draft(world, agent)
    await editor.htmx("POST", path, fields(await editor.page(path)))
    assert await draft(world, agent) == before


async def test_what_is_not_valid_is_said_at_its_field_and_kept(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    wrong = TYPED | {
        "message": "",
        "max_characters": "many",
        "languages": "English",
        "topics": "X: y",
        "link_hosts": "https://shop.example/",
        "links": "some",
        "revision": "1",
    }
    answer = await editor.htmx("POST", f"/console/agents/{agent.id}/rules", wrong, status=422)
    for name in ("message", "max_characters", "languages", "topics", "link_hosts", "links"):
        assert answer.all(f"#{name}-error"), name
    assert answer.one("#topics").text(strip=True) == "X: y"
    assert (await draft(world, agent))["guardrails"]["message"] != ""


async def test_trying_the_rules_shows_what_would_trip_and_why(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    tried = TYPED | {"revision": "1", "try_message": "Where to buy a gun?"}
    tried["try_answer"] = "Ask <b>ann@shop.example</b> or [us](https://evil.example)"
    answer = await editor.htmx("POST", f"/console/agents/{agent.id}/rules/try", tried)
    assert "touches the blocked topic “Weapons”" in answer.text
    assert "Visitors read: “Not here.”" in answer.text
    assert answer.one("[data-shown]").text() == "Ask <b>█████</b> or us"
    assert "e-mail address" in answer.text
    assert (await draft(world, agent))["guardrails"]["message"] != "Not here."
    good = await editor.htmx(
        "POST", f"/console/agents/{agent.id}/rules/try", tried | {"try_message": "Hello", "try_answer": "Hi"}
    )
    assert "Is answered." in good.text
    assert "Is shown as it is." in good.text
    invalid = await editor.htmx("POST", f"/console/agents/{agent.id}/rules/try", tried | {"links": "x"})
    assert "not valid yet" in invalid.text


async def test_viewers_look_and_do_not_change(world: ConsoleWorld) -> None:
    agent = await make(world)
    viewer = await world.signed_in("viewer")
    page = await viewer.page(f"/console/agents/{agent.id}/rules")
    assert "disabled" in page.one("#agent-form > fieldset").attributes
    await viewer.htmx("POST", f"/console/agents/{agent.id}/rules", TYPED | {"revision": "1"}, status=403)


async def test_two_editors_do_not_undo_each_other(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    path = f"/console/agents/{agent.id}/rules"
    await editor.htmx("POST", path, TYPED | {"revision": "1"})
    late = await editor.htmx("POST", path, TYPED | {"revision": "1", "message": "Mine."}, status=422)
    assert (await draft(world, agent))["guardrails"]["message"] == "Not here."
    alert = late.one("[role=alert]").text(separator=" ")
    assert "Said instead of an answer" in alert
    assert "Not here." in alert
    assert late.one("#message").text(strip=True) == "Mine."
    await editor.htmx("POST", path, fields(late))
    assert (await draft(world, agent))["guardrails"] == SAVED | {"message": "Mine."}


async def test_what_publishing_would_change_names_the_rules(world: ConsoleWorld) -> None:
    agent = await make(world)
    async with world.services.database.tenant(world.tenant_id) as session:
        await agents.publish_agent(session, world.actor, agent_id=agent.id, settings=world.services.settings)
    editor = await world.signed_in("editor")
    await editor.htmx("POST", f"/console/agents/{agent.id}/rules", TYPED | {"revision": "1"})
    assert "Weapons: build a bomb, gun" in (await editor.page(f"/console/agents/{agent.id}/publish")).text


async def test_the_conversation_tells_the_team_what_the_rules_did(world: ConsoleWorld) -> None:
    reader = Reader(world.services.database, world.services.knowledge, world.tenant_id)
    agent = await make(world)
    found = Finding("input", "blocked_topic", "blocked", "Weapons <b>")
    told = note([found], thread_id="thr_1", generate_item_id=lambda _kind: "hcx_1")
    thread = await reader.conversation(asked("Where to buy a gun?"), told, agent_id=agent.id)
    page = await (await world.signed_in("viewer")).page(f"/console/conversations/{thread}")
    assert "The message touches the blocked topic “Weapons <b>” and was stopped." in page.text
