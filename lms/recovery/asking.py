"""Asking for a link by mail, which anybody may do who knows an address."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from lms.accounts.documents import User
from lms.accounts.rules import normal_email
from lms.accounts.service import Accounts
from lms.clock import utc_now
from lms.ids import new_person_id
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.recovery.tasks import send_password_reset_email, send_verification_email
from lms.tokens import digest_of, mail_token, new_nonce
from lms.transactions import Session, settled

T = TypeVar("T")


async def forgot_password(accounts: Accounts, address: str) -> None:
    life = timedelta(minutes=accounts.settings.reset_link_minutes)
    asked = Asked("user.password_forgotten", Purpose.RESET_PASSWORD, send_password_reset_email.name, life)
    await _send_link(accounts, asked, address, {"active": True})


async def ask_to_verify(accounts: Accounts, address: str) -> None:
    life = timedelta(hours=accounts.settings.email_link_hours)
    asked = Asked("user.verification_asked", Purpose.VERIFY_EMAIL, send_verification_email.name, life)
    # Who is signed in can so lift a doubt as well.
    who = {"active": True, "$or": [{"verified": False}, {"password_doubted": True}]}
    await _send_link(accounts, asked, address, who)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks for who gives an address: the event, and the link that its job mails."""

    event: str
    purpose: Purpose
    job: str
    life: timedelta


async def _send_link(accounts: Accounts, asked: Asked, address: str, who: dict[str, Any]) -> None:
    """The same work for known and unknown addresses: the same commands, one event. Past the limit, nothing at all."""
    email = normal_email(address)
    if not await accounts.mail_limit.allows(email):
        return
    nonce = new_nonce()
    digest = digest_of(mail_token(accounts.settings, asked.purpose, nonce))
    expires_at = utc_now() + asked.life

    async def write(session: Session) -> None:
        user = await User.find_one({"email": email, **who}, session=session)
        link = MailedLink(
            id=link_id(asked.purpose, email),
            purpose=asked.purpose,
            digests=[digest],
            user_id=user.id if user else new_person_id(),
            email=email if user else "",
            password_rev=user.password_rev if user else 0,
            expires_at=expires_at,
        )
        await link.put(session)
        await Event.emit(session, asked.event, [asked.job], user_id=str(link.user_id), nonce=nonce)

    await settled(write)
