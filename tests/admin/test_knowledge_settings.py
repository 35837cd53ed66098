"""Search settings in the console: said in words, refused by field, and the test page says how each passage was found."""

from __future__ import annotations

from stonechat.accounts.actor import system
from stonechat.providers.service import create_provider
from support.console import ConsoleWorld

PATH = "/console/knowledge/settings"


async def test_an_editor_chooses_a_model_and_sees_the_index_being_built(world: ConsoleWorld) -> None:
    tenant_id = await world.another_tenant()
    editor = await world.signed_in("editor", tenant_id=tenant_id)
    async with world.services.database.tenant(tenant_id) as session:
        await create_provider(
            session,
            system(tenant_id),
            keyring=world.services.keyring,
            name="acme",
            kind="openai_compatible",
            api_key="sk-x",
            base_url="https://models.example/v1",
        )
    page = await editor.page(PATH)
    assert "Searches go by words alone." in page.text
    assert "we have not measured it" in page.text

    refused = await editor.htmx("POST", PATH, status=422, data={"embedding_provider": "acme"})
    assert "Choose both, or neither." in refused.text
    refused = await editor.htmx("POST", PATH, status=422, data={"score_floor": "a lot"})
    assert "Write a number above 0" in refused.text
    refused = await editor.htmx("POST", PATH, status=422, data={"reranker_url": "http://127.0.0.1:9/rerank"})
    assert refused.one("#reranker_url-error").text

    saved = await editor.htmx("POST", PATH, data={"embedding_provider": "acme", "embedding_model": "embed-1"})
    assert "Being built" in saved.text
    part = await editor.htmx("GET", PATH)
    assert part.one("#search-builds").attributes["hx-trigger"] == "every 3s"
    assert (await editor.page(PATH)).one("#embedding_model").attributes["value"] == "embed-1"


async def test_a_viewer_looks_only(world: ConsoleWorld) -> None:
    viewer = await world.signed_in("viewer", tenant_id=await world.another_tenant())
    page = await viewer.page(PATH)
    assert "Changing search settings needs the role editor." in page.text
