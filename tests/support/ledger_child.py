"""A process that answers visitors and is killed at it: `python -m support.ledger_child URL TENANT AGENT MODE`.

Mode `steps`: one run at each step on the way from a question to the ledger. It says on standard output, a line each, the
step and the run that has reached it; a line on standard input lets the run `settling` go on, to settle. Mode `crowd`:
visitors who ask and ask, until it is killed; it says `ready` after the first answer.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from uuid import UUID

from chatkit.types import ThreadStreamEvent, UserMessageItem
from sqlalchemy import text

from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.runs import Run
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from support.chat import caller_of, create
from support.responders import speak

STEPS = ("claimed", "asked", "streaming", "answered", "settling", "settled")
TOKENS_IN, TOKENS_OUT = 100, 40
WORDS = ["one ", "two ", "three ", "four"]


class Stepwise:
    """A `Responder` that stops at the step that the visitor's message names."""

    def __init__(self, database: Database) -> None:
        self.go = asyncio.Event()
        self.runs: dict[str, Run] = {}
        self._database = database

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        message = turn.history[-1]
        assert isinstance(message, UserMessageItem)
        step = message.content[0].text
        if step == "claimed":
            await self._stay(step, turn)
        use = turn.usage.of("openai", "gpt-4.1-mini")
        use.input_tokens, use.unreported = TOKENS_IN, 1
        if step == "asked":
            await self._noted(turn)
            await self._stay(step, turn)
        pending = speak(turn.thread, turn.generate_item_id("message"), WORDS)
        async for event in pending:
            yield event
            if step == "streaming" and "four" in str(event):
                await self._stored(turn)
                await self._stay(step, turn)
        use.output_tokens, use.unreported = TOKENS_OUT, 0
        if step == "answered":
            await self._stay(step, turn)
        if step == "settling":
            print(step, turn.run_id, flush=True)
            await self.go.wait()

    async def _noted(self, turn: Turn) -> None:
        """Until a checkpoint has told of what the model was asked for."""
        uses = text("select uses from runs where run_id = :run")
        while True:
            async with self._database.tenant(turn.caller.tenant_id) as session:
                if await session.scalar(uses, {"run": turn.run_id}):
                    return
            await asyncio.sleep(0.02)

    async def _stored(self, turn: Turn) -> None:
        """Until a checkpoint has stored all that was said so far."""
        while turn.run_id not in self.runs:
            await asyncio.sleep(0.02)
        run = self.runs[turn.run_id]
        said = run.frames.count
        while run.stored < said:
            await asyncio.sleep(0.02)

    async def _stay(self, step: str, turn: Turn) -> None:
        print(step, turn.run_id, flush=True)
        await asyncio.Event().wait()


class Hasty:
    """A `Responder` that answers at a pace of its own."""

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        use = turn.usage.of("openai", "gpt-4.1-mini")
        use.input_tokens, use.unreported = TOKENS_IN, 1

        async def pause(_number: int) -> None:
            await asyncio.sleep(random.random() * 0.1)

        async for event in speak(turn.thread, turn.generate_item_id("message"), WORDS, pause=pause):
            yield event
        use.output_tokens, use.unreported = TOKENS_OUT, 0


async def steps(database: Database, tenant_id: UUID, agent_id: str) -> None:
    responder = Stepwise(database)
    server = ChatServer(RunHub(database), responder)
    for step in STEPS:
        run = await server.start(create(step), caller_of(tenant_id, f"usr_{step}", agent_id=agent_id))
        responder.runs[run.key.run_id] = run
        if step == "settled":
            assert run.task is not None
            await run.task
            print(step, run.key.run_id, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    responder.go.set()
    await asyncio.Event().wait()


async def crowd(database: Database, tenant_id: UUID, agent_id: str) -> None:
    server = ChatServer(RunHub(database), Hasty())

    async def visitor(number: int) -> None:
        while True:
            run = await server.start(create("Hello"), caller_of(tenant_id, f"usr_{number}", agent_id=agent_id))
            assert run.task is not None
            await run.task
            print("ready", flush=True)

    await asyncio.gather(*(visitor(number) for number in range(8)))


async def main(url: str, tenant: str, agent_id: str, mode: str) -> None:
    database = Database(url, pool_size=8)
    await (steps if mode == "steps" else crowd)(database, UUID(tenant), agent_id)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
