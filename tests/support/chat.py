"""Threads, items and callers for the chat's tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    HiddenContextItem,
    InferenceOptions,
    ThreadAddUserMessageParams,
    ThreadCreateParams,
    ThreadMetadata,
    ThreadsAddUserMessageReq,
    ThreadsCreateReq,
    UserMessageInput,
    UserMessageItem,
    UserMessageTextContent,
)

from stonechat import clock, ids
from stonechat.chat.hub import RunHub
from stonechat.chat.turns import ChatServer
from stonechat.identity.caller import Caller
from support.responders import Scripted


@dataclass
class Chat:
    server: ChatServer
    responder: Scripted

    @property
    def hub(self) -> RunHub:
        return self.server.hub


def caller_of(
    tenant_id: UUID, user_id: str = "usr_anna", *, agent_id: str = "agt_none", origin: str | None = None
) -> Caller:
    return Caller(tenant_id=tenant_id, user_id=user_id, agent_id=agent_id, origin=origin)


def thread(thread_id: str | None = None, *, title: str | None = None) -> ThreadMetadata:
    return ThreadMetadata(id=thread_id or ids.new_id("thr"), title=title, created_at=clock.now())


def user_message(
    thread_id: str, text: str, *, item_id: str | None = None, at: datetime | None = None
) -> UserMessageItem:
    return UserMessageItem(
        id=item_id or ids.new_id("msg"),
        thread_id=thread_id,
        created_at=at or clock.now(),
        content=[UserMessageTextContent(text=text)],
        inference_options=InferenceOptions(),
    )


def assistant_message(thread_id: str, text: str, *, item_id: str | None = None) -> AssistantMessageItem:
    return AssistantMessageItem(
        id=item_id or ids.new_id("msg"),
        thread_id=thread_id,
        created_at=clock.now(),
        content=[AssistantMessageContent(text=text)],
    )


def hidden(thread_id: str, content: object = "secret") -> HiddenContextItem:
    return HiddenContextItem(id=ids.new_id("shcx"), thread_id=thread_id, created_at=clock.now(), content=content)


def create(text: str = "Hello?") -> ThreadsCreateReq:
    return ThreadsCreateReq(params=ThreadCreateParams(input=_input(text)))


def add(thread_id: str, text: str = "And now?") -> ThreadsAddUserMessageReq:
    return ThreadsAddUserMessageReq(params=ThreadAddUserMessageParams(thread_id=thread_id, input=_input(text)))


def _input(text: str) -> UserMessageInput:
    return UserMessageInput(
        content=[UserMessageTextContent(text=text)], attachments=[], inference_options=InferenceOptions()
    )


def decode(stream: bytes) -> list[dict[str, Any]]:
    """The events in a stream's bytes."""
    return [
        json.loads(frame.partition("data: ")[2])
        for frame in stream.decode().split("\n\n")
        if "data: " in frame and not frame.startswith(":")
    ]


def spoken(events: Sequence[Mapping[str, Any]]) -> str:
    """The text that a client shows after these events: deltas, until an item is done or replaced."""
    texts: dict[str, str] = {}
    for event in events:
        item = event.get("item", {})
        if event["type"] == "thread.item.updated" and "delta" in event["update"]:
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["update"]["delta"]
        elif event["type"] in ("thread.item.done", "thread.item.replaced") and item["type"] == "assistant_message":
            texts[item["id"]] = "".join(part["text"] for part in item["content"])
    return "".join(texts.values())
