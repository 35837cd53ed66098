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

from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from support.chat import caller_of, create
from support.responders import speak

STEPS = ("claimed", "asked", "streaming", "answered", "settling", "settled")
TOKENS_IN, TOKENS_OUT = 100, 40
WORDS = ["one ", "two ", "three ", "four"]


class Stepwise:
    """A `Responder` that stops at the step that the visitor's message names."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        message = turn.history[-1]
        assert isinstance(message, UserMessageItem)
        step = message.content[0].text
        if step == "claimed":
            await self._stay(step, turn)
        use = turn.usage.of("openai", "gpt-4.1-mini")
        use.input_tokens, use.unreported = TOKENS_IN, 1
        if step == "asked":
            await asyncio.sleep(1.2)  # until a checkpoint has told of it
            await self._stay(step, turn)
        pending = speak(turn.thread, turn.generate_item_id("message"), WORDS)
        async for event in pending:
            yield event
            if step == "streaming" and "four" in str(event):
                await asyncio.sleep(0.4)
                await self._stay(step, turn)
        use.output_tokens, use.unreported = TOKENS_OUT, 0
        if step == "answered":
            await self._stay(step, turn)
        if step == "settling":
            print(step, turn.run_id, flush=True)
            await self.go.wait()

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
    responder = Stepwise()
    server = ChatServer(RunHub(database), responder)
    for step in STEPS:
        run = await server.start(create(step), caller_of(tenant_id, f"usr_{step}", agent_id=agent_id))
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
