"""The mail that tells of a new key."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver_to_owner
from lms.api_keys.documents import ApiKey
from lms.letters import Letter
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.settings import Settings


@job("send_api_key_created_email", retry=MAIL_RETRY)
async def send_api_key_created_email(event: Event, context: JobContext) -> None:
    key = await ApiKey.get(event.subject("api_key_id"))
    if key is None:
        return

    def compose(user: User, settings: Settings) -> Letter:
        scopes, expires = [*key.scopes], key.expires_at.date()
        return letters.api_key_created(
            user.full_name, settings.school_name, key.name, scopes, expires, settings.links_to
        )

    await deliver_to_owner(event, context, compose)
