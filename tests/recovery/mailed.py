"""What arrives by mail, run by the worker's own code, and what its links carry."""

import re
from email.message import EmailMessage

from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from lms.tokens import mail_token
from tests.outbox.build import events
from tests.servers import SmtpSink

SCHOOL = "https://school.example"


def context_for(settings: Settings, sink: SmtpSink) -> JobContext:
    own = settings.model_copy(update={"smtp_url": sink.url, "app_url": SCHOOL})
    return JobContext(own, Mailer(own))


async def deliver_all(settings: Settings, sink: SmtpSink) -> None:
    """Run every job that the outbox asks for."""
    context = context_for(settings, sink)
    for event in await events():
        for name in event.todo:
            assert await run_job(name, event.id, context) is Outcome.DONE


def text_of(mail: EmailMessage) -> str:
    part = mail.get_body(("plain",))
    assert part is not None
    return str(part.get_content())


def token_in(mail: EmailMessage) -> str:
    (token,) = re.findall(r"#token=([\w-]{43})\s", text_of(mail))
    return token


async def newest_token(settings: Settings, kind: str, made_for: str) -> str:
    """What the newest event of a kind will mail."""
    events = await Event.find({"kind": kind}).sort("-_id").to_list()
    return mail_token(settings, made_for, str(events[0].data["nonce"]))
