"""Sending: a job in the caller's transaction, and the job's body. Each step is noted in the log of mails."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import ids, metrics
from stonechat.db.session import Database
from stonechat.errors import StonechatError
from stonechat.jobs import Handler, enqueue
from stonechat.mail.log import State, note_mail
from stonechat.mail.message import Mail
from stonechat.mail.transports import MailTransport

MAIL_JOB = "mail.send"
PLATFORM_TENANT = UUID(int=0)
"""Stands for no tenant in the queue: mail about a person rather than about one of their tenants."""
_ID = "mail_id"
"""Beside the mail's own fields in the job: what the log knows it by."""


async def send_mail(session: AsyncSession, tenant_id: UUID, mail: Mail) -> None:
    """Send it once the session's transaction commits. A mail may arrive twice, and never without the change."""
    mail_id = ids.new_id("mail")
    await note_mail(session, _named(tenant_id), mail, mail_id=mail_id, state="queued")
    await enqueue(session, tenant_id, MAIL_JOB, {**mail.model_dump(), _ID: mail_id})


def job_handlers(transport: MailTransport, database: Database | None = None) -> dict[str, Handler]:
    """Handler of `mail.send`, for the worker. Without a database nothing is noted of what became of a mail."""

    async def send(tenant_id: UUID, payload: dict[str, Any]) -> None:
        fields = dict(payload)
        mail_id = fields.pop(_ID, None)
        mail = Mail.model_validate(fields)

        async def note(state: State, problem: str = "") -> None:
            if database is not None and isinstance(mail_id, str):
                async with database.directory() as session:
                    await note_mail(session, _named(tenant_id), mail, mail_id=mail_id, state=state, problem=problem)

        try:
            await transport.send(mail)
        except StonechatError as error:
            metrics.MAILS.of("failed").add()
            await note("failed", str(error))
            raise
        metrics.MAILS.of("sent").add()
        await note("sent")

    return {MAIL_JOB: send}


def _named(tenant_id: UUID) -> UUID | None:
    return None if tenant_id == PLATFORM_TENANT else tenant_id
