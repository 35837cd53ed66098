"""The tables of the chat: threads, items, attachments, feedback, runs and their events.

JSON that visitors and models wrote is kept as text in columns of type `json`: what came in goes out unchanged, escaped
NUL characters and properties unknown to this version included.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ColumnElement, ForeignKeyConstraint, Identity, Index, Text, cast, func, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

from stonechat.db.tenancy import TenantRow

Handling = Literal["open", "waiting_for_person", "with_person", "resolved"]
"""Who answers a conversation: the assistant while it is `open` or `resolved`, nobody yet, or a person."""


class JsonText(UserDefinedType[str]):
    """A column of type `json` read and written as its text."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "JSON"

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[str]:
        return cast(column, Text)  # the driver would parse it otherwise


class Thread(TenantRow):
    """A conversation of one user with one agent."""

    __tablename__ = "threads"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "agent_id"], ["agents.tenant_id", "agents.agent_id"], ondelete="SET NULL (agent_id)"
        ),
        Index("threads_user_idx", "tenant_id", "user_id", text("seq desc")),
        Index("threads_seq_idx", "tenant_id", text("seq desc")),
        Index(
            "threads_handling_idx",
            "tenant_id",
            "handling",
            text("seq desc"),
            postgresql_where=text("handling <> 'open'"),
        ),
    )

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    agent_id: Mapped[str | None]
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    title: Mapped[str | None]
    status: Mapped[str] = mapped_column(JsonText, server_default=text("""'{"type": "active"}'"""))
    metadata_json: Mapped[str] = mapped_column("metadata", JsonText, server_default=text("'{}'"))
    allowed_image_domains: Mapped[list[str] | None]
    handling: Mapped[Handling] = mapped_column(Text(), server_default="open")
    """Who answers: see `chat/hand_over.py`."""
    handled_by: Mapped[str | None]
    """The person or API key that took the conversation over last."""
    handling_since: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_at_naive: Mapped[bool] = mapped_column(server_default=text("false"))
    """Saved as a naive local time, as the SDK makes them, and given back as one."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ThreadItem(TenantRow):
    """One item of a thread. `seq` is the order of a conversation: clocks tie, sequences do not."""

    __tablename__ = "thread_items"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "thread_id"], ["threads.tenant_id", "threads.thread_id"], ondelete="CASCADE"
        ),
        Index("thread_items_seq_idx", "tenant_id", "thread_id", "seq"),
    )

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    seq: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    kind: Mapped[str]
    """The protocol's `type` of the item, such as `user_message`."""
    data: Mapped[str] = mapped_column(JsonText)
    run_id: Mapped[str | None]
    """The run that wrote the item; None for what the visitor wrote."""
    written_by: Mapped[str | None]
    """The person or API key that wrote the item; None for visitors and assistants. No client is told."""
    created_at: Mapped[datetime]


class Attachment(TenantRow):
    """What is known of a file that a visitor attached; its bytes are in the file store. Goes with its thread."""

    __tablename__ = "attachments"
    __table_args__ = (
        Index("attachments_bytes_idx", "tenant_id", "bytes"),
        Index("attachments_thread_idx", "tenant_id", "thread_id"),
        Index("attachments_unused_idx", "created_at", postgresql_where=text("thread_id IS NULL")),
        Index("attachments_deleted_idx", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
    )

    attachment_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    thread_id: Mapped[str | None]
    """The conversation that it was sent in; None until it is sent."""
    data: Mapped[str] = mapped_column(JsonText)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    bytes: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """As announced until it is uploaded, then as stored; what the tenant's space is counted by."""
    media_type: Mapped[str | None]
    """Of what is stored, by its content."""
    content: Mapped[str | None] = mapped_column(deferred=True)
    """The beginning of a document's text."""
    characters: Mapped[int] = mapped_column(server_default=text("0"))
    """Of the document's whole text."""
    claimed_until: Mapped[datetime | None]
    """Until then, one upload is under way."""
    uploaded_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """From then on it is not found, and the sweeper removes it."""


class Feedback(TenantRow):
    """A visitor's judgement of one item; the latest counts."""

    __tablename__ = "feedback"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "thread_id", "item_id"],
            ["thread_items.tenant_id", "thread_items.thread_id", "thread_items.item_id"],
            ondelete="CASCADE",
        ),
    )

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    kind: Mapped[str]
    agent_version: Mapped[int | None]
    """The version of the agent that wrote the item."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RunRow(TenantRow):
    """One answer in the making. At most one per thread is `running`; it is dead once its lease has expired."""

    __tablename__ = "runs"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "thread_id"], ["threads.tenant_id", "threads.thread_id"], ondelete="CASCADE"
        ),
        Index(
            "runs_one_per_thread", "tenant_id", "thread_id", unique=True, postgresql_where=text("status = 'running'")
        ),
        Index("runs_lease_idx", "lease_expires_at", postgresql_where=text("status = 'running'")),
        Index("runs_finished_idx", "tenant_id", "finished_at"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    thread_id: Mapped[str]
    user_id: Mapped[str]
    agent_id: Mapped[str | None]
    agent_version: Mapped[int | None]
    process_id: Mapped[str]
    resumable: Mapped[bool]
    status: Mapped[str] = mapped_column(server_default="running")
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    last_seq: Mapped[int] = mapped_column(server_default="0")
    """The number of the newest event: what was stored while running, what there was at all once finished."""
    lease_expires_at: Mapped[datetime]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]
    uses: Mapped[str | None] = mapped_column(JsonText)
    """What was used as of the newest checkpoint that told, as ledger entries: for closing it if its process dies."""
    metered: Mapped[bool] = mapped_column(server_default=text("true"))
    """Whether the tenant had a budget or prices of its own when the run began, so that its end must look."""
    refused: Mapped[str | None]
    """Why no model was asked: `tokens` or `cost`, the tenant's budget that was used up."""


class RunLeft(TenantRow):
    """What a run had used whose thread was deleted while it ran: written by a trigger, settled by the sweeper."""

    __tablename__ = "runs_left"
    __table_args__ = (Index("runs_left_deleted_at_idx", "deleted_at"),)

    run_id: Mapped[str] = mapped_column(primary_key=True)
    uses: Mapped[str] = mapped_column(JsonText)
    """As `RunRow.uses`."""
    last_seq: Mapped[int]
    deleted_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class RunEvents(TenantRow):
    """A batch of a run's events, `first_seq` to `last_seq`, as the bytes that were streamed. Partitioned by month."""

    __tablename__ = "run_events"

    run_id: Mapped[str] = mapped_column(primary_key=True)
    first_seq: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    last_seq: Mapped[int]
    user_id: Mapped[str]
    payload: Mapped[bytes]
