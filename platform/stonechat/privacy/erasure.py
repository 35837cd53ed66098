"""A visitor is forgotten: conversations, files, judgements, and who they were.

What remains are figures: the usage ledger counts visitors by a hash that leads back to nobody.
"""

from __future__ import annotations

from sqlalchemy import delete, select, update

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.chat import models
from stonechat.chat.attachment_sweeper import remove_files
from stonechat.chat.hub import RunHub
from stonechat.db.session import Database
from stonechat.events.models import EventRow
from stonechat.files import FileStore
from stonechat.identity.models import User, UserTokenUse
from stonechat.privacy.visitor import Visitor
from stonechat.webhooks.models import WebhookDeliveryRow

AT_ONCE = 200
"""Files whose bytes go before the answer is given; of more, the sweeper removes the rest within minutes."""


async def erase_visitor(
    database: Database, visitor: Visitor, *, hub: RunHub, files: FileStore, by: Actor | None = None
) -> None:
    """Delete all that the tenant keeps of the visitor, whichever of its agents they spoke with. Doing it again is no error.

    Answers being written stop. From the moment this returns nothing of it is found; a session that is still open goes on
    as a stranger's. `by` is who of the tenant asked for it, and is noted in its audit log; none is the visitor.
    """
    tenant_id, user_id = visitor.tenant_id, visitor.user_id
    thread, run, attachment, events = models.Thread, models.RunRow, models.Attachment, models.RunEvents
    mine = (thread.tenant_id == tenant_id, thread.user_id == user_id)
    async with database.tenant(tenant_id, user_id=user_id) as session:
        if by is not None:
            await record_audit(session, by, "user.erase", subject_id=user_id)
        # An answer that another process writes ends when it finds its run gone; this tells it sooner.
        await session.execute(
            update(run)
            .where(run.tenant_id == tenant_id, run.user_id == user_id, run.status == "running")
            .values(cancel_requested=True)
        )
        names = (
            await session.scalars(
                update(attachment)
                .where(attachment.tenant_id == tenant_id, attachment.user_id == user_id)
                .values(deleted_at=clock.now(), content=None)
                .returning(attachment.attachment_id)
            )
        ).all()
        threads = (await session.scalars(delete(thread).where(*mine).returning(thread.thread_id))).all()
        await session.execute(delete(events).where(events.tenant_id == tenant_id, events.user_id == user_id))
        # What was told of them, and what is still to be: their address may stand in it.
        told, happened = WebhookDeliveryRow, EventRow
        await session.execute(delete(told).where(told.tenant_id == tenant_id, told.user_id == user_id))
        await session.execute(
            delete(happened).where(happened.tenant_id == tenant_id, happened.payload["user_id"].astext == user_id)
        )
        browser = await session.scalar(
            select(User.visitor_hash).where(User.tenant_id == tenant_id, User.user_id == user_id)
        )
        if browser is not None:
            await session.execute(
                delete(UserTokenUse).where(UserTokenUse.tenant_id == tenant_id, UserTokenUse.visitor_hash == browser)
            )
        await session.execute(delete(User).where(User.tenant_id == tenant_id, User.user_id == user_id))
    for thread_id in threads:
        hub.forget_thread(tenant_id, thread_id)
    await remove_files(database, files, tenant_id, attachment_ids=names[:AT_ONCE])
