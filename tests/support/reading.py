"""Documents and conversations for the console's tests, without a worker and without a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    FileSource,
    InferenceOptions,
    ThreadItem,
    URLSource,
    UserMessageItem,
    UserMessageTextContent,
)

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.assistant.agents import create_agent
from stonechat.chat import models
from stonechat.chat.codec import item_json
from stonechat.db.session import Database
from stonechat.identity.models import User
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.service import create_document
from support.knowledge import run_jobs


@dataclass
class Reader:
    """Puts things into a tenant."""

    database: Database
    knowledge: Knowledge
    tenant_id: UUID
    _names: list[str] = field(default_factory=list)

    async def upload(self, data: bytes | str, *, filename: str, url: str | None = None, read: bool = True) -> str:
        """A document's id; `read=False` leaves it waiting."""
        async with self.database.tenant(self.tenant_id) as session:
            document = await create_document(
                session,
                system(self.tenant_id),
                files=self.knowledge.files,
                data=data.encode() if isinstance(data, str) else data,
                filename=filename,
                url=url,
            )
        if read:
            await self.run_jobs()
        return document.document_id

    async def run_jobs(self) -> None:
        """Do what a worker would."""
        await run_jobs(self.knowledge, self.tenant_id)

    async def agent(self, name: str = "Robin") -> str:
        async with self.database.tenant(self.tenant_id) as session:
            made = await create_agent(session, system(self.tenant_id), config={"name": name, "model": "extractive"})
        return made.id

    async def user(self, **values: Any) -> str:
        user_id = ids.new_id("usr")
        async with self.database.tenant(self.tenant_id) as session:
            session.add(User(tenant_id=self.tenant_id, user_id=user_id, attributes={}, **values))
        return user_id

    async def conversation(
        self, *items: ThreadItem, agent_id: str | None = None, user_id: str = "usr_gone", title: str | None = "A talk"
    ) -> str:
        """A conversation with these items; returns its id. Their thread ids do not matter."""
        thread_id = ids.new_id("thr")
        async with self.database.tenant(self.tenant_id, user_id=user_id) as session:
            session.add(
                models.Thread(
                    tenant_id=self.tenant_id,
                    thread_id=thread_id,
                    user_id=user_id,
                    agent_id=agent_id,
                    title=title,
                    created_at=clock.now(),
                )
            )
            await session.flush()
            for item in items:
                session.add(
                    models.ThreadItem(
                        tenant_id=self.tenant_id,
                        thread_id=thread_id,
                        item_id=item.id,
                        user_id=user_id,
                        kind=item.type,
                        data=item_json(item),
                        run_id=self.run_of(item),
                        created_at=item.created_at,
                    )
                )
                await session.flush()  # one by one: their order is the conversation's
        return thread_id

    @staticmethod
    def run_of(item: ThreadItem) -> str | None:
        """Each answer is a run of its own."""
        return None if item.type == "user_message" else f"run_{item.id}"

    async def run(self, thread_id: str, run_id: str, *, status: str, user_id: str = "usr_gone") -> None:
        """Note how a run ended."""
        now = clock.now()
        async with self.database.tenant(self.tenant_id, user_id=user_id) as session:
            session.add(
                models.RunRow(
                    tenant_id=self.tenant_id,
                    run_id=run_id,
                    thread_id=thread_id,
                    user_id=user_id,
                    process_id="test",
                    resumable=False,
                    status=status,
                    lease_expires_at=now,
                    started_at=now,
                )
            )

    async def judge(self, thread_id: str, item_id: str, kind: str, *, user_id: str = "usr_gone") -> None:
        async with self.database.tenant(self.tenant_id, user_id=user_id) as session:
            session.add(
                models.Feedback(
                    tenant_id=self.tenant_id, thread_id=thread_id, item_id=item_id, user_id=user_id, kind=kind
                )
            )


def asked(text: str, *, quoted: str | None = None) -> UserMessageItem:
    return UserMessageItem(
        id=ids.new_id("msg"),
        thread_id="",
        created_at=clock.now(),
        content=[UserMessageTextContent(text=text)],
        quoted_text=quoted,
        inference_options=InferenceOptions(),
    )


def answered(text: str, *sources: URLSource | FileSource) -> AssistantMessageItem:
    notes = [Annotation(source=source, index=len(text)) for source in sources]
    return AssistantMessageItem(
        id=ids.new_id("msg"),
        thread_id="",
        created_at=clock.now(),
        content=[AssistantMessageContent(text=text, annotations=notes)],
    )
