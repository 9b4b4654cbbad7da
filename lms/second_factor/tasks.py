"""Mails that tell people what happened to their second factor."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver
from lms.letters import Letter
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job


@job("send_second_factor_on_email", retry=MAIL_RETRY)
async def send_second_factor_on_email(event: Event, context: JobContext) -> None:
    user = await User.get(event.subject("user_id"))
    if user is not None:
        await _send(letters.second_factor_on(user.full_name, *_school(context)), user, event, context)


@job("send_second_factor_off_email", retry=MAIL_RETRY)
async def send_second_factor_off_email(event: Event, context: JobContext) -> None:
    user = await User.get(event.subject("user_id"))
    if user is not None:
        await _send(letters.second_factor_off(user.full_name, *_school(context)), user, event, context)


@job("send_recovery_code_used_email", retry=MAIL_RETRY)
async def send_recovery_code_used_email(event: Event, context: JobContext) -> None:
    user = await User.get(event.subject("user_id"))
    if user is not None:
        left = int(event.data["left"])
        await _send(letters.recovery_code_used(user.full_name, *_school(context), left), user, event, context)


@job("send_wrong_codes_email", retry=MAIL_RETRY)
async def send_wrong_codes_email(event: Event, context: JobContext) -> None:
    user = await User.get(event.subject("user_id"))
    if user is not None:
        await _send(letters.wrong_codes(user.full_name, *_school(context)), user, event, context)


def _school(context: JobContext) -> tuple[str, str]:
    return context.settings.school_name, context.settings.links_to


async def _send(letter: Letter, user: User, event: Event, context: JobContext) -> None:
    await deliver(letter, user.email, event, context)
