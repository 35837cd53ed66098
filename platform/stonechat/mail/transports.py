"""How mail leaves: over SMTP, or into a folder where a developer reads it."""

from __future__ import annotations

import asyncio
import json
import re
import smtplib
import ssl
from email.utils import parseaddr
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from pydantic import AwareDatetime

from stonechat import clock, ids
from stonechat.errors import NotFound, UpstreamFailed
from stonechat.mail.message import Mail
from stonechat.settings import Settings

SMTP_TIMEOUT_SECONDS = 20
MAX_KEPT = 200
_NAME = re.compile(r"mail_[0-9a-z]{26}")


class MailTransport(Protocol):
    """Anything that can send a mail."""

    async def send(self, mail: Mail) -> None:
        """Raises `UpstreamFailed` when it could not be handed over; trying again is right."""


class SmtpTransport:
    """One connection a mail, in a thread. `smtp://` must offer STARTTLS unless it is this machine; `smtps://` is TLS at once."""

    def __init__(self, url: str, *, sender: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise ValueError("STONECHAT_SMTP_URL looks like smtp://user:password@host:587 or smtps://host:465")
        self._tls = parts.scheme == "smtps"
        self._host, self._port = parts.hostname, parts.port or (465 if self._tls else 587)
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._sender = sender

    async def send(self, mail: Mail) -> None:
        try:
            await asyncio.to_thread(self._send, mail)
        except (smtplib.SMTPException, OSError) as error:
            raise UpstreamFailed("The mail server did not take the mail.") from error

    def _send(self, mail: Mail) -> None:
        message = mail.message(self._sender)
        context = ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(self._host, self._port, timeout=SMTP_TIMEOUT_SECONDS, context=context)
            if self._tls
            else smtplib.SMTP(self._host, self._port, timeout=SMTP_TIMEOUT_SECONDS)
        ) as server:
            if not self._tls:
                server.ehlo()
                if server.has_extn("starttls") or not _is_local(self._host):
                    server.starttls(context=context)
            if self._user:
                server.login(self._user, self._password)
            server.send_message(message, from_addr=parseaddr(self._sender)[1], to_addrs=[mail.to])


class KeptMail(Mail):
    """A mail in the folder."""

    id: str
    written_at: AwareDatetime


class FolderTransport:
    """Mail as JSON files, newest 200, readable by their owner only: links in them open accounts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, mail: Mail) -> None:
        await asyncio.to_thread(self._write, mail)

    def _write(self, mail: Mail) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = KeptMail(**mail.model_dump(), id=ids.new_id("mail"), written_at=clock.now())
        path = self._folder / f"{kept.id}.json"
        partial = path.with_suffix(".partial")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(kept.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
        partial.rename(path)
        for old in self._paths()[MAX_KEPT:]:
            old.unlink(missing_ok=True)

    async def list_mails(self) -> list[KeptMail]:
        """Newest first."""
        return await asyncio.to_thread(lambda: [_read(path) for path in self._paths()])

    async def find_mail(self, mail_id: str) -> KeptMail:
        """Raises `NotFound`."""
        path = self._folder / f"{mail_id}.json"
        if not _NAME.fullmatch(mail_id) or not await asyncio.to_thread(path.is_file):
            raise NotFound("There is no such mail.")
        return await asyncio.to_thread(_read, path)

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("mail_*.json"), reverse=True)


def open_transport(settings: Settings) -> MailTransport:
    """SMTP if a server is named, else the folder."""
    if settings.smtp_url is not None:
        return SmtpTransport(settings.smtp_url.get_secret_value(), sender=settings.mail_from)
    return folder_of(settings)


def folder_of(settings: Settings) -> FolderTransport:
    """The folder that mail is written to where no server is named."""
    return FolderTransport(settings.data_dir / "mail")


def _read(path: Path) -> KeptMail:
    return KeptMail.model_validate_json(path.read_text(encoding="utf-8"))


def _is_local(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", "::1")
