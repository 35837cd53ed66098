"""Secrets in the console: named, replaced, deleted, said where they are used, and never shown."""

from __future__ import annotations

from uuid import uuid4

from stonechat.accounts.secrets import list_secrets, open_secrets, put_secret
from stonechat.assistant import agents
from support.console import ConsoleWorld

PATH = "/console/secrets"
VALUE = "sk-never-shown-anywhere"


def fresh() -> str:
    return f"shop-{uuid4().hex[:8]}"


async def keep(world: ConsoleWorld, name: str, value: str = VALUE) -> str:
    async with world.services.database.tenant(world.tenant_id) as session:
        made = await put_secret(session, world.actor, keyring=world.services.keyring, name=name, value=value)
        return made.id


async def value_of(world: ConsoleWorld, name: str) -> str | None:
    async with world.services.database.tenant(world.tenant_id) as session:
        opened = await open_secrets(session, world.tenant_id, keyring=world.services.keyring, names=[name])
        return opened[name].value if name in opened else None


async def use(world: ConsoleWorld, name: str, *, agent: str) -> str:
    tool = {
        "kind": "http",
        "name": "order",
        "description": "Looks an order up.",
        "url": "https://shop.example/",
        "secret_headers": {"Authorization": name},
    }
    async with world.services.database.tenant(world.tenant_id) as session:
        made = await agents.create_agent(session, world.actor, config={"name": agent, "tools": [tool]})
        return made.id


async def test_a_secret_goes_in_and_is_never_shown(world: ConsoleWorld) -> None:
    editor, name = await world.signed_in("editor"), fresh()
    answer = await editor.htmx("POST", PATH, {"name": name, "value": f" {VALUE}\n"})
    assert answer.toast == f"“{name}” is kept. Choose it where a tool needs it."
    assert await value_of(world, name) == VALUE
    page = await editor.page(PATH)
    assert name in page.text
    assert VALUE not in answer.response.text + page.response.text
    plain = await editor.submit(PATH, {"name": fresh(), "value": VALUE})
    assert plain.response.headers["location"] == PATH


async def test_what_is_refused_is_said_and_the_value_does_not_travel_back(world: ConsoleWorld) -> None:
    editor, name = await world.signed_in("editor"), fresh()
    wrong = await editor.htmx("POST", PATH, {"name": "Not A Name", "value": VALUE}, status=422)
    assert "lower-case letters" in wrong.one("#secret-name-error").text()
    assert "once more" in wrong.one("#secret-value-error").text()
    assert VALUE not in wrong.response.text
    await keep(world, name)
    twice = await editor.htmx("POST", PATH, {"name": name, "value": "another"}, status=422)
    assert "There is one of this name" in twice.one("#secret-name-error").text()
    assert await value_of(world, name) == VALUE
    two_lines = await editor.submit(PATH, {"name": fresh(), "value": "a\r\nX-Evil: 1"}, status=422)
    assert "printable" in two_lines.one("#secret-value-error").text()


async def test_a_value_is_replaced(world: ConsoleWorld) -> None:
    editor, name = await world.signed_in("editor"), fresh()
    secret = await keep(world, name)
    form = await editor.htmx("GET", f"{PATH}/{secret}")
    assert form.told["show"] == "replace-secret"
    assert VALUE not in form.response.text
    assert "New value" in (await editor.page(f"{PATH}/{secret}")).text
    refused = await editor.htmx("POST", f"{PATH}/{secret}", {"value": ""}, status=422)
    assert refused.all("#new-secret-value-error")
    await editor.htmx("POST", f"{PATH}/{secret}", {"value": "another"})
    assert await value_of(world, name) == "another"


async def test_who_uses_a_secret_is_said_and_warned_of(world: ConsoleWorld) -> None:
    admin, name = await world.signed_in("admin"), fresh()
    secret = await keep(world, name)
    agent = await use(world, name, agent="Wren the First")
    async with world.services.database.tenant(world.tenant_id) as session:
        await agents.publish_agent(session, world.actor, agent_id=agent, settings=world.services.settings)
        await agents.patch_draft(session, world.actor, agent_id=agent, patch={"tools": []})
    page = await admin.page(PATH)  # visitors still meet the version that names it
    assert "Wren the First" in page.one(f"#{secret} [data-label='Used by']").text()
    assert "stop working" in str(page.one(f"#{secret} form").attributes["data-confirm-detail"])
    deleted = await admin.htmx("POST", f"{PATH}/{secret}/delete")
    assert deleted.toast == f"“{name}” is deleted."
    async with world.services.database.tenant(world.tenant_id) as session:
        assert name not in [each.name for each in await list_secrets(session, world.actor)]


async def test_editors_do_not_delete(world: ConsoleWorld) -> None:
    secret = await keep(world, fresh())
    editor = await world.signed_in("editor")
    assert not (await editor.page(PATH)).all("form[action$='/delete']")
    await editor.htmx("POST", f"{PATH}/{secret}/delete", status=403)
