"""Thoughts: shown as a workflow where the agent shows them, and never asked for where it does not."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from chatkit.types import (
    DurationSummary,
    ThoughtTask,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    WorkflowItem,
    WorkflowTaskAdded,
    WorkflowTaskUpdated,
)

from stonechat import clock, ids
from stonechat.assistant.agent import Assistant
from stonechat.assistant.config import parse_config
from stonechat.assistant.reasoning import MAX_CHARACTERS, ThoughtWriter
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.identity.caller import Caller
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import FakeKnowledge, add_provider, model_providers, user_message

THOUGHTS = ["First, the sizes. ", "Then the price of each of them, with shipping. ", "That is 9 €."]


async def turn_with(
    database: Database, tenant_id: UUID, *replies: list[bytes], kind: Any = "openai_compatible", **reasoning: Any
) -> tuple[list[ThreadStreamEvent], list[dict[str, Any]], Turn]:
    """One turn's events, what the host was sent, and the turn."""
    async with host.fake_openai(*replies) as fake, model_providers(database, openai_base_url=fake.url) as providers:
        address = fake.url if kind == "openai_compatible" else None
        await add_provider(database, tenant_id, kind=kind, base_url=address)
        config = parse_config(
            {"name": "Shop", "model": "acme/large", "knowledge": {"enabled": False}, "reasoning": reasoning}
        )
        turn = Turn(
            Caller(tenant_id, "usr_1", "agt_1"),
            config,
            ThreadMetadata(id="thr_1", created_at=clock.now()),
            [user_message("What is it?")],
            lambda _kind: ids.new_id("itm"),
        )
        assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())
        events = [event async for event in assistant.respond(turn)]
        return events, [fake.body(number) for number in range(len(fake.requests))], turn


def workflow_of(events: list[ThreadStreamEvent]) -> WorkflowItem:
    """The one workflow, after checking that its events add up to it."""
    shown: dict[int, str] = {}
    ends: list[WorkflowItem] = []
    for event in events:
        if isinstance(event, ThreadItemAddedEvent) and isinstance(event.item, WorkflowItem):
            assert (event.item.workflow.type, event.item.workflow.tasks) == ("reasoning", [])
        elif isinstance(event, ThreadItemUpdatedEvent) and isinstance(
            event.update, WorkflowTaskAdded | WorkflowTaskUpdated
        ):
            task = event.update.task
            assert isinstance(task, ThoughtTask)
            assert isinstance(event.update, WorkflowTaskUpdated) == (event.update.task_index in shown)
            assert task.content.startswith(shown.get(event.update.task_index, ""))
            shown[event.update.task_index] = task.content
        elif isinstance(event, ThreadItemDoneEvent) and isinstance(event.item, WorkflowItem):
            ends.append(event.item)
    [item] = ends
    assert [task.content for task in item.workflow.tasks if isinstance(task, ThoughtTask)] == list(shown.values())
    assert all(task.status_indicator == "complete" for task in item.workflow.tasks)
    assert isinstance(item.workflow.summary, DurationSummary)
    return item


def contents(item: WorkflowItem) -> list[str]:
    return [task.content for task in item.workflow.tasks if isinstance(task, ThoughtTask)]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "content"])
async def test_thoughts_of_compatible_hosts_come_before_the_answer(
    database: Database, tenant_id: UUID, field: str
) -> None:
    reply = host.chat_thinking(THOUGHTS, "It is ", "nine.", field=field)
    events, [body], turn = await turn_with(database, tenant_id, reply, show=True, effort="low")
    assert contents(workflow_of(events)) == ["".join(THOUGHTS)]
    done = [event.item for event in events if isinstance(event, ThreadItemDoneEvent)]
    assert [item.type for item in done] == ["workflow", "assistant_message"]
    assert body["reasoning_effort"] == "low"
    [span] = [span for span in turn.trace.spans if span.kind == "generation"]
    assert "sizes" not in repr(span.data), "a trace tells how long it thought, not what"


