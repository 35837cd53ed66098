"""Mail: written from templates, enqueued with the change that causes it, delivered by the worker."""

from stonechat.mail.compose import compose
from stonechat.mail.message import Mail
from stonechat.mail.queue import MAIL_JOB, PLATFORM_TENANT, job_handlers, send_mail
from stonechat.mail.transports import FolderTransport, MailTransport, SmtpTransport, open_transport

__all__ = [
    "MAIL_JOB",
    "PLATFORM_TENANT",
    "FolderTransport",
    "Mail",
    "MailTransport",
    "SmtpTransport",
    "compose",
    "job_handlers",
    "open_transport",
    "send_mail",
]
