from typing import Any

import httpx

from lms.accounts.documents import User
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from tests.outbox.build import events
from tests.servers import SmtpSink

SAM = {"email": "sam@school.example", "password": "correct horse battery", "full_name": "Sam Okafor"}


def context_for(settings: Settings, sink: SmtpSink) -> JobContext:
    own = settings.model_copy(update={"smtp_url": sink.url, "app_url": "https://school.example"})
    return JobContext(own, Mailer(own))


async def the_event(kind: str) -> Event:
    (found,) = await Event.find({"kind": kind}).to_list()
    return found


async def sign_up(client: httpx.AsyncClient, **fields: Any) -> None:
    assert (await client.post("/auth/register", json=SAM | fields)).status_code == 202


async def test_who_signs_up_is_welcomed(client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink) -> None:
    await sign_up(client)
    event = await the_event("user.registered")
    assert await run_job("send_welcome_email", event.id, context_for(settings, smtp_sink)) is Outcome.DONE
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == ("sam@school.example", "Welcome to Open School")
    assert mail["Message-ID"] == f"<{event.id}@lms.test>"
    for kind in ("plain", "html"):
        part = mail.get_body((kind,))
        assert part is not None
        assert "Hello Sam Okafor," in part.get_content()
        assert "https://school.example" in part.get_content()
    assert SAM["password"] not in mail.as_string()
    assert await events() == []


async def test_the_owner_of_a_known_address_is_told_under_their_own_name(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    await sign_up(client, full_name="Visit https://evil.example now")
    event = await the_event("user.registered_again")
    job = "send_already_registered_email"
    assert await run_job(job, event.id, context_for(settings, smtp_sink)) is Outcome.DONE
    (mail,) = smtp_sink.messages
    assert (mail["To"], mail["Subject"]) == ("sam@school.example", "You already have an account at Open School")
    part = mail.get_body(("plain",))
    assert part is not None
    assert "Hello Sam Okafor," in part.get_content()
    assert "evil" not in mail.as_string()


async def test_nobody_is_written_to_who_was_erased_meanwhile(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client)
    event = await the_event("user.registered")
    await User.find_all().delete()
    assert await run_job("send_welcome_email", event.id, context_for(settings, smtp_sink)) is Outcome.DONE
    assert smtp_sink.messages == []
    assert await events() == []


async def test_a_name_is_text_in_the_mail_and_never_markup(
    client: httpx.AsyncClient, settings: Settings, smtp_sink: SmtpSink
) -> None:
    await sign_up(client, full_name="<b>Sam & Co")
    event = await the_event("user.registered")
    await run_job("send_welcome_email", event.id, context_for(settings, smtp_sink))
    part = smtp_sink.messages[0].get_body(("html",))
    assert part is not None
    assert "Hello &lt;b&gt;Sam &amp; Co," in part.get_content()
