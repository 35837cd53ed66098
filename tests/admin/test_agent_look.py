"""The look of an agent: saved as part of the draft, shown by the widget's own frame, live as soon as it is published."""

from __future__ import annotations

import json
from typing import Any

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.identity.domain_keys import NewDomainKey, create_domain_key
from stonechat_admin.agent_form import LANGUAGES
from support.console import Answer, ConsoleWorld
from support.console_forms import fields_of
from support.running import ROOT

LOOK = {
    "accent": "#be123c",
    "scheme": "dark",
    "radius": "none",
    "density": "spacious",
    "launcher_label": "Ask Wren",
    "launcher_position": "left",
    "launcher_icon": "heart",
    "teaser_text": "Can I help you choose?",
    "teaser_delay": "0",
    "hidden_paths": "/checkout\r\n\r\n /account/* \r\n",
    "locale": "de",
    "renderer": "chatkit",
    "greeting": "Good evening",
    "prompts_sent": "1",
    "prompt_text_0": "Opening hours?",
    "revision": "1",
}


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Wren"} | config)


async def draft(world: ConsoleWorld, agent: AgentView) -> dict[str, Any]:
    async with world.services.database.tenant(world.tenant_id) as session:
        return (await agents.get_agent(session, world.actor, agent_id=agent.id)).draft.as_json()


