"""Showing a code: to finish a sign-in, and to prove again who one is before something dangerous.

A try is counted before it is judged, on the person and not on an address, so that neither many challenges nor many
processes nor a lost Redis give anybody more of them. Only who knows the password gets as far as to try one.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

import structlog
from pymongo import ReturnDocument

from lms.accounts.documents import SignIn, User
from lms.accounts.schemas import Tokens
from lms.accounts.service import Accounts
from lms.audit import record
from lms.audit.documents import Act
from lms.auth import Caller
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.outbox.documents import Event
from lms.recovery.service import confirmed
from lms.schemas import Moment
from lms.second_factor.codes import matching_step, normal_code, normal_recovery_code
from lms.second_factor.documents import SignInChallenge
from lms.second_factor.rules import (
    LOCKED_FROM,
    TRIES_A_CHALLENGE,
    WAITS,
    ChallengeRefused,
    NoSecondFactor,
    TooManyCodes,
    WrongCode,
    check_one_code,
    counts_for,
)
from lms.second_factor.schemas import Proof, Proved, SignInCode
from lms.second_factor.secrets import unseal
from lms.second_factor.tasks import send_recovery_code_used_email, send_wrong_codes_email
from lms.tokens import digest_of
from lms.transactions import Session, in_transaction

security = structlog.get_logger("lms.security")


@dataclass(frozen=True, slots=True)
class Shown:
    """A right code: what makes it count once (`unused`, `use`), and how it is named among a session's methods."""

    unused: dict[str, Any]
    use: dict[str, Any]
    methods: tuple[str, ...]


async def finish_sign_in(accounts: Accounts, data: SignInCode) -> Tokens:
    """Raises `ChallengeRefused`, `WrongCode` and `TooManyCodes`."""
    check_one_code(data.code, data.recovery_code)
    challenge = await SignInChallenge.standing(data.challenge_token)
    user = await User.get(challenge.user_id) if challenge else None
    if challenge is None or user is None or not counts_for(challenge, user):
        raise ChallengeRefused
    tried = await count_try(user.id)
    if not await challenge.count_try(TRIES_A_CHALLENGE):
        raise ChallengeRefused
    shown = await _judged(accounts, user, data, tried)

    async def finish(session: Session) -> None:
        rows = SignInChallenge.get_pymongo_collection()
        if not (await rows.delete_one({"_id": challenge.id}, session=session)).deleted_count:
            raise ChallengeRefused
        await _use(user, shown, session)

    return await accounts.open_session(user, [*challenge.methods, *shown.methods], before=finish)


async def prove(accounts: Accounts, caller: Caller, data: Proof) -> Proved:
    """Raises `WrongPassword`, `NoPassword`, `WrongCode`, `TooManyCodes`, and `NoSecondFactor` for a code of none."""
    check_one_code(data.code, data.recovery_code, required=False)
    user = await confirmed(accounts, caller, data.password)
    shown: Shown | None = None
    if user.totp is not None:
        check_one_code(data.code, data.recovery_code)
        shown = await _judged(accounts, user, data, await count_try(user.id))
    elif data.code is not None or data.recovery_code is not None:
        raise NoSecondFactor
    now, methods = utc_now(), ["pwd", *(shown.methods if shown else ())]

    async def write(session: Session) -> None:
        if shown is not None:
            await _use(user, shown, session)
        mine = {"_id": caller.session_id, "user_id": caller.id, "ended_at": None}
        change = {"$set": {"proved_at": now}, "$addToSet": {"methods": {"$each": methods}}}
        if not (await SignIn.get_pymongo_collection().update_one(mine, change, session=session)).matched_count:
            raise Unauthenticated
        facts = {"session_id": str(caller.session_id), "methods": " ".join(methods)}
        await record(session, Act.PROVED_AGAIN, actor=caller.id, target=caller.id, facts=facts)

    await in_transaction(write)
    life = timedelta(minutes=accounts.settings.proof_minutes)
    return Proved(proved_at=Moment.of(now), good_until=Moment.of(now + life))


