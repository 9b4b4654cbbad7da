"""Sending mail over SMTP."""

from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from urllib.parse import unquote, urlsplit
from uuid import UUID

import aiosmtplib

from lms.clock import utc_now
from lms.settings import Settings

SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
SMTP_SECONDS = 20.0
PERMANENT = range(500, 600)


class MailRefused(Exception):
    """The server did not take the mail. `permanent`: it never will, so no retry helps."""

    def __init__(self, reason: str, *, permanent: bool) -> None:
        super().__init__(reason)
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Attachment:
    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Mail:
    to: str
    subject: str
    text: str
    message_id: str
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()


class Mailer:
    """Delivers mails to the server of `LMS_SMTP_URL`, one connection each. Raises ValueError for a bad address."""

    def __init__(self, settings: Settings) -> None:
        parts = urlsplit(settings.smtp_url)
        if parts.scheme not in SCHEMES or not parts.hostname:
            raise ValueError(
                f"LMS_SMTP_URL: must start with {', '.join(f'{one}://' for one in SCHEMES)} and name a host"
            )
        self._sender = settings.mail_from
        self._host = parts.hostname
        self._port = parts.port or SCHEMES[parts.scheme]
        self._scheme = parts.scheme
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, mail: Mail) -> None:
        """Raises `MailRefused`; OSError and TimeoutError where the server cannot be reached."""
        try:
            await aiosmtplib.send(
                self.compose(mail),
                sender=self._sender,
                recipients=[mail.to],
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._scheme == "smtps",
                start_tls=self._scheme == "smtp+starttls",
                timeout=SMTP_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refusal.code for refusal in error.recipients]
            raise MailRefused(str(error), permanent=all(code in PERMANENT for code in codes)) from error
        except aiosmtplib.SMTPResponseException as error:
            raise MailRefused(f"{error.code} {error.message}", permanent=error.code in PERMANENT) from error

    async def check(self) -> None:
        """Greet the server and sign in, without sending anything. Raises aiosmtplib's errors and OSError."""
        async with aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._scheme == "smtps",
            start_tls=self._scheme == "smtp+starttls",
            timeout=SMTP_SECONDS,
        ) as server:
            await server.noop()

    def compose(self, mail: Mail) -> EmailMessage:
        """The message; line breaks in headers are refused by the email package itself."""
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = mail.to
        message["Subject"] = mail.subject
        message["Date"] = format_datetime(utc_now())
        message["Message-ID"] = mail.message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text)
        if mail.html is not None:
            message.add_alternative(mail.html, subtype="html")
        for attachment in mail.attachments:
            main, _, sub = attachment.media_type.partition("/")
            message.add_attachment(attachment.content, maintype=main, subtype=sub, filename=attachment.name)
        return message


def message_id_for(event_id: UUID, settings: Settings) -> str:
    """The same for every attempt, so that whoever receives a mail twice can tell."""
    host = urlsplit(settings.public_url).hostname or settings.mail_from.partition("@")[2]
    return f"<{event_id}@{host}>"
