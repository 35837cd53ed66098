"""One mail, in plain text and in HTML."""

from __future__ import annotations

from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr

from pydantic import BaseModel, ConfigDict, Field

from stonechat import clock


class Mail(BaseModel):
    """What is sent to one person. Both forms say the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    to: str = Field(max_length=254)
    subject: str = Field(min_length=1, max_length=200, pattern=r"\A[^\r\n\x00]+\z")
    text: str = Field(max_length=20_000)
    html: str = Field(max_length=30_000)

    def message(self, sender: str) -> EmailMessage:
        """The mail as it goes over the wire. `sender` is `Name <address>`."""
        name, address = parseaddr(sender)
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(name, addr_spec=address)
        message["To"] = Address(addr_spec=self.to)
        message["Subject"] = self.subject
        message["Date"] = format_datetime(clock.now())
        message["Message-ID"] = make_msgid(domain=address.rpartition("@")[2] or "localhost")
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(self.text)
        message.add_alternative(self.html, subtype="html")
        return message
