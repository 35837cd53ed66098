"""Limits in the console: said in words, saved, refused in words, and never overwritten by accident."""

from __future__ import annotations

import pytest

from stonechat.limits.rules import LimitRules, get_limits
from support.console import Browser, ConsoleWorld

PATH = "/console/limits"
FIELDS = ("visitor_messages", "visitor_concurrent", "agent_messages", "tenant_messages")


async def a_tenant(world: ConsoleWorld) -> Browser:
    return await world.signed_in("editor", tenant_id=await world.another_tenant())


async def rules_of(world: ConsoleWorld, browser: Browser) -> LimitRules:
    page = await browser.page(PATH)
    return LimitRules.model_validate(
        {
            "visitor": {
                "messages_per_minute": page.one("#visitor_messages").attributes["value"],
                "concurrent": page.one("#visitor_concurrent").attributes["value"],
            },
            "agent": {"messages_per_minute": page.one("#agent_messages").attributes["value"]},
            "tenant": {"messages_per_minute": page.one("#tenant_messages").attributes["value"]},
        }
    )


def numbers(*values: object, seen: str = "20-3-600-1200") -> dict[str, object]:
    return {**dict(zip(FIELDS, values, strict=True)), "seen": seen}


async def test_an_editor_changes_them_and_goes_back(world: ConsoleWorld) -> None:
    editor = await a_tenant(world)
    page = await editor.page(PATH)
    assert "One visitor may send messages a minute" in page.text
    assert await rules_of(world, editor) == LimitRules()
    answer = await editor.htmx("POST", PATH, numbers(5, 1, 60, 120))
    assert "saved" in answer.toast
    changed = await rules_of(world, editor)
    assert (changed.visitor.messages_per_minute, changed.tenant.messages_per_minute) == (5, 120)
    assert "At first it was 20" in (await editor.page(PATH)).text
    await editor.htmx("POST", f"{PATH}/reset")
    assert await rules_of(world, editor) == LimitRules()


@pytest.mark.parametrize("wrong", ["0", "", "many", "1.5", "100001", "-3", "1" * 19])
async def test_what_is_wrong_is_said_at_the_number(world: ConsoleWorld, wrong: str) -> None:
    editor = await a_tenant(world)
    answer = await editor.htmx("POST", PATH, numbers(wrong, 3, 600, 1200), status=422)
    field = answer.one("#visitor_messages")
    assert field.attributes["aria-invalid"] == "true"
    assert field.attributes["value"] == wrong
    assert "whole number from 1 to 100,000" in answer.one("#visitor_messages-error").text()
    assert answer.all("#agent_messages-error") == []
    assert await rules_of(world, editor) == LimitRules()


async def test_two_who_edit_at_once_notice_each_other(world: ConsoleWorld) -> None:
    editor = await a_tenant(world)
    await editor.htmx("POST", PATH, numbers(5, 1, 60, 120))
    late = await editor.htmx("POST", PATH, numbers(50, 3, 600, 1200), status=422)
    assert "Somebody changed the limits" in late.text
    assert late.one("#visitor_messages").attributes["value"] == "50"
    seen = late.one("input[name=seen]").attributes["value"]
    assert seen == "5-1-60-120"
    await editor.htmx("POST", PATH, numbers(50, 3, 600, 1200, seen=seen or ""))
    twice = await editor.htmx("POST", PATH, numbers(50, 3, 600, 1200, seen=seen or ""))
    assert "saved" in twice.toast, "a double click is no conflict"


async def test_viewers_look_and_no_more(world: ConsoleWorld) -> None:
    viewer = await world.signed_in("viewer")
    page = await viewer.page(PATH)
    assert all("disabled" in field.attributes for field in page.all("#limits-form input[type=number]"))
    assert page.all("#limits-form button") == []
    for path in (PATH, f"{PATH}/reset"):
        assert "needs the role editor" in (await viewer.htmx("POST", path, numbers(1, 1, 1, 1), status=403)).toast
    async with world.services.database.tenant(world.tenant_id) as session:
        assert await get_limits(session, world.actor) == LimitRules()
