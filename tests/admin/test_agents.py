"""Agents in the console: made from a name, edited as a form, by two people at once, and refused to others."""

from __future__ import annotations

from typing import Any

import pytest

from stonechat.accounts.models import Role
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.errors import NotFound
from stonechat.providers.service import create_provider
from support.console import Answer, Browser, ConsoleWorld

PATH = "/console/agents"


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Robin"} | config)


async def saved(world: ConsoleWorld, agent_id: str) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.get_agent(session, world.actor, agent_id=agent_id)


def fields(page: Answer) -> dict[str, str]:
    """What the form would send as it stands."""
    values: dict[str, str] = {}
    for node in page.all("#agent-form input[name], #agent-form textarea[name]"):
        kind, name = node.attributes.get("type"), str(node.attributes["name"])
        if kind in ("checkbox", "radio") and "checked" not in node.attributes:
            continue
        text = node.text() if node.tag == "textarea" else node.attributes.get("value") or ""
        values[name] = text.removeprefix("\n") if node.tag == "textarea" else text
    for node in page.all("#agent-form select"):
        values[str(node.attributes["name"])] = str(node.css("option[selected]")[0].attributes["value"])
    return values


async def form_of(browser: Browser, agent: AgentView) -> dict[str, str]:
    return fields(await browser.page(f"{PATH}/{agent.id}"))


async def test_an_empty_list_teaches_and_a_name_is_enough(world: ConsoleWorld) -> None:
    editor = await world.signed_in("editor", tenant_id=await world.another_tenant())
    assert "Make your first agent" in (await editor.page(PATH)).text
    made = await editor.htmx("POST", PATH, {"name": " Robin "})
    page = await editor.page(made.response.headers["hx-redirect"])
    assert page.one("h1").text(strip=True) == "Robin"
    assert "Not published yet" in page.text
    assert "“Robin” is made" in page.one("[data-flash]").text()
    assert "Answer from our documents" in page.one("#instructions").text()
    assert "Nothing yet" in (await editor.page(PATH)).text


async def test_a_name_that_is_none_is_refused_at_its_field(world: ConsoleWorld) -> None:
    editor = await world.signed_in("editor")
    answer = await editor.htmx("POST", PATH, {"name": " "}, status=422)
    assert answer.one("#new-agent-name").attributes["aria-invalid"] == "true"
    assert "Give it a name" in answer.text


async def test_saving_a_form_as_it_stands_changes_nothing(world: ConsoleWorld) -> None:
    agent = await make(
        world,
        instructions="One line.\nAnother.",
        prompts=[{"label": "Delivery", "prompt": "When?"}, {"label": "Returns?", "prompt": "Returns?"}],
        temperature=0.5,
        knowledge={"enabled": False, "max_passages": 3},
        disclaimer="Can be <b>wrong</b>.",
    )
    editor = await world.signed_in("editor")
    sent = await form_of(editor, agent)
    assert sent["revision"] == "1"
    sent["instructions"] = sent["instructions"].replace("\n", "\r\n")  # as browsers send it
    answer = await editor.htmx("POST", f"{PATH}/{agent.id}", sent)
    assert answer.toast.startswith("Saved.")
    assert await saved(world, agent.id) == agent


