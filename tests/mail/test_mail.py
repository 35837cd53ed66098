"""Mail: written safely, sent with the change that causes it, delivered over SMTP or kept in a bounded folder."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr, ValidationError

from stonechat.db.session import Database
from stonechat.errors import NotFound, UpstreamFailed
from stonechat.mail import FolderTransport, Mail, SmtpTransport, compose, job_handlers, open_transport, send_mail
from stonechat.mail import transports as transports_module
from stonechat.settings import Settings
from support.jobs import jobs_of, running, until
from support.postgres import TestDatabase

MAIL = Mail(to="ada@example.com", subject="Hello", text="Grüße\n", html="<p>Grüße</p>")


@asynccontextmanager
async def smtp_server(received: list[bytes], *, refuse: bool = False) -> AsyncIterator[int]:
    """A server that takes mail, or says no; yields its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            command = line.split(maxsplit=1)[0].upper() if line.strip() else b""
            if command == b"DATA":
                writer.write(b"354 go on\r\n")
                received.append(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(b"250 taken\r\n")
            elif command == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"550 no\r\n" if refuse and command == b"RCPT" else b"250 ok\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_smtp_delivers_both_forms() -> None:
    received: list[bytes] = []
    async with smtp_server(received) as port:
        transport = SmtpTransport(f"smtp://127.0.0.1:{port}", sender="Stonechat <chat@example.org>")
        await transport.send(MAIL)
    message = message_from_bytes(received[0])
    assert (message["To"], message["From"], message["Subject"]) == (
        "ada@example.com",
        "Stonechat <chat@example.org>",
        "Hello",
    )
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/alternative", "text/plain", "text/html"]
    assert "Grüße" in message.get_payload(0).get_payload(decode=True).decode()


async def test_a_refusal_is_an_error_that_is_tried_again() -> None:
    async with smtp_server([], refuse=True) as port:
        with pytest.raises(UpstreamFailed):
            await SmtpTransport(f"smtp://127.0.0.1:{port}", sender="a@example.org").send(MAIL)
    with pytest.raises(UpstreamFailed):
        await SmtpTransport(f"smtp://127.0.0.1:{port}", sender="a@example.org").send(MAIL)


@pytest.mark.parametrize("url", ["http://mail.example", "smtp://", "mail.example:25"])
def test_an_address_that_is_no_mail_server(url: str) -> None:
    with pytest.raises(ValueError, match="STONECHAT_SMTP_URL"):
        SmtpTransport(url, sender="a@example.org")


def test_no_name_can_add_headers() -> None:
    mail = compose("invitation", to="ada@example.com", inviter="Eve\r\nBcc: all@example.com", tenant="<b>Shop</b>",
                   role="an editor", url="https://chat.example/x?token=y", until="1 May 2026")  # fmt: skip
    assert "\n" not in mail.subject
    assert "<b>Shop</b>" not in mail.html
    assert "<b>Shop</b>" in mail.text
    with pytest.raises(ValidationError):
        Mail(to="ada@example.com", subject="x\nBcc: y", text="", html="")


async def test_the_folder_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports_module, "MAX_KEPT", 3)
    folder = FolderTransport(tmp_path / "mail")
    for number in range(5):
        await folder.send(MAIL.model_copy(update={"subject": f"Number {number}"}))
        await asyncio.sleep(0.002)  # ids of one millisecond are in no order
    kept = await folder.list_mails()
    assert [mail.subject for mail in kept] == ["Number 4", "Number 3", "Number 2"]
    assert (await folder.find_mail(kept[0].id)).text == "Grüße\n"
    for path in (tmp_path / "mail").iterdir():
        assert path.stat().st_mode & 0o077 == 0
    for strange in ("../demo", "mail_" + "0" * 26, "", "mail_../../etc/passwd"):
        with pytest.raises(NotFound):
            await folder.find_mail(strange)


def test_a_server_that_is_named_is_used(tmp_path: Path) -> None:
    assert isinstance(open_transport(Settings(data_dir=tmp_path)), FolderTransport)
    named = Settings(data_dir=tmp_path, smtp_url=SecretStr("smtps://user:secret@mail.example"))
    assert isinstance(open_transport(named), SmtpTransport)


async def test_mail_is_sent_if_the_change_is_made(
    database: Database, test_database: TestDatabase, tenant_id: UUID, tmp_path: Path
) -> None:
    folder = FolderTransport(tmp_path)
    before = len(await jobs_of(test_database.admin_url, "mail.send"))

    async def undone() -> None:
        async with database.tenant(tenant_id) as session:
            await send_mail(session, tenant_id, MAIL)
            raise InterruptedError

    async def committed() -> list[str]:
        return [mail.subject for mail in await folder.list_mails() if mail.subject == "Committed"]

    with pytest.raises(InterruptedError):
        await undone()
    assert len(await jobs_of(test_database.admin_url, "mail.send")) == before
    async with database.tenant(tenant_id) as session:
        await send_mail(session, tenant_id, MAIL.model_copy(update={"subject": "Committed"}))
    async with running(test_database.web_url, job_handlers(folder)):
        # Other tests may have left mail of theirs in the queue.
        assert await until(committed)
