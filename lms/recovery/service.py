"""Getting back in, and changing what one signs in with."""

from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import structlog
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import SignIn, User
from lms.accounts.people import change_user, end_sessions, hash_new_password, keep_session, take_over
from lms.accounts.rules import normal_email
from lms.accounts.schemas import Tokens
from lms.accounts.service import Accounts
from lms.audit import record
from lms.audit.documents import Act
from lms.auth import Caller, check_proof
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.folding import search_words
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
)
from lms.tokens import digest_of, mail_token, new_nonce
from lms.transactions import Session, in_transaction, settled

T = TypeVar("T")

security = structlog.get_logger("lms.security")


async def verify_email(accounts: Accounts, caller: Caller | None, token: str) -> None:
    """Raises `LinkRefused`.

    Until now anybody could have signed up with this address and signed in, so that what was begun before ends, except
    the session that brings the link: whoever has both is whom they say. The password stays, or else most people would
    have to choose another one. Without such a session it is doubted: who did not choose it has to reset it to get in,
    or comes by a provider, and then nothing is left of who did.
    """

    async def write(session: Session) -> list[UUID]:
        link = await MailedLink.use(Purpose.VERIFY_EMAIL, token, session)
        if link is None:
            raise LinkRefused
        mine = {"_id": link.user_id, "email": link.email, "active": True}
        doubted: Any = {"$or": [{"$not": "$verified"}, {"$ifNull": ["$password_doubted", False]}]}
        is_own = caller is not None and caller.id == link.user_id
        rev = {"$add": [{"$ifNull": ["$rev", 0]}, 1]}
        values = {"verified": True, "password_doubted": False if is_own else doubted, "rev": rev}
        before = await User.get_pymongo_collection().find_one_and_update(mine, [{"$set": values}], session=session)
        if before is None:
            raise LinkRefused
        await record(session, Act.EMAIL_VERIFIED, actor="nobody", target=link.user_id)
        if before["verified"] and not (is_own and before.get("password_doubted")):
            return []
        kept = {"_id": {"$ne": caller.session_id}} if caller else {}
        return await end_sessions({"user_id": link.user_id, **kept}, session)

    accounts.forget(await in_transaction(write))


async def reset_password(accounts: Accounts, data: PasswordReset) -> None:
    """Set a password by a mailed link, which also proves the address. Every session ends. Raises `LinkRefused`.

    A second factor and API keys stay, but only with somebody who is known to have made them.
    """
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
        facts = {"taken_over": not user.owner_proved}
        await record(session, Act.PASSWORD_RESET, actor="nobody", target=user.id, facts=facts)
        values = {"password_hash": password_hash, "code_tries": None}
        if user.owner_proved:
            await _set_password(user, values, session)
            return await end_sessions({"user_id": user.id}, session)
        _, ended = await take_over(user, values, session)
        await _tell_of_password(user, session)
        return ended

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
        told = {user.id: {"email": email}}
        await record(session, Act.EMAIL_CHANGE_ASKED, actor=user.id, target=user.id, private=told)
        # Two events, since a mail is known by its event's id and these are two mails.
        for job in (send_email_change_approval, send_email_change_confirmation):
            await Event.emit(session, "user.email_change_asked", [job.name], user_id=str(user.id), nonce=nonce)

    await settled(write)


async def confirm_email_change(caller: Caller | None, token: str) -> EmailChangeState:
    """Raises `LinkRefused`, and `AddressTaken` where somebody else has got the address meanwhile.

    Whoever follows a link outside of the account may not be the one who has its password, as in `verify_email`.
    """

    async def write(session: Session) -> EmailChangeState:
        link = await MailedLink.use(Purpose.CHANGE_EMAIL, token, session)
        if link is None:
            raise LinkRefused
        user = await User.find_one({"_id": link.user_id}, session=session)
        check_email_change(link, user)
        if user is None:
            raise LinkRefused
        outside = link.outside or caller is None or caller.id != user.id
        if link.digests:
            stays = MailedLink.get_pymongo_collection()
            await stays.update_one({"_id": link.id}, {"$set": {"outside": outside}}, session=session)
            return EmailChangeState(status="waiting")
        search = search_words(link.email, user.full_name)
        changed = {"email": link.email, "verified": True, "password_doubted": outside, "search": search}
        await change_user(link.user_id, {"$set": changed, "$inc": {"rev": 1}}, session)
        told = {link.user_id: {"email": link.email}}
        await record(session, Act.EMAIL_CHANGED, actor="nobody", target=link.user_id, private=told)
        await Event.emit(session, "user.email_changed", [send_email_changed_email.name], user_id=str(link.user_id))
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
    changed = await change_user(user.id, change, session)
    if is_told:
        await _tell_of_password(user, session)
    return changed


async def _tell_of_password(user: User, session: Session) -> None:
    await Event.emit(session, "user.password_changed", [send_password_changed_email.name], user_id=str(user.id))