async def count_try(user_id: UUID) -> int:
    """How many there were since the last right code, with this one. Raises `TooManyCodes` while one must wait."""
    now, rows = utc_now(), User.get_pymongo_collection()
    before = {"$ifNull": ["$code_tries.count", 0]}
    waits = [wait * 1000 for wait in WAITS]
    wait = {"$arrayElemAt": [waits, {"$min": [before, len(waits) - 1]}]}
    counted = {"count": {"$add": [before, 1]}, "not_before": {"$add": [now, wait]}}
    raw = await rows.find_one_and_update(
        {"_id": user_id, "$or": [{"code_tries": None}, {"code_tries.not_before": {"$lte": now}}]},
        [{"$set": {"code_tries": counted}}],
        projection={"code_tries": 1},
        return_document=ReturnDocument.AFTER,
    )
    if raw is not None:
        return int(raw["code_tries"]["count"])
    waiting = await rows.find_one({"_id": user_id}, {"code_tries": 1})
    raise TooManyCodes(headers={"Retry-After": str(_seconds_left(waiting, now))})


def _seconds_left(waiting: dict[str, Any] | None, now: datetime) -> int:
    # It may be over, or a right code may have come, since it was found to be on.
    tries = (waiting or {}).get("code_tries")
    return max(1, ceil((tries["not_before"] - now).total_seconds())) if tries else 1


async def _judged(accounts: Accounts, user: User, data: SignInCode | Proof, tried: int) -> Shown:
    shown = _right(accounts, user, data)
    if shown is None:
        if tried >= LOCKED_FROM:
            await _tell(accounts, user, tried)
        raise WrongCode
    return shown


def _right(accounts: Accounts, user: User, data: SignInCode | Proof) -> Shown | None:
    """What the given code is, if it is one of the person's."""
    if user.totp is None:
        return None
    done: dict[str, Any] = {"code_tries": None}
    if data.recovery_code is not None:
        digest = digest_of(normal_recovery_code(data.recovery_code))
        if digest not in user.totp.recovery_codes:
            return None
        use = {"$pull": {"totp.recovery_codes": digest}, "$set": done}
        return Shown({"totp.recovery_codes": digest}, use, ("recovery", "mfa"))
    secret = unseal(accounts.settings, user.totp.secret, user.id)
    if secret is None:
        security.error("second_factor_unreadable", user_id=str(user.id))
        return None
    step = matching_step(secret, normal_code(data.code or ""), utc_now(), after=user.totp.last_step)
    if step is None:
        return None
    return Shown({"totp.last_step": {"$lt": step}}, {"$set": done | {"totp.last_step": step}}, ("otp", "mfa"))


async def _use(user: User, shown: Shown, session: Session) -> None:
    """Once is once: of many who show one code at the same time the first one's is the right one."""
    same = {"_id": user.id, "active": True, "password_rev": user.password_rev, "auth_epoch": user.auth_epoch}
    raw = await User.get_pymongo_collection().find_one_and_update(
        same | shown.unused,
        shown.use,
        projection={"totp.recovery_codes": 1},
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if raw is None:
        raise WrongCode
    if "recovery" in shown.methods:
        left = len(raw["totp"]["recovery_codes"])
        await record(session, Act.RECOVERY_CODE_USED, actor=user.id, target=user.id, facts={"left": left})
        job = send_recovery_code_used_email.name
        await Event.emit(session, "user.recovery_code_used", [job], user_id=str(user.id), left=left)


async def _tell(accounts: Accounts, user: User, tried: int) -> None:
    """Of each lock in the log and the audit; the owner by mail of the first one since the last right code."""
    is_told = tried == LOCKED_FROM and (user.verified or await accounts.mail_limit.allows(user.email))

    async def write(session: Session) -> None:
        facts = {"by": "codes", "tries": tried}
        await record(session, Act.LOCKED_OUT, actor="nobody", target=user.id, facts=facts)
        if is_told:
            job = send_wrong_codes_email.name
            await Event.emit(session, "user.wrong_codes", [job], user_id=str(user.id))

    await in_transaction(write)
    security.warning("second_factor_locked", user_id=str(user.id), tries=tried)
