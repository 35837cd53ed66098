"""Where a domain key was last seen at work, so that its owner knows whether the snippet is in place."""

from __future__ import annotations

import logging
from collections import OrderedDict
from datetime import datetime, timedelta

from sqlalchemy import or_, update
from sqlalchemy.exc import SQLAlchemyError

from stonechat import clock
from stonechat.db.session import Database
from stonechat.identity.lookup import SiteKey
from stonechat.identity.models import DomainKey

NOTED_EVERY = timedelta(minutes=1)
MAX_REMEMBERED = 10_000

_log = logging.getLogger(__name__)


class Installs:
    """Notes each domain key's last sight, at most once a minute for each key. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: OrderedDict[str, datetime] = OrderedDict()

    async def note_seen(self, key: SiteKey, *, origin: str | None) -> None:
        """Record that a page showed the chat. `origin` is the page's, where known. Never fails: nobody waits for it."""
        now = clock.now()
        noted = self._noted.get(key.domain_key_id)
        if noted is not None and noted > now - NOTED_EVERY:
            return
        self._noted[key.domain_key_id] = now
        self._noted.move_to_end(key.domain_key_id)
        while len(self._noted) > MAX_REMEMBERED:
            self._noted.popitem(last=False)
        values = {"last_seen_at": now} | ({"last_seen_origin": origin} if origin is not None else {})
        try:
            async with self._database.tenant(key.tenant_id) as session:
                await session.execute(
                    update(DomainKey)
                    .where(
                        DomainKey.tenant_id == key.tenant_id,
                        DomainKey.domain_key_id == key.domain_key_id,
                        or_(DomainKey.last_seen_at.is_(None), DomainKey.last_seen_at < now - NOTED_EVERY),
                    )
                    .values(**values)
                )
        except (SQLAlchemyError, OSError, TimeoutError):
            _log.warning("A domain key's last sight was not recorded.", exc_info=True)
