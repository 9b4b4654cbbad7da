"""The mail that tells of a new key."""

from lms import letters
from lms.accounts.documents import User
from lms.accounts.tasks import MAIL_RETRY, deliver
from lms.api_keys.documents import ApiKey
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job


@job("send_api_key_created_email", retry=MAIL_RETRY)
async def send_api_key_created_email(event: Event, context: JobContext) -> None:
    key = await ApiKey.get(event.subject("api_key_id"))
    user = await User.get(event.subject("user_id"))
    if key is not None and user is not None:
        settings = context.settings
        letter = letters.api_key_created(
            user.full_name, settings.school_name, key.name, [*key.scopes], key.expires_at.date(), settings.links_to
        )
        await deliver(letter, user.email, event, context)
