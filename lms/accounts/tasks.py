"""Mails that follow a sign-up."""

from collections.abc import Callable

from lms import letters
from lms.accounts.documents import User
from lms.letters import Letter
from lms.mail import Mail, message_id_for
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Retry, job
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from lms.tokens import mail_token

# A mailbox that is full or a server that greylists needs minutes, not seconds.
MAIL_RETRY = Retry(attempts=8, first=60.0, factor=3.0, longest=6 * 3600.0)


@job("send_welcome_email", retry=MAIL_RETRY)
async def send_welcome_email(event: Event, context: JobContext) -> None:
    user = await User.get(event.subject("user_id"))
    if user is not None:
        settings = context.settings
        link = await _verify_link(event, settings)
        letter = letters.welcome(user.full_name, settings.school_name, settings.links_to, link)
        await deliver(letter, user.email, event, context)


async def _verify_link(event: Event, settings: Settings) -> str | None:
    """None where it was replaced or has expired before the mail could go out."""
    token = mail_token(settings, Purpose.VERIFY_EMAIL, str(event.data.get("nonce")))
    link = await MailedLink.unused(Purpose.VERIFY_EMAIL, token)
    return settings.link(settings.link_verify, token=token) if link is not None else None


@job("send_already_registered_email", retry=MAIL_RETRY)
async def send_already_registered_email(event: Event, context: JobContext) -> None:
    if event.data.get("unmailed"):
        # Its owner has had as many mails in the last hour as anybody may cause.
        return

    def compose(user: User, settings: Settings) -> Letter:
        return letters.already_registered(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)


async def deliver_to_owner(event: Event, context: JobContext, compose: Callable[[User, Settings], Letter]) -> None:
    """A letter to the person of the event's `user_id`; nobody is written to who is gone meanwhile."""
    user = await User.get(event.subject("user_id"))
    if user is not None:
        await deliver(compose(user, context.settings), user.email, event, context)


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
