"""Making people, changing them, and inviting them."""

import math
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import User
from lms.accounts.people import hash_new_password, store_user, update_person
from lms.accounts.rules import normal_email
from lms.accounts.service import Accounts
from lms.audit import drop_key, keep_key, keep_key_until, record
from lms.audit.documents import Act
from lms.auth import Caller
from lms.clock import utc_now
from lms.ids import new_person_id
from lms.outbox.documents import Event
from lms.profile.service import checked_changes
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import AddressTaken, LinkRefused, link_id
from lms.settings import Settings
from lms.tokens import digest_of, mail_token, new_nonce
from lms.transactions import Session, in_transaction
from lms.users.documents import Invitation
from lms.users.rules import InvitationNotFound, InvitedTooOften, check_changes, counts, name_of
from lms.users.schemas import InvitationAccept, InvitationCreate, PersonCreate, PersonUpdate
from lms.users.tasks import send_account_created_email, send_invitation_email
from lms.web.idempotency import forget_answers
from lms.web.limits import Policy


async def new_person(accounts: Accounts, data: PersonCreate) -> User:
    """Not stored yet. Without a password nobody can know the one they have."""
    if data.password is None:
        password_hash = await accounts.passwords.hash(secrets.token_urlsafe(32))
    else:
        password_hash = await hash_new_password(
            accounts.passwords, data.password, "#/password", data.email, data.full_name
        )
    return User(
        email=normal_email(data.email),
        full_name=data.full_name.strip(),
        role=data.role,
        password_hash=password_hash,
        # Whoever gives somebody a password vouches for the address as well; else the mailed link proves it.
        verified=data.password is not None,
    )


async def create_person(user: User, settings: Settings, by: UUID, session: Session) -> None:
    """Raises `AddressTaken`. An open invitation of the same address is over."""
    await _check_free(user.email, session)
    await store_user(user, by, session)
    await end_invitation(user.email, session)
    if not user.verified:
        nonce = await _put_link(settings, Purpose.RESET_PASSWORD, user.id, user.email, session)
        job = send_account_created_email.name
        await Event.emit(session, "user.created", [job], user_id=str(user.id), nonce=nonce)


async def _put_link(settings: Settings, purpose: Purpose, user_id: UUID, email: str, session: Session) -> str:
    """The nonce of a link that lives as long as an invitation, in the place of the one before."""
    nonce = new_nonce()
    link = MailedLink(
        id=link_id(purpose, email),
        purpose=purpose,
        digests=[digest_of(mail_token(settings, purpose, nonce))],
        user_id=user_id,
        email=email,
        password_rev=0,
        expires_at=utc_now() + timedelta(days=settings.invite_days),
    )
    await link.put(session)
    return nonce


async def end_invitation(email: str, session: Session) -> UUID | None:
    """The id of the open one of this address, of which nothing is left that tells of who was invited."""
    row = await Invitation.get_pymongo_collection().find_one_and_delete({"email": email}, session=session)
    await _forget_link(email, session)
    if row is None:
        return None
    await _forget_invited(row["_id"], session)
    return row["_id"]


async def _forget_invited(invitation_id: UUID, session: Session) -> None:
    await drop_key(invitation_id, session)
    await forget_answers(invitation_id, session)


async def _forget_link(email: str, session: Session) -> None:
    links = MailedLink.get_pymongo_collection()
    await links.delete_one({"_id": link_id(Purpose.INVITATION, email)}, session=session)


async def _check_free(email: str, session: Session) -> None:
    """Administrators may know whose address it is: they could look it up."""
    found = await User.get_pymongo_collection().find_one({"email": email}, {"_id": 1}, session=session)
    if found is not None:
        raise AddressTaken(user_id=str(found["_id"]))


async def change_person(
    accounts: Accounts, caller: Caller, user_id: UUID, data: PersonUpdate, tags: list[str] | None
) -> User:
    """All that is named or nothing of it. Raises what `update_person` does, and `OwnAccess`."""
    changes = await checked_changes(data)
    check_changes(changes, user_id, caller.id)
    changed, ended = await in_transaction(lambda session: update_person(user_id, changes, tags, caller.id, session))
    accounts.forget(ended)
    return changed


