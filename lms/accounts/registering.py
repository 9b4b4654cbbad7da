"""Signing up: the same work for new and for known addresses."""

from datetime import timedelta

from pymongo import ReturnDocument

from lms.accounts.documents import User
from lms.accounts.tasks import send_already_registered_email, send_welcome_email
from lms.audit import record
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.settings import Settings
from lms.tokens import digest_of, mail_token, new_nonce
from lms.transactions import Session


class Registering:
    """One sign-up. Without `mailed` its address has had as many mails as anybody may cause."""

    def __init__(self, user: User, settings: Settings, *, mailed: bool) -> None:
        self._user = user
        self._mailed = mailed
        self._nonce = new_nonce()
        self._link = MailedLink(
            id=link_id(Purpose.VERIFY_EMAIL, user.email),
            purpose=Purpose.VERIFY_EMAIL,
            digests=[digest_of(mail_token(settings, Purpose.VERIFY_EMAIL, self._nonce))],
            user_id=user.id,
            email=user.email,
            password_rev=user.password_rev,
            expires_at=utc_now() + timedelta(hours=settings.email_link_hours),
        )

    async def store_or_remind(self, session: Session) -> None:
        """One upsert decides whether the address is new; the mail tells only its owner."""
        user = self._user
        stored = user.model_dump(exclude={"id", "email"})
        found = await User.get_pymongo_collection().find_one_and_update(
            {"email": user.email},
            {"$setOnInsert": {"_id": user.id, **stored}},
            upsert=True,
            projection={"_id": 1},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        user_id = user.id if found is None else found["_id"]
        is_new = user_id == user.id
        # Somebody who signs up twice goes on with the link of the first mail; this one then is nobody's.
        await self._link.put(session, replace=is_new)
        act = Act.REGISTERED if is_new else Act.REGISTERED_AGAIN
        await record(session, act, actor="nobody", target=user_id, private={user_id: {"email": user.email}})
        if is_new:
            job = send_welcome_email.name
            await Event.emit(session, "user.registered", [job], user_id=str(user_id), nonce=self._nonce)
        else:
            muted = {} if self._mailed else {"unmailed": 1}
            job = send_already_registered_email.name
            await Event.emit(session, "user.registered_again", [job], user_id=str(user_id), **muted)
