"""Sending mail over SMTP."""

import asyncio
import re
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import SplitResult, unquote, urlsplit
from uuid import UUID

import aiosmtplib

from lms.clock import utc_now
from lms.settings import Settings

SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
SMTP_SECONDS = 20.0
PERMANENT = range(500, 600)
ENCODED_WORD = "=?"
"""How RFC 2047 begins what the email package decodes when a header is set, line breaks inside of it too."""
_NOT_FOR_HEADERS = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


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
        parts, port = _parts_of(settings.smtp_url)
        self._sender = settings.mail_from
        self._host = parts.hostname
        self._port = port or SCHEMES[parts.scheme]
        self._scheme = parts.scheme
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, mail: Mail) -> None:
        """Raises `MailRefused`; OSError and TimeoutError where the server cannot be reached."""
        message = self.compose(mail)
        try:
            async with self._connection() as server:
                await _deliver(server, message, self._sender, mail.to)
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refusal.code for refusal in error.recipients]
            raise MailRefused(str(error), permanent=all(code in PERMANENT for code in codes)) from error
        except aiosmtplib.SMTPAuthenticationError as error:
            # What is refused is our password, which can be put right; the mail waits for that.
            raise MailRefused(f"{error.code} {error.message}", permanent=False) from error
        except aiosmtplib.SMTPResponseException as error:
            # Greeting and sender are the operator's to mend; only a refusal of this very mail is final.
            final = isinstance(error, aiosmtplib.SMTPDataError) and error.code in PERMANENT
            raise MailRefused(f"{error.code} {error.message}", permanent=final) from error

    async def check(self) -> None:
        """Greet the server and sign in, without sending anything. Raises aiosmtplib's errors and OSError."""
        async with self._connection() as server:
            await server.noop()

    def _connection(self) -> aiosmtplib.SMTP:
        return aiosmtplib.SMTP(
            hostname=self._host,
            port=self._port,
            username=self._user,
            password=self._password,
            use_tls=self._scheme == "smtps",
            start_tls=self._scheme == "smtp+starttls",
            timeout=SMTP_SECONDS,
        )

    def compose(self, mail: Mail) -> EmailMessage:
        """Raises `MailRefused` for an address that the email package would read as another one, or as several."""
        if parseaddr(mail.to) != ("", mail.to) or ENCODED_WORD in mail.to:
            raise MailRefused("The recipient's address is not one plain address.", permanent=True)
        message = EmailMessage()
        message["From"] = self._sender
        message["To"] = mail.to
        message["Subject"] = _header_text(mail.subject)
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


async def _deliver(server: aiosmtplib.SMTP, message: EmailMessage, sender: str, recipient: str) -> None:
    try:
        await server.send_message(message, sender=sender, recipients=[recipient])
    except asyncio.CancelledError:
        # Else the connection takes leave first, and a server that stalls is waited for in spite of the job's time-out.
        server.close()
        raise


def _parts_of(url: str) -> tuple[SplitResult, int | None]:
    """Raises ValueError, whose text repeats nothing of the address: a part of the password can pass for the port."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("LMS_SMTP_URL: is no address; escape special characters of the password") from None
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError(f"LMS_SMTP_URL: must start with {', '.join(f'{one}://' for one in SCHEMES)} and name a host")
    return parts, port


def _header_text(text: str) -> str:
    """One line, of which nothing is decoded: course titles stand in subjects, and are what somebody typed."""
    return _NOT_FOR_HEADERS.sub(" ", text).strip().replace(ENCODED_WORD, "= ?")


def message_id_for(event_id: UUID, settings: Settings) -> str:
    """The same for every attempt, so that whoever receives a mail twice can tell."""
    host = urlsplit(settings.public_url).hostname or settings.mail_from.partition("@")[2]
    return f"<{event_id}@{host}>"
