"""A question to an agent from those who look after it: the ordinary path of a turn, in a conversation that nobody keeps."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from chatkit.types import (
    AssistantMessageItem,
    FileSource,
    InferenceOptions,
    ThreadCreateParams,
    ThreadsCreateReq,
    URLSource,
    UserMessageInput,
    UserMessageTextContent,
)

from stonechat import ids
from stonechat.assistant.unanswered import why_unanswered
from stonechat.chat.turns import ChatServer
from stonechat.errors import InvalidInput, UpstreamTimedOut
from stonechat.identity.caller import Caller
from stonechat.knowledge.unanswered import Reason

MAX_QUESTION = 4000
SECONDS = 120.0
_ITEMS = 50

Which = Literal["draft", "published"]


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """What an answer cites."""

    title: str
    url: str | None
    section: str | None
    snippet: str | None


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """An agent's answer to one question."""

    text: str
    sources: tuple[AnswerSource, ...]
    """Each once, in the order in which they are cited."""
    unanswered: Reason | None
    """Why the question went unanswered, as far as that can be told; None if it was answered."""
    error: str | None
    """What the turn failed of: a code."""

    @property
    def answered(self) -> bool:
        """Whether the question was answered."""
        return self.unanswered is None and self.error is None


async def ask_agent(
    chat: ChatServer, tenant_id: UUID, *, agent_id: str, question: str, version: Which = "draft"
) -> AgentAnswer:
    """Ask, wait for the end, and forget the conversation. What it used stands in the ledger.

    Raises `InvalidInput`, `AgentNotPublished`, `NotFound`, `TooManyConcurrent` or `UpstreamTimedOut`. That the agent is the
    tenant's is for the caller to check.
    """
    question = question.replace("\x00", "").strip()
    if not question or len(question) > MAX_QUESTION:
        raise InvalidInput(
            f"A question has between 1 and {MAX_QUESTION:,} characters.",
            errors=[{"field": "question", "message": "empty, or too long"}],
        )
    # Without an origin: nobody asked it on a page, so that nobody counts it as a visitor's.
    caller = Caller(tenant_id, ids.new_id("usr"), agent_id, preview=version == "draft")
    words = UserMessageInput(
        content=[UserMessageTextContent(text=question)], attachments=[], inference_options=InferenceOptions()
    )
    run = await chat.start(ThreadsCreateReq(params=ThreadCreateParams(input=words)), caller)
    thread_id = run.key.thread_id
    try:
        async with asyncio.timeout(SECONDS):
            if run.task is not None:
                await asyncio.wait({run.task})
        page = await chat.store.load_visible_items(thread_id, None, _ITEMS, "asc", caller)
    except TimeoutError:
        raise UpstreamTimedOut("The agent did not answer in time.") from None
    finally:
        run.stop("cancelled")
        await asyncio.shield(_forget(chat, caller, thread_id))
    said = [item for item in page.data if isinstance(item, AssistantMessageItem)]
    text = "\n\n".join(part.text for item in said for part in item.content)
    cited = [note.source for item in said for part in item.content for note in part.annotations]
    sources = dict.fromkeys(_source(each) for each in cited if isinstance(each, URLSource | FileSource))
    trace = run.trace
    return AgentAnswer(text, tuple(sources), why_unanswered(trace, said=text, citations=len(cited)), trace.error_code)


async def _forget(chat: ChatServer, caller: Caller, thread_id: str) -> None:
    chat.hub.forget_thread(caller.tenant_id, thread_id)
    await chat.store.delete_thread(thread_id, caller)


def _source(source: URLSource | FileSource) -> AnswerSource:
    url = source.url if isinstance(source, URLSource) else None
    return AnswerSource(source.title, url, source.group, source.description)
