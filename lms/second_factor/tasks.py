"""Mails that tell people what happened to their second factor."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver_to_owner
from lms.letters import Letter
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.settings import Settings


@job("send_second_factor_on_email", retry=MAIL_RETRY)
async def send_second_factor_on_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        return letters.second_factor_on(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)


@job("send_second_factor_off_email", retry=MAIL_RETRY)
async def send_second_factor_off_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        return letters.second_factor_off(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)


@job("send_recovery_code_used_email", retry=MAIL_RETRY)
async def send_recovery_code_used_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        left = int(event.data["left"])
        return letters.recovery_code_used(user.full_name, settings.school_name, settings.links_to, left)

    await deliver_to_owner(event, context, compose)


@job("send_wrong_codes_email", retry=MAIL_RETRY)
async def send_wrong_codes_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        return letters.wrong_codes(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)
