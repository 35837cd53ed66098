"""One action: write the answer. It becomes a pair, answers, and can be tried at once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.knowledge import editing, sources
from stonechat.knowledge.schemas import FaqSourceIn, Pair, TextSourceIn
from support.knowledge import run_jobs
from support.platform import Platform

QUESTION = "Do you repair kettles?"


@pytest.fixture
async def api(platform: Platform) -> AsyncIterator[httpx.AsyncClient]:
    async with platform.services.database.tenant(platform.tenant_id) as session:
        _, secret = await create_api_key(session, system(platform.tenant_id), name="test", scopes=["write"])
    transport = httpx.ASGITransport(app=platform.app, raise_app_exceptions=False, client=("127.0.0.1", 1))
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000/api/v1", headers=headers) as http:
        yield http


async def gathered(platform: Platform, agent: str, *questions: str) -> None:
    for question in questions:
        await platform.visitor(agent).say(question)
    await platform.services.chat.hub.afterwards_done()


async def test_an_answer_that_was_written_answers(platform: Platform, api: httpx.AsyncClient) -> None:
    agent = await platform.agent(model="extractive", knowledge={"enabled": True})
    await gathered(platform, agent, QUESTION, "Can you repair a kettle?", "Who designed the moon?")
    listed = (await api.get("/knowledge/unanswered")).json()["data"]
    assert [(group["question"], group["asked"]) for group in listed] == [(QUESTION, 2), ("Who designed the moon?", 1)]
    group = listed[0]["id"]
    detail = (await api.get(f"/knowledge/unanswered/{group}")).json()
    assert [each["question"] for each in detail["questions"]] == ["Can you repair a kettle?", QUESTION]

    before = (await api.post(f"/agents/{agent}/ask", json={"question": QUESTION})).json()
    assert (before["answered"], before["unanswered"], before["sources"]) == (False, "no_passages", [])

    pair = {
        "question": QUESTION,
        "answer": "Yes: bring the kettle to our workshop in **Linden Street**. A repair takes five days.",
        "variants": ["Can you repair a kettle?"],
    }
    settled = await api.post(f"/knowledge/unanswered/{group}/answer", json=pair)
    assert (settled.status_code, settled.json()["state"]) == (200, "answered")
    await run_jobs(platform.services.knowledge, platform.tenant_id)
    for version in ("draft", "published"):
        body = {"question": "Can you repair a kettle?", "version": version}
        after = (await api.post(f"/agents/{agent}/ask", json=body)).json()
        assert after["answered"], after
        assert "Linden Street" in after["text"]
        assert after["sources"][0]["title"] == "Answers from the console"
    assert (await api.get("/conversations")).json()["data"][0]["title"] is not None
    assert len((await api.get("/conversations")).json()["data"]) == 3, "what is asked as a test is not kept"
    assert [each["id"] for each in (await api.get("/knowledge/unanswered")).json()["data"]] == [listed[1]["id"]]


async def test_all_answers_of_the_console_are_one_source(platform: Platform, api: httpx.AsyncClient) -> None:
    agent = await platform.agent(model="extractive", knowledge={"enabled": True})
    await gathered(platform, agent, QUESTION, "Who designed the moon?")
    groups = (await api.get("/knowledge/unanswered")).json()["data"]
    for group in groups:
        pair = {"question": group["question"], "answer": f"About that: {group['question']}"}
        settled = await api.post(f"/knowledge/unanswered/{group['id']}/answer", json=pair)
        assert settled.status_code == 200, settled.text
        await run_jobs(platform.services.knowledge, platform.tenant_id)
    again = {"question": QUESTION, "answer": "No longer."}
    source = (await api.post(f"/knowledge/unanswered/{groups[0]['id']}/answer", json=again)).json()["source_id"]
    async with platform.services.database.tenant(platform.tenant_id) as session:
        actor, files = system(platform.tenant_id), platform.services.knowledge.files
        written = await editing.read_written(session, actor, files=files, source_id=source)
        found, _ = await sources.list_sources(session, actor)
    assert [each.source_id for each in found] == [source]
    assert {pair.question: pair.answer for pair in written.pairs}[QUESTION] == "No longer."
    assert len(written.pairs) == 2


async def test_dismissing_and_opening_again(platform: Platform, api: httpx.AsyncClient) -> None:
    agent = await platform.agent(model="extractive", knowledge={"enabled": True})
    await gathered(platform, agent, QUESTION)
    (group,) = (await api.get("/knowledge/unanswered", params={"agent_id": agent})).json()["data"]
    assert (await api.post(f"/knowledge/unanswered/{group['id']}/dismiss")).json()["state"] == "dismissed"
    assert (await api.get("/knowledge/unanswered")).json()["data"] == []
    assert len((await api.get("/knowledge/unanswered", params={"state": "dismissed"})).json()["data"]) == 1
    assert (await api.post(f"/knowledge/unanswered/{group['id']}/reopen")).json()["state"] == "open"
    missing = await api.post("/knowledge/unanswered/unq_none/dismiss")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")


async def test_a_text_and_pairs_can_be_changed_and_answer_anew(platform: Platform, api: httpx.AsyncClient) -> None:
    actor, files, knowledge = system(platform.tenant_id), platform.services.knowledge.files, platform.services.knowledge
    async with platform.services.database.tenant(platform.tenant_id) as session:
        text = await sources.create_source(
            session, actor, files=files, source=TextSourceIn(type="text", name="Hours", text="We open at nine.")
        )
        faq = await sources.create_source(
            session,
            actor,
            files=files,
            source=FaqSourceIn(type="faq", name="Pairs", pairs=[Pair(question="Any dogs?", answer="Small ones.")]),
        )
        text_id, faq_id = text.source_id, faq.source_id
    await run_jobs(knowledge, platform.tenant_id)
    changed = await api.patch(
        f"/knowledge/sources/{text_id}", json={"name": "Opening hours", "text": "We open at ten in the morning."}
    )
    assert (changed.status_code, changed.json()["name"]) == (200, "Opening hours")
    pairs = [{"question": "Any dogs?", "answer": "All dogs are welcome."}]
    assert (await api.patch(f"/knowledge/sources/{faq_id}", json={"pairs": pairs})).status_code == 200
    await run_jobs(knowledge, platform.tenant_id)
    found = (await api.post("/knowledge/search", json={"query": "when do you open"})).json()["results"]
    assert [(each["title"], each["text"]) for each in found] == [("Opening hours", "We open at ten in the morning.")]
    found = (await api.post("/knowledge/search", json={"query": "dogs"})).json()["results"]
    assert "All dogs are welcome." in found[0]["text"]
    assert "Small ones" not in found[0]["text"]
    for source, body in ((text_id, {"pairs": pairs}), (faq_id, {"text": "x"}), (faq_id, {"pairs": []})):
        refused = await api.patch(f"/knowledge/sources/{source}", json=body)
        assert refused.status_code == 422, refused.text
