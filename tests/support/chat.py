"""Threads, items and callers for the chat's tests."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    HiddenContextItem,
    InferenceOptions,
    ThreadMetadata,
    UserMessageItem,
    UserMessageTextContent,
)

from stonechat import clock, ids
from stonechat.identity.caller import Caller


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
