"""Signing in and out."""

import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from msgspec import UNSET, UnsetType
from pymongo.errors import DuplicateKeyError

from lms.accounts.attempts import Attempt, Attempts
from lms.accounts.documents import SignIn, User
from lms.accounts.limits import MailLimit
from lms.accounts.people import TRIMMED_EVERY, count_session, end_sessions, hash_new_password, trim_sessions
from lms.accounts.registering import Registering
from lms.accounts.rules import (
    BadCredentials,
    NotVerified,
    Refreshing,
    RefreshRefused,
    SessionNotFound,
    UserNotFound,
    judge_refresh,
    normal_email,
)
from lms.accounts.schemas import CodeAsked, Credentials, Registration, Tokens, UserRead
from lms.audit import Facts, Other, record
from lms.audit.documents import Act
from lms.auth import Caller, SessionVerdicts
from lms.clock import utc_now
from lms.origin import origin
from lms.passwords import Passwords
from lms.second_factor.challenges import ask_for_code
from lms.second_factor.rules import lacks_factor
from lms.settings import Settings
from lms.tokens import KeyRing, RefreshToken, TokenRefused
from lms.transactions import Session, in_transaction

security = structlog.get_logger("lms.security")


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
        self.attempts = Attempts(settings)

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

    async def sign_in(self, data: Credentials) -> Tokens | CodeAsked:
        """Raises `BadCredentials`, after the same work, for an unknown address, a wrong password, a closed account,
        and `TooManyAttempts` for each of them alike.

        Only who knows the password learns by `NotVerified` that the address is to be verified first.
        """
        email = normal_email(data.email)
        async with self.attempts.guard(email) as attempt:
            user = await self._with_password(attempt, email, data.password)
        if self.settings.require_verified and not user.verified:
            raise NotVerified
        if self.passwords.is_outdated(user.password_hash):
            await self._hash_anew(user, data.password)
        return await self.open_or_ask(user, ["pwd"])

    async def _with_password(self, attempt: Attempt, email: str, password: str) -> User:
        user = await User.by_email(email)
        attempt.user_id = user.id if user else None
        matches = await self.passwords.check(password, user.password_hash if user else None)
        if user is None or not matches or not user.active:
            raise BadCredentials
        attempt.succeeded = True
        return user

    async def open_or_ask(
        self, user: User, methods: list[str], *, proved_at: datetime | None | UnsetType = UNSET
    ) -> Tokens | CodeAsked:
        """Go on with a sign-in by `methods` (RFC 8176): who has a second factor is asked for its code first."""
        if user.totp is not None:
            return await ask_for_code(user, methods)
        return await self.open_session(user, methods, proved_at=proved_at)

    async def open_session(
        self,
        user: User,
        methods: list[str],
        before: Callable[[Session], Awaitable[None]] | None = None,
        *,
        proved_at: datetime | None | UnsetType = UNSET,
    ) -> Tokens:
        """Sign a person in who has proved by `methods` who they are: just now, or else at `proved_at`, if ever.

        `before` is done in the same transaction.

        Raises `BadCredentials` where the account was closed or changed since `user` was read.
        """
        now, came_from = utc_now(), origin()
        sign_in = SignIn(
            user_id=user.id,
            password_rev=user.password_rev,
            nonce=secrets.token_urlsafe(16),
            rotated_at=now,
            created_at=now,
            expires_at=self._expiry(now, now),
            methods=methods,
            proved_at=now if proved_at is UNSET else proved_at,
            user_agent=came_from.user_agent,
            address=came_from.address,
        )

        async def write(session: Session) -> list[UUID]:
            if before is not None:
                await before(session)
            made = await count_session(user, session)
            await sign_in.insert(session=session)
            ended = [] if made % TRIMMED_EVERY else await trim_sessions(user.id, session)
            facts = {"session_id": str(sign_in.id), "methods": " ".join(methods)}
            await record(session, Act.SIGNED_IN, actor=user.id, target=user.id, facts=facts)
            return ended

        ended = await in_transaction(write)
        self.forget(ended)
        if ended:
            security.info("oldest_sessions_ended", user_id=str(user.id), sessions=len(ended))
        security.info("signed_in", user_id=str(user.id), session_id=str(sign_in.id), methods=methods)
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
        # The longest life may have been shortened since.
        ends = min(sign_in.expires_at, self._expiry(sign_in.created_at, now))
        if sign_in.ended_at is not None or ends <= now:
            raise RefreshRefused
        user = await User.get(sign_in.user_id)
        # A sign-in that began before a change of password and ended after it has a session of the old one.
        if user is None or not user.active or sign_in.password_rev != user.password_rev:
            raise RefreshRefused
        # Likewise a sign-in that began before the second factor was set up.
        if user.totp is not None and "mfa" not in sign_in.methods:
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
            facts = {"session_id": str(sign_in.id), "presented": presented, "current": sign_in.generation}
            await self._end({"_id": sign_in.id}, sign_in.user_id, Act.REFRESH_REPLAYED, actor="nobody", facts=facts)
            security.warning("refresh_token_replayed", user_id=str(sign_in.user_id), **facts)
            raise RefreshRefused
        expires_at = self._expiry(sign_in.created_at, now)
        rotated = await SignIn.get_pymongo_collection().find_one_and_update(
            {"_id": sign_in.id, "ended_at": None, "generation": presented, "nonce": sign_in.nonce},
            {"$inc": {"generation": 1}, "$set": {"rotated_at": now, "expires_at": expires_at}},
        )
        if rotated is not None:
            sign_in.expires_at = expires_at
            return presented + 1
        current = await SignIn.get(sign_in.id)
        # With another nonce it is a copy of a token that a change of password has made worthless meanwhile.
        if current is None or current.ended_at is not None or current.nonce != sign_in.nonce:
            raise RefreshRefused
        sign_in.expires_at = current.expires_at
        return await self._next_generation(current, presented, now)

    async def sign_out(self, caller: Caller) -> None:
        mine = {"_id": caller.session_id, "user_id": caller.id}
        await self._end(mine, caller.id, Act.SIGNED_OUT, facts={"session_id": str(caller.session_id)})

    async def sign_out_by(self, text: str) -> None:
        """End the session of a genuine refresh token, of whatever generation; any other has none to end."""
        try:
            token = RefreshToken.parse(text)
        except TokenRefused:
            return
        sign_in = await SignIn.get(token.family)
        if sign_in is None or not token.is_genuine(self.settings, sign_in.nonce):
            return
        facts = {"session_id": str(sign_in.id)}
        await self._end({"_id": sign_in.id}, sign_in.user_id, Act.SIGNED_OUT, facts=facts)

    async def sign_out_everywhere(self, caller: Caller, *, keep_current: bool) -> None:
        kept = {"_id": {"$ne": caller.session_id}} if keep_current else {}
        await self._end(
            {"user_id": caller.id, **kept}, caller.id, Act.ALL_SIGNED_OUT, facts={"keep_current": keep_current}
        )

    async def end_session(self, caller: Caller, session_id: UUID) -> None:
        """Raises `SessionNotFound` for what is not the caller's, or over already."""
        mine = {"_id": session_id, "user_id": caller.id, "expires_at": {"$gt": utc_now()}}
        if not await self._end(mine, caller.id, Act.SIGNED_OUT, facts={"session_id": str(session_id)}):
            raise SessionNotFound

    async def sign_out_person(self, user_id: UUID, by: UUID) -> None:
        """End all sessions of somebody else. Raises `UserNotFound`."""
        if await User.get(user_id) is None:
            raise UserNotFound
        await self._end({"user_id": user_id}, user_id, Act.ALL_SIGNED_OUT, actor=by)

    async def _end(
        self,
        which: Mapping[str, Any],
        user_id: UUID,
        act: Act,
        *,
        actor: UUID | Other | None = None,
        facts: Facts | None = None,
    ) -> list[UUID]:
        async def write(session: Session) -> list[UUID]:
            ended = await end_sessions(which, session)
            if ended:
                await record(session, act, actor=actor or user_id, target=user_id, facts=facts)
            return ended

        ended = await in_transaction(write)
        self.forget(ended)
        # A replay has a line of its own, with what was presented.
        for session_id in ended if act is not Act.REFRESH_REPLAYED else ():
            security.info("session_ended", user_id=str(user_id), session_id=str(session_id), act=act.value)
        return ended

    def forget(self, session_ids: Sequence[UUID]) -> None:
        """What is known of these sessions is out of date."""
        if session_ids:
            self.verdicts.forget(*session_ids)

    def _expiry(self, begun: datetime, now: datetime) -> datetime:
        """Each use prolongs a session, up to its longest life."""
        longest = begun + timedelta(days=self.settings.session_days)
        return min(now + timedelta(days=self.settings.refresh_token_days), longest)

    def tokens(self, user: User, sign_in: SignIn, now: datetime) -> Tokens:
        """A fresh access token, and the refresh token of the session's generation."""
        refresh_token = RefreshToken.make(self.settings, sign_in.id, sign_in.generation, sign_in.nonce)
        ends = sign_in.expires_at
        rest = max(0, int((ends - now).total_seconds()))
        restricted = lacks_factor(user, self.settings.mfa_required_for)
        identity = user.id, sign_in.id, user.role, user.auth_epoch
        return Tokens(
            access_token=self.keys.issue(*identity, now, ends, restricted=restricted),
            expires_in=min(self.settings.access_token_seconds, rest),
            refresh_token=str(refresh_token),
            refresh_expires_in=rest,
            user=UserRead.of(user),
            second_factor_required=True if restricted else UNSET,
        )


def _parsed(text: str) -> RefreshToken:
    try:
        return RefreshToken.parse(text)
    except TokenRefused:
        raise RefreshRefused from None
