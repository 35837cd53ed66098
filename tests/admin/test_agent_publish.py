"""Publishing in the console: what it changes is said before, twice is once, and every version can come back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from stonechat.accounts.models import Role
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.assistant.config import AgentConfig, merge_patch, parse_config
from stonechat_admin.agent_changes import config_changes
from stonechat_admin.agent_tool_words import LABELS
from support.console import ConsoleWorld


async def make(world: ConsoleWorld, **config: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.create_agent(session, world.actor, config={"name": "Robin"} | config)


async def edit(world: ConsoleWorld, agent: AgentView, **patch: Any) -> AgentView:
    async with world.services.database.tenant(world.tenant_id) as session:
        return await agents.patch_draft(session, world.actor, agent_id=agent.id, patch=patch)


async def published(world: ConsoleWorld, agent: AgentView) -> agents.AgentVersionView | None:
    async with world.services.database.tenant(world.tenant_id) as session:
        return (await agents.live_versions(session, world.actor, agent_ids=[agent.id])).get(agent.id)


def tab(agent: AgentView, verb: str = "publish") -> str:
    return f"/console/agents/{agent.id}/{verb}"


async def test_publishing_makes_the_draft_live_and_says_so(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="First")
    editor = await world.signed_in("editor")
    page = await editor.page(tab(agent))
    assert "Ready for its first visitors?" in page.text
    answer = await editor.htmx("POST", tab(agent), {"revision": "1"})
    assert answer.toast == "Version 1 is live. Open pages show it once reloaded."
    assert "Visitors meet exactly this draft" in answer.text
    assert "Version 1 is live" in answer.text
    live = await published(world, agent)
    assert live is not None
    assert (live.version, live.config.greeting) == (1, "First")
    assert "Editor Person" in answer.one("table").text()


async def test_what_would_change_is_said_before(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="First", instructions="Be kind.\nBe brief.")
    editor = await world.signed_in("editor")
    await editor.htmx("POST", tab(agent), {"revision": "1"})
    await edit(world, agent, greeting="Second", instructions="Be kind.\nBe precise.", theme={"accent": "#be123c"})
    page = await editor.page(tab(agent))
    assert [node.text(strip=True) for node in page.all("#publish dl dt")] == [
        "Greeting",
        "Instructions",
        "Accent colour",
    ]
    assert "First" in page.text
    assert "Second" in page.text
    assert page.one("#publish del").text() == "brief."
    assert page.one("#publish ins").text() == "precise."
    assert "3 unpublished changes" in page.one("#agent-state").text()
    assert "3 unpublished changes" in (await editor.page("/console/agents")).text


async def test_a_double_click_publishes_once(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    await editor.page(tab(agent))
    first, second = await asyncio.gather(
        *(editor.htmx("POST", tab(agent), {"revision": "1"}) for _ in range(2)),
    )
    assert {first.status, second.status} == {200}
    async with world.services.database.tenant(world.tenant_id) as session:
        assert len(await agents.list_versions(session, world.actor, agent_id=agent.id)) == 1
    third = await editor.htmx("POST", tab(agent), {"revision": "1"})
    assert third.toast == "Nothing had changed: version 1 stays live."


async def test_nobody_publishes_what_they_have_not_seen(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="First")
    editor = await world.signed_in("editor")
    await editor.htmx("POST", tab(agent), {"revision": "1"})
    await edit(world, agent, greeting="Seen")
    await edit(world, agent, disclaimer="Not seen")
    answer = await editor.htmx("POST", tab(agent), {"revision": "2"}, status=422)
    assert "Someone else changed this agent while you looked" in answer.one("[role=alert]").text()
    assert "Not seen" in answer.text
    live = await published(world, agent)
    assert live is not None
    assert live.version == 1
    revision = answer.all("#publish input[name=revision]")[0].attributes["value"]
    await editor.htmx("POST", tab(agent), {"revision": revision})
    live = await published(world, agent)
    assert live is not None
    assert live.config.disclaimer == "Not seen"


async def test_a_model_that_nothing_can_answer_with_is_not_published(world: ConsoleWorld) -> None:
    agent = await make(world, model="nobody/model")
    editor = await world.signed_in("editor")
    answer = await editor.htmx("POST", tab(agent), {"revision": "1"}, status=422)
    assert "There is no model provider called “nobody”" in answer.one("[role=alert]").text()
    assert await published(world, agent) is None


async def test_an_earlier_version_comes_back_and_the_draft_stays(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="First")
    editor = await world.signed_in("editor")
    await editor.htmx("POST", tab(agent), {"revision": "1"})
    await edit(world, agent, greeting="Second")
    await editor.htmx("POST", tab(agent), {"revision": "2"})
    page = await editor.page(tab(agent))
    button = page.one('form[hx-post$="/rollback"]')
    assert button.attributes["data-confirm"] == "Go back to version 1?"
    answer = await editor.htmx("POST", tab(agent, "rollback"), {"version": "1"})
    assert answer.toast == "Version 1 is live again, as version 3. Your draft was not touched."
    live = await published(world, agent)
    assert live is not None
    assert (live.version, live.config.greeting) == (3, "First")
    assert "1 unpublished change" in answer.text
    again = await editor.htmx("POST", tab(agent, "rollback"), {"version": "1"})
    assert "version 3" in again.toast
    await editor.htmx("POST", tab(agent, "rollback"), {"version": "99"}, status=404)


async def test_a_draft_can_be_discarded(world: ConsoleWorld) -> None:
    agent = await make(world, greeting="First", temperature=0.5)
    editor = await world.signed_in("editor")
    refused = await editor.htmx("POST", tab(agent, "discard"), {"revision": "1"}, status=422)
    assert "Nothing was published yet" in refused.text
    await editor.htmx("POST", tab(agent), {"revision": "1"})
    await edit(world, agent, greeting="Second", temperature=None, prompts=[{"label": "a", "prompt": "b"}])
    stale = await editor.htmx("POST", tab(agent, "discard"), {"revision": "1"}, status=422)
    assert "Look again" in stale.text
    answer = await editor.htmx("POST", tab(agent, "discard"), {"revision": "2"})
    assert "Visitors meet exactly this draft" in answer.text


@pytest.mark.parametrize("role", ["editor", "owner"])
async def test_a_retired_agent_is_not_published(world: ConsoleWorld, role: Role) -> None:
    agent = await make(world)
    browser = await world.signed_in(role)
    await browser.htmx("POST", tab(agent, "retire"))
    answer = await browser.htmx("POST", tab(agent), {"revision": "1"}, status=422)
    assert "Bring it back, then publish" in answer.one("[role=alert]").text()
    assert await published(world, agent) is None


async def test_old_versions_come_page_by_page(world: ConsoleWorld) -> None:
    agent = await make(world)
    editor = await world.signed_in("editor")
    for number in range(22):
        async with world.services.database.tenant(world.tenant_id) as session:
            await agents.patch_draft(session, world.actor, agent_id=agent.id, patch={"greeting": f"Greeting {number}"})
            await agents.publish_agent(session, world.actor, agent_id=agent.id, settings=world.services.settings)
    page = await editor.page(tab(agent))
    more = str(page.one("tr.load-more a").attributes["href"])
    rest = await editor.htmx("GET", more)
    assert "Version 2" in rest.response.text
    assert "The first" in rest.response.text
    assert "Version 3<" not in rest.response.text


_TOOL = {
    "kind": "http",
    "name": "order",
    "description": "Looks an order up.",
    "url": "https://shop.example/orders",
}
OTHERWISE: dict[str, Any] = {
    "name": "Wren",
    "instructions": "x",
    "model": "scripted",
    "model_choices": [{"id": "acme/large", "label": "Thorough"}],
    "fallback_models": ["acme/small"],
    "greeting": "y",
    "prompts": [{"label": "a", "prompt": "b"}],
    "disclaimer": "z",
    "placeholder": "w",
    "locale": "de",
    "renderer": "chatkit",
    "theme": {"accent": "#000000", "scheme": "dark", "radius": "none", "density": "compact"},
    "launcher": {
        "label": "v",
        "position": "left",
        "icon": "heart",
        "teaser": {"text": "u", "delay_seconds": 9},
        "hidden_paths": ["/cart"],
    },
    "knowledge": {"enabled": False, "max_passages": 1},
    "temperature": 1,
    "max_output_tokens": 100,
    "reasoning": {"effort": "low", "show": True},
    "history": {"max_tokens": 9_000, "summarise": False},
    "tools": [_TOOL],
    "ask": True,
    "hand_over": {"enabled": True, "message": "m", "waiting": "n"},
    "titles": "model",
    "guardrails": {
        "input": {
            "max_characters": 100,
            "languages": ["en"],
            "blocked_topics": [{"name": "Weapons", "phrases": ["gun"]}],
            "moderation": True,
            "moderation_model": "judge",
            "injection": "block",
        },
        "output": {
            "links": "any",
            "link_hosts": ["shop.example"],
            "images": "listed",
            "redact": ["emails"],
            "strict": True,
        },
        "message": "No.",
    },
    "attachments": {"enabled": True, "images": False, "documents": False, "max_bytes": 20_000, "max_files": 1},
    "dictation": {"enabled": True, "model": "acme/ears"},
    "feedback": {"enabled": False},
}
"""Another value for every setting that an agent has. A new field of `AgentConfig` needs one here, and words on the page."""
_FULL_HTTP = _TOOL | {
    "offered_as": "My order",
    "parameters": {"type": "object", "properties": {"number": {"type": "string"}}},
    "method": "POST",
    "headers": {"X-Shop": "1"},
    "secret_headers": {"Authorization": "shop"},
    "result": {"state": "/state"},
    "timeout_seconds": 3,
    "approval": "always",
}
_FULL_TOOLS: list[dict[str, Any]] = [
    _FULL_HTTP,
    {
        "kind": "mcp",
        "name": "order",
        "url": "https://tools.example/mcp",
        "secret_headers": {"Authorization": "shop"},
        "allowed": ["a"],
        "approval": "never",
        "timeout_seconds": 5,
    },
    {"kind": "client", "name": "order", "description": "x", "offered_as": "y", "parameters": {"type": "object"}},
    {
        "kind": "widget",
        "name": "order",
        "description": "x",
        "offered_as": "y",
        "parameters": {"type": "object"},
        "template": {"type": "Card"},
        "copy_text": "z",
    },
]


def leaves(config: BaseModel) -> Iterator[tuple[str, ...]]:
    """The path of every setting."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from ((name, *rest) for rest in leaves(value))
        else:
            yield (name,)


