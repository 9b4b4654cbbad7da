"""Mails with links in them, and mails about what was done with one."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver, deliver_to_owner
from lms.letters import Letter
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.recovery.documents import MailedLink, Purpose
from lms.settings import Settings
from lms.tokens import mail_token

OLD, NEW = "change_email.old", "change_email.new"
"""What the tokens of the two mails of one change are made for."""


@job("send_verification_email", retry=MAIL_RETRY)
async def send_verification_email(event: Event, context: JobContext) -> None:
    settings = context.settings
    token = mail_token(settings, Purpose.VERIFY_EMAIL, str(event.data["nonce"]))
    link, user = await _still_wanted(Purpose.VERIFY_EMAIL, token, event)
    if link is not None and user is not None:
        address, hours = settings.link(settings.link_verify, token=token), settings.email_link_hours
        letter = letters.verify_email(user.full_name, settings.school_name, address, hours)
        await deliver(letter, link.email, event, context)


@job("send_password_reset_email", retry=MAIL_RETRY)
async def send_password_reset_email(event: Event, context: JobContext) -> None:
    settings = context.settings
    token = mail_token(settings, Purpose.RESET_PASSWORD, str(event.data["nonce"]))
    link, user = await _still_wanted(Purpose.RESET_PASSWORD, token, event)
    if link is not None and user is not None:
        address, minutes = settings.link(settings.link_reset, token=token), settings.reset_link_minutes
        letter = letters.reset_password(user.full_name, settings.school_name, address, minutes)
        await deliver(letter, link.email, event, context)


@job("send_password_changed_email", retry=MAIL_RETRY)
async def send_password_changed_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        return letters.password_changed(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)


@job("send_email_change_approval", retry=MAIL_RETRY)
async def send_email_change_approval(event: Event, context: JobContext) -> None:
    """To the address of now."""
    settings = context.settings
    token = mail_token(settings, OLD, str(event.data["nonce"]))
    link, user = await _still_wanted(Purpose.CHANGE_EMAIL, token, event)
    if link is not None and user is not None:
        address = settings.link(settings.link_change_email, token=token)
        letter = letters.approve_email_change(user.full_name, settings.school_name, link.email, address)
        await deliver(letter, user.email, event, context)


@job("send_email_change_confirmation", retry=MAIL_RETRY)
async def send_email_change_confirmation(event: Event, context: JobContext) -> None:
    """To the new address. Whether somebody has it already is told to nobody else."""
    settings = context.settings
    token = mail_token(settings, NEW, str(event.data["nonce"]))
    link, user = await _still_wanted(Purpose.CHANGE_EMAIL, token, event)
    if link is None or user is None:
        return
    owner = await User.by_email(link.email)
    if owner is None:
        address = settings.link(settings.link_change_email, token=token)
        letter = letters.confirm_email_change(user.full_name, settings.school_name, address)
    else:
        letter = letters.address_in_use(owner.full_name, settings.school_name, settings.links_to)
    await deliver(letter, link.email, event, context)


@job("send_email_changed_email", retry=MAIL_RETRY)
async def send_email_changed_email(event: Event, context: JobContext) -> None:
    def compose(user: User, settings: Settings) -> Letter:
        return letters.email_changed(user.full_name, settings.school_name, settings.links_to)

    await deliver_to_owner(event, context, compose)


async def _still_wanted(purpose: Purpose, token: str, event: Event) -> tuple[MailedLink | None, User | None]:
    """The link unless it was used, replaced or expired before its mail could go out; the person if there is one."""
    link = await MailedLink.unused(purpose, token)
    return link, await User.get(event.subject("user_id")) if link is not None else None