async def test_every_field_of_the_form_reaches_the_draft(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    async with world.services.database.tenant(world.tenant_id) as session:
        await create_provider(
            session,
            world.actor,
            keyring=world.services.keyring,
            name="mistral",
            kind="openai_compatible",
            api_key="k",
            base_url="https://models.example/v1",
        )
    sent = await form_of(editor, agent) | {
        "name": "Wren",
        "greeting": "Good morning",
        "instructions": "Be brief.",
        "model_source": "mistral",
        "model_name": "mistral-small",
        "max_passages": "4",
        "prompt_text_2": "Do you repair looms?",
        "prompt_text_4": "Opening hours?",
        "prompt_label_4": "Hours",
        "disclaimer": "Can be wrong.",
        "placeholder": "Ask away",
        "temperature": "0,3",
        "max_output_tokens": "500",
    }
    del sent["knowledge"], sent["feedback"]
    answer = await editor.htmx("POST", f"{PATH}/{agent.id}", sent)
    draft = (await saved(world, agent.id)).draft
    assert draft.model_dump(mode="json", exclude_defaults=True) == {
        "name": "Wren",
        "instructions": "Be brief.",
        "model": "mistral/mistral-small",
        "greeting": "Good morning",
        "prompts": [
            {"label": "Do you repair looms?", "prompt": "Do you repair looms?"},
            {"label": "Hours", "prompt": "Opening hours?"},
        ],
        "disclaimer": "Can be wrong.",
        "placeholder": "Ask away",
        "knowledge": {"enabled": False, "max_passages": 4},
        "temperature": 0.3,
        "max_output_tokens": 500,
        "feedback": {"enabled": False},
    }
    assert answer.one("input[name=revision]").attributes["value"] == "2"
    assert fields(await editor.page(f"{PATH}/{agent.id}"))["model_source"] == "mistral"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "", "Give it a name"),
        ("greeting", "x" * 501, "at most 500"),
        ("max_passages", "many", "from 1 to 10"),
        ("temperature", "3", "from 0 to 2"),
        ("model_name", "two words", "without spaces"),
        ("prompt_text_3", "x" * 501, "up to 500"),
    ],
)
async def test_what_is_wrong_is_said_at_the_field_and_nothing_is_lost(
    world: ConsoleWorld, field: str, value: str, message: str
) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    sent = await form_of(editor, agent) | {"disclaimer": "What I typed", field: value}
    if field == "model_name":
        sent["model_source"] = "openai"
    answer = await editor.htmx("POST", f"{PATH}/{agent.id}", sent, status=422)
    invalid = answer.one("#agent-form [aria-invalid=true]")
    described = str(invalid.attributes["aria-describedby"]).split()[0]
    assert message in answer.one(f"#{described}").text()
    assert fields(answer)["disclaimer"] == "What I typed"
    assert "data-dirty" in answer.one("#agent-form").attributes
    assert (await saved(world, agent.id)).draft_revision == 1


async def test_of_two_editors_the_second_is_told_and_keeps_what_they_typed(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="Hello")
    anna, ben = await world.signed_in("editor"), await world.signed_in("admin")
    theirs, mine = await form_of(anna, agent), await form_of(ben, agent)
    await anna.htmx("POST", f"{PATH}/{agent.id}", theirs | {"greeting": "By Anna"})
    answer = await ben.htmx(
        "POST", f"{PATH}/{agent.id}", mine | {"greeting": "By Ben", "disclaimer": "Ben’s"}, status=422
    )
    assert "Someone else changed this agent meanwhile" in answer.one("[role=alert]").text()
    said = answer.one("[role=alert] dl").text(separator=" ")
    assert "By Anna" in said
    assert "By Ben" in said
    assert fields(answer)["greeting"] == "By Ben"
    assert (await saved(world, agent.id)).draft.greeting == "By Anna"
    again = await ben.htmx("POST", f"{PATH}/{agent.id}", fields(answer))
    assert again.toast.startswith("Saved.")
    draft = (await saved(world, agent.id)).draft
    assert (draft.greeting, draft.disclaimer) == ("By Ben", "Ben’s")


