"""The mail catcher: takes every mail, prints who gets what, and keeps it as a file."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import rich_click as click
from aiosmtpd.smtp import SMTP, Envelope, Session

from lms.clock import utc_now

LINK = re.compile(r"https?://[^\s<>\"]+")
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Catcher:
    """aiosmtpd calls `handle_DATA` for each mail."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        _ = server, session
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        self._count += 1
        now = utc_now()
        # Milliseconds, since the count begins again at every start.
        name = f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03}-{self._count:04}.eml"
        await asyncio.to_thread(self._keep, name, content)
        click.echo(describe(content, envelope.rcpt_tos))
        return "250 Message accepted"

    def _keep(self, name: str, content: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / name).write_bytes(content)


def describe(content: bytes, recipients: list[str]) -> str:
    """One line: recipient, subject, first link. Nothing in it can command the terminal."""
    message = message_from_bytes(content, policy=policy.default)
    link = LINK.search(_text_of(message))
    subject = " ".join(str(message["Subject"] or "").split())
    line = f'mail      {", ".join(recipients)}  "{subject}"  {link.group() if link else ""}'
    return CONTROL.sub("?", line).rstrip()


def _text_of(message: EmailMessage) -> str:
    body = message.get_body(("plain", "html"))
    if body is None:
        return ""
    try:
        return str(body.get_content())
    except (LookupError, ValueError):
        # A character set that nobody knows, or content that is not what its header says.
        payload = body.get_payload(decode=True)
        return payload.decode("ascii", "replace") if isinstance(payload, bytes) else ""


@asynccontextmanager
async def catch_mails(folder: Path) -> AsyncGenerator[int]:
    """An SMTP server on the loopback address; gives its port."""
    loop = asyncio.get_running_loop()
    handler = Catcher(folder)
    server = await loop.create_server(lambda: SMTP(handler, loop=loop, enable_SMTPUTF8=True), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
