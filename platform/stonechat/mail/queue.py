"""Sending: a job in the caller's transaction, and the job's body."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.jobs import Handler, enqueue
from stonechat.mail.message import Mail
from stonechat.mail.transports import MailTransport

MAIL_JOB = "mail.send"
PLATFORM_TENANT = UUID(int=0)
"""Stands for no tenant in the queue: mail about a person rather than about one of their tenants."""


async def send_mail(session: AsyncSession, tenant_id: UUID, mail: Mail) -> None:
    """Send it once the session's transaction commits. A mail may arrive twice, and never without the change."""
    await enqueue(session, tenant_id, MAIL_JOB, mail.model_dump())


def job_handlers(transport: MailTransport) -> dict[str, Handler]:
    """Handler of `mail.send`, for the worker."""

    async def send(_tenant_id: UUID, payload: dict[str, Any]) -> None:
        await transport.send(Mail.model_validate(payload))

    return {MAIL_JOB: send}