async def check_invited_seldom(accounts: Accounts, address: str) -> None:
    """Counted by itself: what strangers ask to be mailed to an address must not hold up an invitation to it."""
    if not await accounts.mail_limit.allows(f"invitation {normal_email(address)}"):
        policy = Policy.of("mail", accounts.settings.rate_mail)
        raise InvitedTooOften(headers={"Retry-After": str(math.ceil(policy.seconds / policy.quota))})


async def invite(data: InvitationCreate, settings: Settings, by: UUID | None, session: Session) -> Invitation:
    """In the place of the one before, whose link is over. `by` is None for an operator. Raises `AddressTaken`."""
    email = normal_email(data.email)
    await _check_free(email, session)
    now = utc_now()
    stored = {
        "full_name": (data.full_name or "").strip(),
        "role": data.role.value,
        "invited_by": by,
        "created_at": now,
        "expires_at": now + timedelta(days=settings.invite_days),
    }
    raw = await Invitation.get_pymongo_collection().find_one_and_update(
        {"email": email},
        {"$set": stored, "$setOnInsert": {"_id": new_person_id()}},
        upsert=True,
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    invitation = Invitation.model_validate(raw)
    nonce = await _put_link(settings, Purpose.INVITATION, invitation.id, email, session)
    # A day longer, so that accepting it at the last moment finds the key.
    await keep_key_until(invitation.id, invitation.expires_at + timedelta(days=1))
    told = {invitation.id: {"email": email}}
    facts = {"role": data.role.value}
    await record(session, Act.USER_INVITED, actor=by or "operator", target=invitation.id, private=told, facts=facts)
    job = send_invitation_email.name
    await Event.emit(session, "user.invited", [job], invitation_id=str(invitation.id), nonce=nonce)
    return invitation


async def withdraw(invitation_id: UUID, caller: Caller) -> None:
    """Raises `InvitationNotFound`."""

    async def write(session: Session) -> None:
        open_one = {"_id": invitation_id, "expires_at": {"$gt": utc_now()}}
        row = await Invitation.get_pymongo_collection().find_one_and_delete(open_one, session=session)
        if row is None:
            raise InvitationNotFound
        await _forget_link(row["email"], session)
        await _forget_invited(invitation_id, session)
        await record(session, Act.INVITATION_WITHDRAWN, actor=caller.id, target=invitation_id)

    await in_transaction(write)


async def accept(accounts: Accounts, data: InvitationAccept) -> User:
    """Make the person. Raises `LinkRefused`, and `AddressTaken` where somebody has got the address meanwhile."""
    link = await MailedLink.unused(Purpose.INVITATION, data.token)
    invited = await Invitation.get(link.user_id) if link is not None else None
    if invited is None:
        raise LinkRefused
    full_name = name_of(data.full_name or "", invited.full_name)
    password_hash = await hash_new_password(accounts.passwords, data.password, "#/password", invited.email, full_name)

    async def write(session: Session) -> User:
        row = await _taken(data.token, session)
        user = User(
            id=row["_id"],
            email=row["email"],
            full_name=full_name,
            role=row["role"],
            password_hash=password_hash,
            verified=True,
        )
        await user.insert(session=session)
        await keep_key(user.id, session)
        by = row["invited_by"]
        facts = {"role": row["role"], "invited_by": str(by) if by else "operator"}
        told = {user.id: {"email": user.email, "full_name": user.full_name}}
        await record(session, Act.INVITATION_ACCEPTED, actor="nobody", target=user.id, private=told, facts=facts)
        return user

    try:
        return await in_transaction(write)
    except DuplicateKeyError:
        raise AddressTaken from None


async def _taken(token: str, session: Session) -> dict[str, Any]:
    """The invitation of a token, both of which are over once this is committed."""
    link = await MailedLink.use(Purpose.INVITATION, token, session)
    if link is None:
        raise LinkRefused
    row = await Invitation.get_pymongo_collection().find_one_and_delete({"_id": link.user_id}, session=session)
    if row is None:
        raise LinkRefused
    inviter = await User.get_pymongo_collection().find_one(
        {"_id": row["invited_by"]}, {"role": 1, "active": 1}, session=session
    )
    if not counts(row, inviter):
        raise LinkRefused
    return row