async def test_a_summary_of_thoughts_has_a_task_for_each_part(database: Database, tenant_id: UUID) -> None:
    reply = host.responses_thinking([["Sizes", " first."], ["Prices", " then."]], "Nine.")
    events, [body], _ = await turn_with(database, tenant_id, reply, kind="openai", show=True, effort="high")
    assert contents(workflow_of(events)) == ["Sizes first.", "Prices then."]
    assert body["reasoning"] == {"effort": "high", "summary": "auto"}
    assert body["store"] is False


async def test_thoughts_stay_hidden_unless_the_agent_shows_them(database: Database, tenant_id: UUID) -> None:
    events, [body], turn = await turn_with(
        database, tenant_id, host.chat_thinking(THOUGHTS, "Nine.", field="reasoning")
    )
    assert "sizes" not in repr(events)
    assert "reasoning_effort" not in body
    [use] = turn.usage.uses
    assert use.output_tokens == host.CHAT_USAGE["completion_tokens"]


async def test_an_answer_that_fails_while_it_thinks_ends_its_thoughts(database: Database, tenant_id: UUID) -> None:
    written: list[ThreadStreamEvent] = []
    reply = host.cut(host.chat_thinking(THOUGHTS, "Nine."), after=4)
    async with host.fake_openai(reply) as fake, model_providers(database) as providers:
        await add_provider(database, tenant_id, base_url=fake.url)
        config = parse_config({"name": "Shop", "model": "acme/large", "reasoning": {"show": True}})
        thread = ThreadMetadata(id="thr_1", created_at=clock.now())
        caller = Caller(tenant_id, "usr_1", "agt_1")
        turn = Turn(caller, config, thread, [user_message("What?")], lambda _kind: ids.new_id("itm"))
        assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())

        async def read() -> None:
            async for event in assistant.respond(turn):
                written.append(event)

        with pytest.raises(UpstreamFailed):
            await read()
    assert contents(workflow_of(written)) == ["".join(THOUGHTS[:2])]
    assert len(fake.requests) == 1, "what was thought is not thought twice"


async def test_a_model_that_refuses_to_be_told_how_to_think_answers_all_the_same(
    database: Database, tenant_id: UUID
) -> None:
    refused = host.refusal(
        400, "unsupported_parameter", message="Unsupported parameter: 'reasoning.effort'", param="reasoning.effort"
    )
    events, bodies, _ = await turn_with(
        database, tenant_id, refused, host.responses_text("Nine."), kind="openai", effort="high"
    )
    assert ["reasoning" in body for body in bodies] == [True, False]
    assert any(isinstance(event, ThreadItemDoneEvent) for event in events)


async def test_steps_after_a_thought_send_nothing_that_the_provider_would_have_to_keep(
    database: Database, tenant_id: UUID
) -> None:
    async with (
        host.fake_openai(
            host.responses_calls([("search_knowledge", '{"query": "a"}')]), host.responses_text("Nine.")
        ) as fake,
        model_providers(database, openai_base_url=fake.url) as providers,
    ):
        await add_provider(database, tenant_id, kind="openai")
        config = parse_config({"name": "Shop", "model": "acme/large"})
        thread = ThreadMetadata(id="thr_1", created_at=clock.now())
        turn = Turn(
            Caller(tenant_id, "u", "a"), config, thread, [user_message("What?")], lambda _kind: ids.new_id("itm")
        )
        assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())
        assert [event async for event in assistant.respond(turn)]
        second = fake.body(1)["input"]
    assert [item.get("type") for item in second if "type" in item] == ["function_call", "function_call_output"]
    assert not any("id" in item for item in second)


def test_endless_thoughts_are_bounded_and_so_are_their_updates() -> None:
    events: list[ThreadStreamEvent] = []
    thoughts = ThoughtWriter("thr_1", generate_item_id=lambda _kind: "wfl_1", emit=events.append)
    for _ in range(20_000):
        thoughts.write(0, "four")
    thoughts.finish()
    item = workflow_of(events)
    assert len(contents(item)[0]) == MAX_CHARACTERS
    assert sum(len(event.model_dump_json()) for event in events) < 12 * MAX_CHARACTERS