async def test_two_who_type_the_same_are_at_one(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    sent = await form_of(editor, agent) | {"greeting": "Same"}
    await editor.htmx("POST", f"{PATH}/{agent.id}", sent)
    assert (await editor.htmx("POST", f"{PATH}/{agent.id}", sent)).toast.startswith("Saved.")
    assert (await saved(world, agent.id)).draft_revision == 2


async def test_a_form_works_without_scripts(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    sent = await form_of(editor, agent)
    answer = await editor.submit(f"{PATH}/{agent.id}", sent | {"greeting": "Plain"})
    assert answer.response.headers["location"] == f"{PATH}/{agent.id}"
    refused = await editor.submit(f"{PATH}/{agent.id}", sent | {"name": ""}, status=422)
    assert "Give it a name" in refused.text
    incomplete = await editor.submit(f"{PATH}/{agent.id}", {"name": "x"}, status=422)
    assert "Load the page again" in incomplete.text


async def test_retired_agents_leave_the_list_and_come_back(world: ConsoleWorld) -> None:
    agent = await make(world, name="Old Robin")
    editor = await world.signed_in("editor")
    await editor.htmx("POST", f"{PATH}/{agent.id}/retire")
    page = await editor.page(PATH)
    assert page.all(f'a[href="{PATH}/{agent.id}"]') == []
    assert "is retired" in page.one("[data-flash]").text()
    assert "Old Robin" in (await editor.page(f"{PATH}?retired=true")).text
    assert "This agent is retired" in (await editor.page(f"{PATH}/{agent.id}/publish")).text
    back = await editor.htmx("POST", f"{PATH}/{agent.id}/restore")
    assert back.response.headers["hx-redirect"] == f"{PATH}/{agent.id}"
    assert (await saved(world, agent.id)).archived_at is None


async def test_deleting_is_for_admins_and_the_way_back_says_so(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor, admin = await world.signed_in("editor"), await world.signed_in("admin")
    assert (await editor.page(f"{PATH}/{agent.id}/publish")).all("[hx-delete]") == []
    assert "needs the role admin" in (await editor.htmx("DELETE", f"{PATH}/{agent.id}", status=403)).toast
    before = await form_of(admin, agent)
    await admin.htmx("DELETE", f"{PATH}/{agent.id}")
    with pytest.raises(NotFound):
        await saved(world, agent.id)
    gone = await admin.page(f"{PATH}/{agent.id}", status=404)
    assert "no such agent" in gone.text
    assert "no such agent" in (await admin.htmx("POST", f"{PATH}/{agent.id}", before, status=404)).toast


async def test_viewers_look_and_change_nothing(world: ConsoleWorld) -> None:
    agent = await make(world)
    viewer = await world.signed_in("viewer")
    for tab in ("", "/look", "/publish"):
        page = await viewer.page(f"{PATH}/{agent.id}{tab}")
        assert page.all("#main button[type=submit], #playground, #main [hx-delete]") == []
    assert "disabled" in (await viewer.page(f"{PATH}/{agent.id}")).one("#agent-form > fieldset").attributes
    for method, path in (
        ("POST", ""),
        ("POST", f"/{agent.id}"),
        ("POST", f"/{agent.id}/look"),
        ("POST", f"/{agent.id}/publish"),
        ("POST", f"/{agent.id}/rollback"),
        ("POST", f"/{agent.id}/discard"),
        ("POST", f"/{agent.id}/retire"),
        ("POST", f"/{agent.id}/restore"),
        ("POST", f"/{agent.id}/playground/session"),
        ("GET", f"/{agent.id}/playground/passages?thread=t&item=i"),
        ("DELETE", f"/{agent.id}"),
    ):
        answer = await viewer.htmx(
            method,
            PATH + path,
            {"name": "x", "version": "1", "revision": "1"} if method == "POST" else None,
            status=403,
        )
        assert "This needs the role" in answer.toast, path
    assert await saved(world, agent.id) == agent


@pytest.mark.parametrize("role", ["viewer", "owner"])
async def test_another_tenants_agent_is_not_found(world: ConsoleWorld, role: Role) -> None:
    agent = await make(world)
    stranger = await world.signed_in(role, tenant_id=await world.another_tenant())
    for tab in ("", "/look", "/publish", "/look/frame"):
        await stranger.page(f"{PATH}/{agent.id}{tab}", status=404)
    if role == "owner":
        for method, path, data in (
            ("POST", "", {"name": "x", "revision": "1"}),
            ("POST", "/look", {"name": "x", "revision": "1"}),
            ("POST", "/publish", {"revision": "1"}),
            ("POST", "/rollback", {"version": "1"}),
            ("POST", "/discard", {"revision": "1"}),
            ("POST", "/retire", {}),
            ("POST", "/restore", {}),
            ("POST", "/playground/session", {}),
            ("DELETE", "", None),
        ):
            await stranger.htmx(method, f"{PATH}/{agent.id}{path}", data, status=404)
        await stranger.htmx("GET", f"{PATH}/{agent.id}/playground/passages?thread=t&item=i", status=404)
    assert await saved(world, agent.id) == agent


async def test_a_long_list_goes_on(world: ConsoleWorld) -> None:
    editor = await world.signed_in("editor", tenant_id=(tenant_id := await world.another_tenant()))
    async with world.services.database.tenant(tenant_id) as session:
        actor = world.actor.__class__(tenant_id, "system", None, frozenset({"admin"}))
        for number in range(32):
            await agents.create_agent(session, actor, config={"name": f"Agent {number}"})
    page = await editor.page(PATH)
    more = str(page.one("tr.load-more a").attributes["href"])
    rest = await editor.htmx("GET", more)
    assert len(rest.all("a.row-link") or rest.response.text.split("row-link")[1:]) == 2
