"""Mails that follow a sign-in at a provider."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver_to_owner
from lms.letters import Letter
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.settings import Settings


@job("send_provider_welcome_email", retry=MAIL_RETRY)
async def send_provider_welcome_email(event: Event, context: JobContext) -> None:
    """To who signed up by signing in at a provider."""

    def compose(user: User, settings: Settings) -> Letter:
        title = _title_of(event, settings)
        return letters.welcome_from(user.full_name, settings.school_name, title, settings.links_to)

    await deliver_to_owner(event, context, compose)


@job("send_identity_linked_email", retry=MAIL_RETRY)
async def send_identity_linked_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        title, taken_over = _title_of(event, settings), bool(event.data.get("taken_over"))
        school = settings.school_name
        return letters.identity_linked(user.full_name, school, title, settings.links_to, taken_over=taken_over)

    await deliver_to_owner(event, context, compose)


def _title_of(event: Event, settings: Settings) -> str:
    """The provider's title; its name once it is in the settings no more."""
    name = str(event.data["provider"])
    return next((one.title for one in settings.oidc_providers if one.name == name), name)
