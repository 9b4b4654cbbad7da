"""Getting back in, and changing what one signs in with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import SignIn, User
from lms.accounts.people import end_sessions, hash_new_password, keep_session
from lms.accounts.rules import normal_email
from lms.accounts.schemas import Tokens
from lms.accounts.service import Accounts
from lms.audit import record
from lms.audit.documents import Act
from lms.auth import Caller, check_proof
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.folding import search_words
from lms.ids import new_person_id
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import (
    AddressTaken,
    LinkRefused,
    NoPassword,
    SameAddress,
    WrongPassword,
    check_email_change,
    check_reset,
    link_id,
)
from lms.recovery.schemas import EmailChange, EmailChangeState, PasswordChange, PasswordReset
from lms.recovery.tasks import (
    NEW,
    OLD,
    send_email_change_approval,
    send_email_change_confirmation,
    send_email_changed_email,
    send_password_changed_email,
    send_password_reset_email,
    send_verification_email,
)
from lms.tokens import digest_of, mail_token, new_nonce
from lms.transactions import Session, in_transaction

T = TypeVar("T")

security = structlog.get_logger("lms.security")


async def forgot_password(accounts: Accounts, address: str) -> None:
    life = timedelta(minutes=accounts.settings.reset_link_minutes)
    asked = Asked("user.password_forgotten", Purpose.RESET_PASSWORD, send_password_reset_email.name, life)
    await _send_link(accounts, asked, address, {"active": True})


async def ask_to_verify(accounts: Accounts, address: str) -> None:
    life = timedelta(hours=accounts.settings.email_link_hours)
    asked = Asked("user.verification_asked", Purpose.VERIFY_EMAIL, send_verification_email.name, life)
    await _send_link(accounts, asked, address, {"active": True, "verified": False})


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

    await _settled(write)


async def verify_email(accounts: Accounts, caller: Caller | None, token: str) -> None:
    """Raises `LinkRefused`.

    Until now anybody could have signed up with this address and signed in, so that what was begun before ends, except
    the session that brings the link: whoever has both is whom they say. The password stays, or else most people would
    have to choose another one. Who did not choose it has to reset it to get in, and then nothing is left of who did.
    """

    async def write(session: Session) -> list[UUID]:
        link = await MailedLink.use(Purpose.VERIFY_EMAIL, token, session)
        if link is None:
            raise LinkRefused
        mine = {"_id": link.user_id, "email": link.email, "active": True}
        verified = {"$set": {"verified": True}, "$inc": {"rev": 1}}
        before = await User.get_pymongo_collection().find_one_and_update(mine, verified, session=session)
        if before is None:
            raise LinkRefused
        await record(session, Act.EMAIL_VERIFIED, actor="nobody", target=link.user_id)
        if before["verified"]:
            return []
        kept = {"_id": {"$ne": caller.session_id}} if caller else {}
        return await end_sessions({"user_id": link.user_id, **kept}, session)

    accounts.forget(await in_transaction(write))


async def reset_password(accounts: Accounts, data: PasswordReset) -> None:
    """Set a password by a mailed link, which also proves the address. Every session ends. Raises `LinkRefused`."""
    link = await MailedLink.unused(Purpose.RESET_PASSWORD, data.token)
    owner = await User.get(link.user_id) if link else None
    check_reset(link, owner)
    if owner is None:
        raise LinkRefused
    password_hash = await hash_new_password(
        accounts.passwords, data.password, "#/password", owner.email, owner.full_name
    )

    async def write(session: Session) -> list[UUID]:
        used = await MailedLink.use(Purpose.RESET_PASSWORD, data.token, session)
        user = await User.find_one({"_id": used.user_id}, session=session) if used else None
        check_reset(used, user)
        if user is None:
            raise LinkRefused
        await _set_password(user, {"password_hash": password_hash, "verified": True}, session)
        await record(session, Act.PASSWORD_RESET, actor="nobody", target=user.id)
        return await end_sessions({"user_id": user.id}, session)

    accounts.forget(await in_transaction(write))
    security.info("password_reset", user_id=str(owner.id))
    await accounts.attempts.welcome(owner.email)


async def change_password(accounts: Accounts, caller: Caller, data: PasswordChange) -> Tokens:
    """Every other session ends, and so do the access tokens of this one: it goes on with the one in the answer."""
    user = await _confirmed_by_all_factors(accounts, caller, data.current_password)
    password_hash = await hash_new_password(
        accounts.passwords, data.new_password, "#/new_password", user.email, user.full_name
    )

    # Anybody can sign up a stranger's address; its owner is told of changes, but not flooded with them.
    is_told = user.verified or await accounts.mail_limit.allows(user.email)

    async def write(session: Session) -> tuple[User, SignIn, list[UUID]]:
        current = await User.find_one({"_id": user.id, "active": True}, session=session)
        if current is None or current.password_rev != user.password_rev:
            # Somebody else was faster, and the password that was given is no longer the current one.
            raise WrongPassword
        changed = await _set_password(current, {"password_hash": password_hash}, session, is_told=is_told)
        kept = await keep_session(caller, {"password_rev": changed.password_rev}, session)
        await record(session, Act.PASSWORD_CHANGED, actor=caller.id, target=caller.id)
        return changed, kept, await end_sessions({"user_id": user.id, "_id": {"$ne": kept.id}}, session)

    changed, kept, ended = await in_transaction(write)
    accounts.forget([*ended, kept.id])
    security.info("password_changed", user_id=str(user.id), session_id=str(kept.id))
    return accounts.tokens(changed, kept, utc_now())


async def change_email(accounts: Accounts, caller: Caller, data: EmailChange) -> None:
    """Mail a link to both addresses. Nothing that an outsider sees depends on whether somebody has the new one."""
    user = await _confirmed_by_all_factors(accounts, caller, data.current_password)
    email = normal_email(data.new_email)
    if email == user.email:
        raise SameAddress
    # By whom it is asked and not by the own address, which strangers can use up by asking for resets.
    if not (await accounts.mail_limit.allows(str(user.id)) and await accounts.mail_limit.allows(email)):
        return
    nonce, settings = new_nonce(), accounts.settings
    link = MailedLink(
        id=link_id(Purpose.CHANGE_EMAIL, user.id),
        purpose=Purpose.CHANGE_EMAIL,
        digests=[digest_of(mail_token(settings, which, nonce)) for which in (OLD, NEW)],
        user_id=user.id,
        email=email,
        password_rev=user.password_rev,
        expires_at=utc_now() + timedelta(hours=settings.email_link_hours),
    )

    async def write(session: Session) -> None:
        await link.put(session)
        await record(
            session, Act.EMAIL_CHANGE_ASKED, actor=user.id, target=user.id, private={user.id: {"email": email}}
        )
        # Two events, since a mail is known by its event's id and these are two mails.
        for job in (send_email_change_approval, send_email_change_confirmation):
            await Event.emit(session, "user.email_change_asked", [job.name], user_id=str(user.id), nonce=nonce)

    await _settled(write)


async def confirm_email_change(token: str) -> EmailChangeState:
    """Raises `LinkRefused`, and `AddressTaken` where somebody else has got the address meanwhile."""

    async def write(session: Session) -> EmailChangeState:
        link = await MailedLink.use(Purpose.CHANGE_EMAIL, token, session)
        if link is None:
            raise LinkRefused
        user = await User.find_one({"_id": link.user_id}, session=session)
        check_email_change(link, user)
        if user is None:
            raise LinkRefused
        if link.digests:
            return EmailChangeState(status="waiting")
        search = search_words(link.email, user.full_name)
        changed = {"email": link.email, "verified": True, "search": search}
        await _change_user(link.user_id, {"$set": changed, "$inc": {"rev": 1}}, session)
        told = {link.user_id: {"email": link.email}}
        await record(session, Act.EMAIL_CHANGED, actor="nobody", target=link.user_id, private=told)
        job = send_email_changed_email.name
        await Event.emit(session, "user.email_changed", [job], user_id=str(link.user_id))
        return EmailChangeState(status="changed")

    try:
        return await in_transaction(write)
    except DuplicateKeyError:
        raise AddressTaken from None


async def confirmed(accounts: Accounts, caller: Caller, password: str) -> User:
    """The caller, who knows the password. Raises 401 where there is none, and else what `check_password` does."""
    user = await User.get(caller.id)
    if user is None:
        raise Unauthenticated
    await check_password(accounts, user, password)
    return user


async def check_password(accounts: Accounts, user: User, password: str) -> None:
    """Raises `WrongPassword`, `NoPassword`, and `TooManyAttempts`: a stolen access token must not make guessing any
    easier than at the door.
    """
    if not user.password_hash:
        raise NoPassword
    async with accounts.attempts.guard(user.email) as attempt:
        attempt.user_id = user.id
        if not await accounts.passwords.check(password, user.password_hash):
            raise WrongPassword
        attempt.succeeded = True


async def _confirmed_by_all_factors(accounts: Accounts, caller: Caller, password: str) -> User:
    """As `confirmed`; who has a second factor must have given it recently. Raises `ProofTooOld` as well."""
    user = await confirmed(accounts, caller, password)
    if user.totp is not None:
        await check_proof(caller, timedelta(minutes=accounts.settings.proof_minutes))
    return user


async def _set_password(user: User, values: dict[str, Any], session: Session, *, is_told: bool = True) -> User:
    """Ends whatever was made under the password before, and tells its owner by mail."""
    change = {"$set": values, "$inc": {"password_rev": 1, "auth_epoch": 1, "rev": 1}}
    changed = await _change_user(user.id, change, session)
    if is_told:
        job = send_password_changed_email.name
        await Event.emit(session, "user.password_changed", [job], user_id=str(user.id))
    return changed


async def _change_user(user_id: UUID, change: dict[str, Any], session: Session) -> User:
    raw = await User.get_pymongo_collection().find_one_and_update(
        {"_id": user_id}, change, return_document=ReturnDocument.AFTER, session=session
    )
    return User.model_validate(raw)


async def _settled(write: Callable[[Session], Awaitable[T]]) -> T:
    try:
        return await in_transaction(write)
    except DuplicateKeyError:
        # Two first ones for one address met; the row of the other one is there now.
        return await in_transaction(write)