def frame_config(text: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(text.split('id="stonechat-config">')[1].split("</script>", maxsplit=1)[0])
    return config


def path(agent: AgentView, tail: str = "look") -> str:
    return f"/console/agents/{agent.id}/{tail}"


async def test_the_look_is_saved_and_the_rest_of_the_draft_stays(world: ConsoleWorld) -> None:
    agent = await make(world, instructions="Keep me.", temperature=1, knowledge={"enabled": False})
    editor = await world.signed_in("editor")
    answer = await editor.htmx("POST", path(agent), LOOK)
    assert answer.toast == "Saved. Visitors see it once you publish."
    assert await draft(world, agent) == agent.draft.as_json() | {
        "theme": {"accent": "#be123c", "scheme": "dark", "radius": "none", "density": "spacious"},
        "launcher": {
            "label": "Ask Wren",
            "position": "left",
            "icon": "heart",
            "teaser": {"text": "Can I help you choose?", "delay_seconds": 0},
            "hidden_paths": ["/checkout", "/account/*"],
        },
        "locale": "de",
        "renderer": "chatkit",
        "greeting": "Good evening",
        "prompts": [{"label": "Opening hours?", "prompt": "Opening hours?"}],
    }
    page = await editor.page(path(agent))
    assert page.one("#accent").attributes["value"] == "#be123c"
    assert [node.attributes["value"] for node in page.all("#agent-form input[type=radio][checked]")] == [
        "dark",
        "none",
        "spacious",
        "left",
        "heart",
        "chatkit",
    ]
    shown = [node.attributes["data-drawing"] for node in page.all("[data-drawing]") if "class" not in node.attributes]
    assert shown == ["heart", "heart"]
    saved = await draft(world, agent)
    assert (await editor.htmx("POST", path(agent), fields_of(page))).toast.startswith("Saved.")
    assert await draft(world, agent) == saved


async def test_a_colour_that_is_none_is_refused_at_its_field(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    answer: Answer = await editor.htmx("POST", path(agent), LOOK | {"accent": "red", "launcher_label": " "}, status=422)
    assert "six digits" in answer.one("#accent-error").text()
    assert "label of up to 40" in answer.one("#launcher_label-error").text()
    assert answer.one("#accent").attributes["value"] == "red"
    assert await draft(world, agent) == agent.draft.as_json()


async def test_the_button_says_what_to_write_instead(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    wrong = {"teaser_text": "x" * 161, "teaser_delay": "soon", "hidden_paths": "/cart\ncheckout"}
    answer = await editor.htmx("POST", path(agent), LOOK | wrong, status=422)
    for name in wrong:
        assert answer.one(f"#{name}-error")
    assert answer.one("#hidden_paths").text().split() == ["/cart", "checkout"]
    await editor.htmx("POST", path(agent), LOOK | {"locale": "Klingon!"}, status=422)
    assert await draft(world, agent) == agent.draft.as_json()


async def test_a_language_that_the_list_does_not_have_stays(world: ConsoleWorld) -> None:
    agent = await make(world, locale="de-AT")
    page = await (await world.signed_in("editor")).page(path(agent))
    assert page.one("#locale option[selected]").attributes["value"] == "de-AT"
    spoken = {file.stem for file in (ROOT / "widget/src/locale").glob("*.json")}
    assert {value or "en" for value, _ in LANGUAGES} == spoken


async def test_of_two_designers_the_second_is_told(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    await editor.htmx("POST", path(agent), LOOK)
    answer = await editor.htmx("POST", path(agent), LOOK | {"accent": "#0f766e"}, status=422)
    alert = answer.one("[role=alert]").text(separator=" ")
    assert "#be123c" in alert
    assert "#0f766e" in alert
    assert answer.one("#accent").attributes["value"] == "#0f766e"


async def test_the_preview_is_the_widgets_own_frame_with_the_draft(world: ConsoleWorld) -> None:
    agent = await make(world, instructions="Secret instructions")
    viewer = await world.signed_in("viewer")
    page = await viewer.page(path(agent))
    for node, scheme in zip(page.all("iframe"), ("light", "dark"), strict=True):
        frame = await viewer.http.get(str(node.attributes["src"]), headers={"Sec-Fetch-Site": "same-origin"})
        assert frame.status_code == 200
        config = frame_config(frame.text)
        assert (config["preview"], config["agent"]["name"], config["ticket"]) == (scheme, "Wren", "")
        assert "Secret instructions" not in frame.text
        policy = frame.headers["content-security-policy"]
        assert "frame-ancestors 'self'" in policy
        assert "unsafe" not in policy
        assert frame.headers["cross-origin-resource-policy"] == "same-origin"
        script = frame.text.rpartition('src="')[2].partition('"')[0]
        assert (await viewer.http.get(script)).status_code == 200
    assert (await viewer.http.get(path(agent, "look/frame?scheme=pink"))).status_code == 422
    assert "frame-src 'self'" in page.response.headers["content-security-policy"]


async def test_a_stranger_gets_no_preview(world: ConsoleWorld) -> None:
    agent = await make(world)
    answer = await world.stranger().http.get(path(agent, "look/frame"))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/console/login")


async def test_what_is_published_is_in_the_widget_at_the_next_load(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    await editor.htmx("POST", path(agent, "publish"), {"revision": "1"})
    async with world.services.database.tenant(world.tenant_id) as session:
        new = NewDomainKey(name="Shop", environment="production", origins=["https://shop.example"])
        key = await create_domain_key(session, world.actor, agent_id=agent.id, new=new)

    async def live() -> Any:
        # A visitor's page, long open: every cache of this process is warm with what was published before.
        frame = await editor.http.get(f"/embed/frame?k={key.key}")
        session = await editor.http.post(
            "/v1/sessions", json={"domain_key": key.key}, headers={"Origin": "https://shop.example"}
        )
        in_frame = frame_config(frame.text)["agent"]
        assert in_frame == session.json()["agent"]
        assert frame.headers["cache-control"] == "no-store"
        return in_frame

    before = await live()
    await editor.htmx("POST", path(agent), LOOK)
    assert await live() == before, "a draft is nobody's business"
    await editor.htmx("POST", path(agent, "publish"), {"revision": "2"})
    after = await live()
    assert after["theme"] == {"accent": "#be123c", "scheme": "dark", "radius": "none", "density": "spacious"}
    assert (after["launcher"]["label"], after["launcher"]["position"]) == ("Ask Wren", "left")
    assert after["greeting"] == "Good evening"
    await editor.htmx("POST", path(agent, "rollback"), {"version": "1"})
    assert await live() == before
