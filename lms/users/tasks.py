"""Mails to who was made an account or invited."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.recovery.documents import MailedLink, Purpose
from lms.tokens import mail_token
from lms.users.documents import Invitation


@job("send_account_created_email", retry=MAIL_RETRY)
async def send_account_created_email(event: Event, context: JobContext) -> None:
    """With the link to the first password, unless another one took its place before this could go out."""
    settings = context.settings
    token = mail_token(settings, Purpose.RESET_PASSWORD, str(event.data["nonce"]))
    link = await MailedLink.unused(Purpose.RESET_PASSWORD, token)
    user = await User.get(link.user_id) if link is not None else None
    if link is not None and user is not None:
        address = settings.link(settings.link_reset, token=token)
        letter = letters.account_created(user.full_name, settings.school_name, address, settings.invite_days)
        await deliver(letter, link.email, event, context)


@job("send_invitation_email", retry=MAIL_RETRY)
async def send_invitation_email(event: Event, context: JobContext) -> None:
    """Unless it was withdrawn, accepted or made anew before this could go out."""
    settings = context.settings
    token = mail_token(settings, Purpose.INVITATION, str(event.data["nonce"]))
    link = await MailedLink.unused(Purpose.INVITATION, token)
    invited = await Invitation.get(link.user_id) if link is not None else None
    if invited is not None:
        address, days = settings.link(settings.link_invite, token=token), settings.invite_days
        letter = letters.invitation(invited.full_name, settings.school_name, invited.role.value, address, days)
        await deliver(letter, invited.email, event, context)
