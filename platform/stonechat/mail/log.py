"""What was mailed to whom, when, and whether the mail server took it: the platform's own record, without the text.

Entries are added: one when a mail is asked for, one for each attempt. The application only adds; operators read.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import Index, delete, func, insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock, ids
from stonechat.db.session import Database
from stonechat.db.tenancy import Base
from stonechat.mail.message import Mail

KEPT_FOR = timedelta(days=90)
PURGED_AT_ONCE = 20_000
State = Literal["queued", "sent", "failed"]


class MailLogRow(Base):
    """One step of one mail."""

    __tablename__ = "mail_log"
    __table_args__ = (
        Index("mail_log_mail_id_idx", "mail_id", "entry_id"),
        Index("mail_log_queued_idx", text("entry_id desc"), postgresql_where=text("state = 'queued'")),
    )

    entry_id: Mapped[str] = mapped_column(primary_key=True)
    mail_id: Mapped[str]
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    tenant_id: Mapped[UUID | None]
    """None for mail about a person rather than a tenant."""
    recipient: Mapped[str]
    subject: Mapped[str]
    state: Mapped[str]
    """`queued`, `sent` (the mail server took it), `failed` (it did not; trying again may follow)."""
    problem: Mapped[str] = mapped_column(server_default="")


async def note_mail(
    session: AsyncSession, tenant_id: UUID | None, mail: Mail, *, mail_id: str, state: State, problem: str = ""
) -> None:
    """Add a step, in whatever session of the application; it is kept if the session's transaction is."""
    await session.execute(
        insert(MailLogRow).values(
            entry_id=ids.new_id("mlog"),
            mail_id=mail_id,
            occurred_at=clock.now(),
            tenant_id=tenant_id,
            recipient=mail.to,
            subject=mail.subject,
            state=state,
            problem=problem[:300],
        )
    )


async def purge_mail_log(database: Database) -> None:
    """Forget mails of long ago, a bounded number at a time."""
    old = MailLogRow.occurred_at < clock.now() - KEPT_FOR
    async with database.platform() as session:
        oldest = text(f"select entry_id from mail_log order by entry_id limit {PURGED_AT_ONCE}")  # noqa: S608
        await session.execute(delete(MailLogRow).where(MailLogRow.entry_id.in_(oldest), old))
