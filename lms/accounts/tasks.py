"""Mails that follow a sign-up."""

from collections.abc import Callable

from lms import letters
from lms.accounts.documents import User
from lms.letters import Letter
from lms.mail import Mail, message_id_for
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Retry, job

# A mailbox that is full or a server that greylists needs minutes, not seconds.
MAIL_RETRY = Retry(attempts=8, first=60.0, factor=3.0, longest=6 * 3600.0)


@job("send_welcome_email", retry=MAIL_RETRY)
async def send_welcome_email(event: Event, context: JobContext) -> None:
    await _send(event, context, letters.welcome)


@job("send_already_registered_email", retry=MAIL_RETRY)
async def send_already_registered_email(event: Event, context: JobContext) -> None:
    if event.data.get("unmailed"):
        # Its owner has had as many mails in the last hour as anybody may cause.
        return
    await _send(event, context, letters.already_registered)


async def _send(event: Event, context: JobContext, write: Callable[[str, str, str], Letter]) -> None:
    user = await User.get(event.subject("user_id"))
    if user is None:
        # Erased meanwhile; there is nobody to write to.
        return
    await deliver(
        write(user.full_name, context.settings.school_name, context.settings.links_to), user.email, event, context
    )


async def deliver(letter: Letter, to: str, event: Event, context: JobContext) -> None:
    """One mail for an event, by whose id it is known."""
    await context.mailer.send(
        Mail(
            to=to,
            subject=letter.subject,
            text=letter.as_text(),
            html=letter.as_html(),
            message_id=message_id_for(event.id, context.settings),
        )
    )
