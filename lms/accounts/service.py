"""Signing up, in and out."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.limits import MailLimit
from lms.accounts.rules import (
    BadCredentials,
    EmailTaken,
    NotVerified,
    Refreshing,
    RefreshRefused,
    SessionNotFound,
    check_new_password,
    judge_refresh,
    normal_email,
)
from lms.accounts.schemas import Credentials, Registration, Tokens, UserRead
from lms.accounts.tasks import send_already_registered_email, send_welcome_email
from lms.auth import Caller, SessionVerdicts
from lms.clock import utc_now
from lms.outbox.documents import Event
from lms.passwords import Passwords
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.settings import Settings
from lms.tokens import KeyRing, RefreshToken, TokenRefused, digest_of, mail_token, new_nonce
from lms.transactions import Session, in_transaction

MAX_USER_AGENT = 300

security = structlog.get_logger("lms.security")


async def hash_new_password(passwords: Passwords, password: str, pointer: str, email: str, full_name: str) -> str:
    """The hash of a password that somebody chose. Raises 422 at `pointer` where it will not do."""
    check_new_password(password, email, full_name, common=await passwords.is_common(password), pointer=pointer)
    return await passwords.hash(password)


async def create_user(user: User) -> None:
    """Store a person made by an operator. Raises `EmailTaken`."""
    try:
        await user.insert()
    except DuplicateKeyError:
        raise EmailTaken(user.email) from None


async def change_role(user_id: UUID, role: Role) -> bool:
    """Give a person another role and end every access token issued under the one before."""
    change = {"$set": {"role": role}, "$inc": {"auth_epoch": 1, "rev": 1}}
    result = await User.get_pymongo_collection().update_one({"_id": user_id, "role": {"$ne": role}}, change)
    return result.modified_count == 1


async def set_active(user_id: UUID, *, active: bool) -> bool:
    """Let a person in or keep them out; either way no earlier token counts, and whoever comes back signs in anew."""
    change = {"$set": {"active": active}, "$inc": {"auth_epoch": 1}}

    async def write(session: Session) -> bool:
        wanted = {"_id": user_id, "active": {"$ne": active}}
        result = await User.get_pymongo_collection().update_one(wanted, change, session=session)
        if result.modified_count and not active:
            await end_sessions({"user_id": user_id}, session)
        return result.modified_count == 1

    return await in_transaction(write)


async def end_sessions(which: Mapping[str, Any], session: Session | None = None) -> list[UUID]:
    """End those that still stand; returns them, for `Accounts.forget` once that is committed."""
    live, sessions = {**which, "ended_at": None}, SignIn.get_pymongo_collection()
    found = await sessions.find(live, {"_id": 1}, session=session).to_list(1000)
    await sessions.update_many(live, {"$set": {"ended_at": utc_now()}}, session=session)
    return [row["_id"] for row in found]


class Accounts:
    """The accounts of one process: keys, password threads and session verdicts belong together here."""

    def __init__(
        self,
        settings: Settings,
        passwords: Passwords,
        keys: KeyRing,
        verdicts: SessionVerdicts,
        mail_limit: MailLimit,
    ) -> None:
        self.settings = settings
        self.passwords = passwords
        self.keys = keys
        self.verdicts = verdicts
        self.mail_limit = mail_limit

    async def register(self, data: Registration) -> None:
        """The same work for new and for known addresses: one bcrypt, the same commands, one mail by the outbox."""
        user = User(
            email=normal_email(data.email),
            full_name=data.full_name.strip(),
            password_hash=await hash_new_password(
                self.passwords, data.password, "#/password", data.email, data.full_name
            ),
        )
        registration = Registering(user, self.settings, mailed=await self.mail_limit.allows(user.email))
        try:
            await in_transaction(registration.store_or_remind)
        except DuplicateKeyError:
            # Two sign-ups of one new address met; the other one is committed now.
            await in_transaction(registration.store_or_remind)

    async def sign_in(self, data: Credentials, user_agent: str, address: str) -> Tokens:
        """Raises `BadCredentials`, after the same work, for an unknown address, a wrong password, a closed account.

        Only who knows the password learns by `NotVerified` that the address is to be verified first.
        """
        user = await User.by_email(normal_email(data.email))
        matches = await self.passwords.check(data.password, user.password_hash if user else None)
        if user is None or not matches or not user.active:
            raise BadCredentials
        if self.settings.require_verified and not user.verified:
            raise NotVerified
        if self.passwords.is_outdated(user.password_hash):
            await self._hash_anew(user, data.password)
        now = utc_now()
        sign_in = SignIn(
            user_id=user.id,
            password_rev=user.password_rev,
            nonce=secrets.token_urlsafe(16),
            rotated_at=now,
            expires_at=self._expiry(now),
            user_agent=user_agent[:MAX_USER_AGENT],
            address=address,
        )
        await sign_in.insert()
        return self.tokens(user, sign_in, now)

    async def _hash_anew(self, user: User, password: str) -> None:
        """At the cost of now, unless the password was changed meanwhile."""
        unchanged = {"_id": user.id, "password_hash": user.password_hash}
        change = {"$set": {"password_hash": await self.passwords.hash(password)}}
        await User.get_pymongo_collection().update_one(unchanged, change)

    async def refresh(self, text: str) -> Tokens:
        """A fresh access token and the successor of the refresh token. Raises `RefreshRefused`."""
        token = _parsed(text)
        sign_in = await SignIn.get(token.family)
        now = utc_now()
        if sign_in is None or not token.is_genuine(self.settings, sign_in.nonce):
            raise RefreshRefused
        if sign_in.ended_at is not None or sign_in.expires_at <= now:
            raise RefreshRefused
        user = await User.get(sign_in.user_id)
        # A sign-in that began before a change of password and ended after it has a session of the old one.
        if user is None or not user.active or sign_in.password_rev != user.password_rev:
            raise RefreshRefused
        sign_in.generation = await self._next_generation(sign_in, token.generation, now)
        return self.tokens(user, sign_in, now)

    async def _next_generation(self, sign_in: SignIn, presented: int, now: datetime) -> int:
        """Rotate by one conditional update; whoever loses the race gets the winner's successor in the grace time."""
        grace = timedelta(seconds=self.settings.refresh_grace_seconds)
        verdict = judge_refresh(presented, sign_in.generation, sign_in.rotated_at, now, grace)
        if verdict is Refreshing.REPEAT:
            return sign_in.generation
        if verdict is Refreshing.END_FAMILY:
            await self._end({"_id": sign_in.id})
            ids = {"user_id": str(sign_in.user_id), "session_id": str(sign_in.id)}
            security.warning("refresh_token_replayed", **ids, presented=presented, current=sign_in.generation)
            raise RefreshRefused
        rotated = await SignIn.get_pymongo_collection().find_one_and_update(
            {"_id": sign_in.id, "ended_at": None, "generation": presented},
            {"$inc": {"generation": 1}, "$set": {"rotated_at": now, "expires_at": self._expiry(now)}},
        )
        if rotated is not None:
            return presented + 1
        current = await SignIn.get(sign_in.id)
        if current is None or current.ended_at is not None:
            raise RefreshRefused
        return await self._next_generation(current, presented, now)

    async def sign_out(self, caller: Caller) -> None:
        await self._end({"_id": caller.session_id, "user_id": caller.id})

    async def sign_out_everywhere(self, caller: Caller, *, keep_current: bool) -> None:
        kept = {"_id": {"$ne": caller.session_id}} if keep_current else {}
        await self._end({"user_id": caller.id, **kept})

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """Raises `SessionNotFound` for what is not the caller's, or over already."""
        mine = {"_id": session_id, "user_id": caller.id, "expires_at": {"$gt": utc_now()}}
        if not await self._end(mine):
            raise SessionNotFound

    async def _end(self, which: Mapping[str, Any]) -> list[UUID]:
        ended = await end_sessions(which)
        self.forget(ended)
        return ended

    def forget(self, session_ids: Sequence[UUID]) -> None:
        """What is known of these sessions is out of date."""
        if session_ids:
            self.verdicts.forget(*session_ids)

    def _expiry(self, now: datetime) -> datetime:
        return now + timedelta(days=self.settings.refresh_token_days)

    def tokens(self, user: User, sign_in: SignIn, now: datetime) -> Tokens:
        """A fresh access token, and the refresh token of the session's generation."""
        refresh_token = RefreshToken.make(self.settings, sign_in.id, sign_in.generation, sign_in.nonce)
        return Tokens(
            access_token=self.keys.issue(user.id, sign_in.id, user.role, user.auth_epoch, now),
            expires_in=self.settings.access_token_seconds,
            refresh_token=str(refresh_token),
            user=UserRead.of(user),
        )


def _parsed(text: str) -> RefreshToken:
    try:
        return RefreshToken.parse(text)
    except TokenRefused:
        raise RefreshRefused from None


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
        if is_new:
            job = send_welcome_email.name
            await Event.emit(session, "user.registered", [job], user_id=str(user_id), nonce=self._nonce)
        else:
            muted = {} if self._mailed else {"unmailed": 1}
            job = send_already_registered_email.name
            await Event.emit(session, "user.registered_again", [job], user_id=str(user_id), **muted)
