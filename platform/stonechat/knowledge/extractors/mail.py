"""E-mails (EML): subject, who wrote when, and the text; quoted replies and signatures of the body stay."""

from __future__ import annotations

import email
from email.policy import default

from stonechat.errors import DocumentUnreadable
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder
from stonechat.knowledge.extractors.html import extract_html
from stonechat.knowledge.extractors.markdown import add_markdown

_SHOWN = ("From", "To", "Date")


def extract_eml(data: bytes) -> Extracted:
    """One message. Attachments are named; they are not read."""
    out = TextBuilder()
    try:
        message = email.message_from_bytes(data, policy=default)
        subject = str(message["Subject"] or "").strip()
        headers = [f"{name}: {message[name]}" for name in _SHOWN if message[name]]
        body = message.get_body(("plain", "html"))
        text = str(body.get_content()) if body is not None else ""
        attached = [name for part in message.iter_attachments() if (name := part.get_filename())]
    except (LookupError, ValueError, AttributeError, TypeError):
        raise DocumentUnreadable("This mail is damaged and cannot be read.") from None
    out.title = subject or None
    out.add("heading", subject, level=1)
    out.add("paragraph", "\n".join(headers))
    if body is not None and body.get_content_subtype() == "html":
        text = extract_html(text.encode()).text
    add_markdown(out, text[:MAX_CHARACTERS], deeper=1)
    if attached:
        out.add("paragraph", "Attached: " + ", ".join(attached[:20]))
    return out.build()