def test_every_setting_that_differs_is_named() -> None:
    before = AgentConfig(name="Robin")
    for path in leaves(before):
        try:
            changed: Any = OTHERWISE
            for name in path:
                changed = changed[name]
        except KeyError:
            raise AssertionError(f"{path} has no other value in OTHERWISE") from None
        for name in reversed(path):
            changed = {name: changed}
        after = parse_config(merge_patch(before.as_json(), changed))
        assert after != before, f"OTHERWISE has the default of {path}"
        found = config_changes(before, after)
        assert len(found) == 1, f"{path} is missing from the words in agent_changes.py"
        assert found[0].before != found[0].after
    other = AgentConfig.model_validate(OTHERWISE)
    assert config_changes(other, other) == []


@pytest.mark.parametrize("tool", _FULL_TOOLS, ids=lambda tool: str(tool["kind"]))
def test_every_setting_of_a_tool_that_differs_is_named(tool: dict[str, Any]) -> None:
    full = AgentConfig.model_validate({"name": "Robin", "tools": [tool]})
    told = config_changes(AgentConfig(name="Robin"), full)[0].after
    for name in type(full.tools[0]).model_fields:
        if name in ("kind", "name", "actions"):
            continue
        assert f"order, {LABELS[name]}: " in told, name
    renamed = AgentConfig.model_validate({"name": "Robin", "tools": [tool | {"name": "other"}]})
    assert len(config_changes(full, renamed)) == 1
