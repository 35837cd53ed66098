"""The tabs of an agent's model and files: every setting is set, shown again, and refused at its field."""

from __future__ import annotations

from typing import Any

import pytest

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from support.console import ConsoleWorld
from support.console_forms import fields_of

MODEL = {
    "model_source": "openai",
    "model_name": "gpt-5-mini",
    "choices_source": ["openai", "extractive", ""],
    "choices_name": ["gpt-5", "", ""],
    "choices_label": ["Thorough", "Quotes", ""],
    "choices_description": ["Slower", "", ""],
    "fallbacks_source": ["acme", ""],
    "fallbacks_name": ["small", ""],
    "temperature": "0,5",
    "max_output_tokens": "900",
    "effort": "low",
    "show": "on",
    "max_tokens": "8000",
    "titles": "model",
    "dictation": "on",
    "dictation_source": "acme",
    "dictation_name": "ears",
}
MODEL_SAVED = {
    "model": "openai/gpt-5-mini",
    "model_choices": [
        {"id": "openai/gpt-5", "label": "Thorough", "description": "Slower"},
        {"id": "extractive", "label": "Quotes", "description": ""},
    ],
    "fallback_models": ["acme/small"],
    "temperature": 0.5,
    "max_output_tokens": 900,
    "reasoning": {"effort": "low", "show": True},
    "history": {"max_tokens": 8000, "summarise": False},
    "titles": "model",
    "dictation": {"enabled": True, "model": "acme/ears"},
}
FILES = {"enabled": "on", "documents": "on", "megabytes": "2,5", "max_files": "2"}
FILES_SAVED = {
    "attachments": {"enabled": True, "images": False, "documents": True, "max_bytes": 2_621_440, "max_files": 2}
}


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Wren"} | config)


async def draft(world: ConsoleWorld, agent: AgentView) -> dict[str, Any]:
    async with world.services.database.tenant(world.tenant_id) as session:
        return (await agents.get_agent(session, world.actor, agent_id=agent.id)).draft.as_json()


@pytest.mark.parametrize(("tab", "typed", "saved"), [("model", MODEL, MODEL_SAVED), ("files", FILES, FILES_SAVED)])
async def test_every_setting_is_set_and_shown_again(
    world: ConsoleWorld, tab: str, typed: dict[str, Any], saved: dict[str, Any]
) -> None:
    agent = await make(world, greeting="Kept")
    path = f"/console/agents/{agent.id}/{tab}"
    editor = await world.signed_in("editor")
    answer = await editor.htmx("POST", path, typed | {"revision": "1"})
    assert answer.toast.startswith("Saved.")
    made = await draft(world, agent)
    assert {key: made[key] for key in saved} == saved
    assert made["greeting"] == "Kept"
    await editor.htmx("POST", path, fields_of(await editor.page(path)))
    assert await draft(world, agent) == made


@pytest.mark.parametrize("tab", ["model", "files"])
@pytest.mark.parametrize("config", [{}, MODEL_SAVED | {"attachments": {"max_bytes": 10_000_000}}])
async def test_saving_a_form_as_it_stands_changes_nothing(
    world: ConsoleWorld, tab: str, config: dict[str, Any]
) -> None:
    agent = await make(world, **config)
    editor = await world.signed_in("editor")
    path = f"/console/agents/{agent.id}/{tab}"
    before = await draft(world, agent)
    await editor.htmx("POST", path, fields_of(await editor.page(path)))
    assert await draft(world, agent) == before


@pytest.mark.parametrize(
    ("tab", "wrong", "where"),
    [
        ("model", {"model_name": "two words"}, "model_name"),
        ("model", {"temperature": "9"}, "temperature"),
        ("model", {"max_output_tokens": "few"}, "max_output_tokens"),
        ("model", {"max_tokens": "1"}, "max_tokens"),
        ("model", {"effort": "x"}, "effort"),
        ("model", {"titles": "x"}, "titles"),
        ("model", {"choices_label": ["", "Quotes", ""]}, "choices"),
        ("model", {"fallbacks_name": ["", ""]}, "fallbacks"),
        ("model", {"dictation_name": ""}, "dictation_name"),
        ("files", {"megabytes": "21"}, "megabytes"),
        ("files", {"megabytes": "nan"}, "megabytes"),
        ("files", {"megabytes": ""}, "megabytes"),
        ("files", {"max_files": "11"}, "max_files"),
    ],
)
async def test_what_is_not_valid_is_said_at_its_field_and_kept(
    world: ConsoleWorld, tab: str, wrong: dict[str, Any], where: str
) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    typed = {"model": MODEL, "files": FILES}[tab] | wrong | {"revision": "1"}
    before = await draft(world, agent)
    answer = await editor.htmx("POST", f"/console/agents/{agent.id}/{tab}", typed, status=422)
    assert answer.all(f"#{where}-error"), answer.text
    if tab == "model":
        assert "Slower" in answer.response.text
    assert await draft(world, agent) == before


@pytest.mark.parametrize("tab", ["model", "files"])
async def test_the_second_of_two_editors_is_shown_what_saving_would_undo(world: ConsoleWorld, tab: str) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    typed = {"model": MODEL, "files": FILES}[tab]
    path = f"/console/agents/{agent.id}/{tab}"
    await editor.htmx("POST", path, typed | {"revision": "1"})
    mine = {"model_name": "gpt-5-nano", "max_files": "3"}
    answer = await editor.htmx("POST", path, typed | mine | {"revision": "1"}, status=422)
    assert "Someone else changed this agent meanwhile" in answer.one("[role=alert]").text()
    assert answer.one("input[name=revision]").attributes["value"] == "2"
    await editor.htmx("POST", path, typed | mine | {"revision": "2"})


async def test_without_scripts_a_form_leads_back_to_its_tab(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    path = f"/console/agents/{agent.id}/files"
    answer = await editor.submit(path, FILES | {"revision": "1"})
    assert answer.response.headers["location"] == path
    wrong = await editor.submit(path, FILES | {"revision": "2", "max_files": "x"}, status=422)
    assert wrong.all("main #max_files-error")


@pytest.mark.parametrize("tab", ["model", "files", "abilities"])
async def test_viewers_look_and_do_not_change(world: ConsoleWorld, tab: str) -> None:
    agent = await make(world)
    viewer = await world.signed_in("viewer")
    page = await viewer.page(f"/console/agents/{agent.id}/{tab}")
    assert "disabled" in page.one("#agent-form > fieldset").attributes
    await viewer.htmx("POST", f"/console/agents/{agent.id}/{tab}", {"revision": "1"}, status=403)
