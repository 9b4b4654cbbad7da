"""Setting up a second factor, renewing its recovery codes, and giving it up."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ReturnDocument

from lms.accounts.documents import SignIn, User
from lms.accounts.people import end_sessions, keep_session
from lms.accounts.rules import NotVerified
from lms.accounts.service import Accounts
from lms.audit import Other, record
from lms.audit.documents import Act
from lms.auth import Caller, check_proof
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.outbox.documents import Event
from lms.recovery.service import check_password
from lms.second_factor.codes import (
    RECOVERY_CODES,
    as_base32,
    matching_step,
    new_recovery_code,
    new_secret,
    normal_code,
    normal_recovery_code,
    provisioning_uri,
    qr_svg,
)
from lms.second_factor.documents import PendingTotp, Totp
from lms.second_factor.rules import (
    TRIES_AT_ENROLLING,
    NoSecondFactor,
    NothingToConfirm,
    RoleNeedsFactor,
    WrongCode,
    given,
)
from lms.second_factor.schemas import FreshRecoveryCodes, SecondFactorOn, SecondFactorState, TotpSecret
from lms.second_factor.secrets import seal, unseal
from lms.second_factor.tasks import send_second_factor_off_email, send_second_factor_on_email
from lms.tokens import digest_of
from lms.transactions import Session, in_transaction

PENDING_LIFE = timedelta(minutes=10)
NEVER = -1


async def state_of(accounts: Accounts, caller: Caller) -> SecondFactorState:
    user = await User.get(caller.id)
    if user is None:
        raise Unauthenticated
    return SecondFactorState(
        totp=user.totp is not None,
        recovery_codes_left=len(user.totp.recovery_codes) if user.totp else 0,
        required=user.role in accounts.settings.mfa_required_for,
    )


async def begin(accounts: Accounts, caller: Caller, password: str | None) -> TotpSecret:
    """A new secret for this session to confirm, in the place of one that was not confirmed.

    Raises `WrongPassword`, `TooManyAttempts` and `NotVerified`. A recent proof is asked for (`ProofTooOld`) where there
    is a factor already, whose place the new one will take, and where there is no password, in whose place it stands.
    """
    user = await User.get(caller.id)
    if user is None:
        raise Unauthenticated
    if user.password_hash:
        await check_password(accounts, user, given(password))
    if not user.verified:
        # It would lock the owner of the address out of what somebody else has signed up.
        raise NotVerified
    if user.totp is not None or not user.password_hash:
        await check_proof(caller, timedelta(minutes=accounts.settings.proof_minutes))
    secret = new_secret()
    pending = PendingTotp(
        secret=seal(accounts.settings, secret, user.id),
        session_id=caller.session_id,
        expires_at=utc_now() + PENDING_LIFE,
    )
    unchanged = {"_id": user.id, "password_rev": user.password_rev, "auth_epoch": user.auth_epoch}
    change = {"$set": {"pending_totp": pending.model_dump()}}
    if not (await User.get_pymongo_collection().update_one(unchanged, change)).matched_count:
        raise Unauthenticated
    uri = provisioning_uri(secret, accounts.settings.school_name, user.email)
    return TotpSecret(
        secret=as_base32(secret),
        provisioning_uri=uri,
        qr_svg=await asyncio.to_thread(qr_svg, uri),
        expires_in=int(PENDING_LIFE.total_seconds()),
    )


async def confirm(accounts: Accounts, caller: Caller, code: str) -> SecondFactorOn:
    """Switch it on: every other session ends, and this one goes on as one that has proved both factors.

    Raises `NothingToConfirm` and `WrongCode`.
    """
    user, pending = await _counted(caller)
    now = utc_now()
    secret = unseal(accounts.settings, pending.secret, user.id)
    step = matching_step(secret, normal_code(code), now, after=NEVER) if secret else None
    if step is None:
        raise WrongCode
    shown, stored = new_recovery_codes()
    totp = Totp(secret=pending.secret, last_step=step, recovery_codes=stored, enabled_at=now)
    is_told = user.verified or await accounts.mail_limit.allows(user.email)

    async def write(session: Session) -> tuple[User, SignIn, list[UUID]]:
        raw = await User.get_pymongo_collection().find_one_and_update(
            {"_id": user.id, "active": True, "auth_epoch": user.auth_epoch, "pending_totp.secret": pending.secret},
            {
                "$set": {"totp": totp.model_dump(), "pending_totp": None, "code_tries": None},
                "$inc": {"auth_epoch": 1, "rev": 1},
            },
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if raw is None:
            raise NothingToConfirm
        methods = ["pwd" if user.password_hash else "fed", "otp", "mfa"]
        kept = await keep_session(caller, {"methods": methods, "proved_at": now}, session)
        ended = await end_sessions({"user_id": user.id, "_id": {"$ne": kept.id}}, session)
        facts = {"replaced": user.totp is not None}
        await record(session, Act.MFA_ENABLED, actor=user.id, target=user.id, facts=facts)
        if is_told:
            job = send_second_factor_on_email.name
            await Event.emit(session, "user.second_factor_on", [job], user_id=str(user.id))
        return User.model_validate(raw), kept, ended

    changed, kept, ended = await in_transaction(write)
    accounts.forget([*ended, kept.id])
    tokens = accounts.tokens(changed, kept, utc_now())
    return SecondFactorOn(**msgspec.structs.asdict(tokens), recovery_codes=shown)


async def _counted(caller: Caller) -> tuple[User, PendingTotp]:
    """What this session may confirm, after a try is counted. Whoever knows the secret need not guess often."""
    mine = {
        "_id": caller.id,
        "pending_totp.session_id": caller.session_id,
        "pending_totp.expires_at": {"$gt": utc_now()},
        "pending_totp.tries": {"$lt": TRIES_AT_ENROLLING},
    }
    raw = await User.get_pymongo_collection().find_one_and_update(
        mine, {"$inc": {"pending_totp.tries": 1}}, return_document=ReturnDocument.AFTER
    )
    user = User.model_validate(raw) if raw is not None else None
    if user is None or user.pending_totp is None:
        raise NothingToConfirm
    return user, user.pending_totp


def new_recovery_codes() -> tuple[list[str], list[str]]:
    """As they are shown, and as they are stored.

    Their digests are not keyed by `LMS_SECRET_KEY` on purpose: they have bits enough without, and so they still let
    people in when that key was changed and no secret of an app can be opened any more.
    """
    shown = [new_recovery_code() for _ in range(RECOVERY_CODES)]
    return shown, [digest_of(normal_recovery_code(code)) for code in shown]


async def renew_recovery_codes(caller: Caller) -> FreshRecoveryCodes:
    """Ten new ones; those of before are void. Raises `NoSecondFactor`."""
    shown, stored = new_recovery_codes()

    async def write(session: Session) -> None:
        change = {"$set": {"totp.recovery_codes": stored}}
        mine = {"_id": caller.id, "active": True, "totp": {"$ne": None}}
        if not (await User.get_pymongo_collection().update_one(mine, change, session=session)).matched_count:
            raise NoSecondFactor
        await record(session, Act.RECOVERY_CODES_MADE, actor=caller.id, target=caller.id)

    await in_transaction(write)
    return FreshRecoveryCodes(recovery_codes=shown)


async def remove(accounts: Accounts, caller: Caller) -> None:
    """Raises `NoSecondFactor`, and `RoleNeedsFactor` where the person must have one."""
    required_for = accounts.settings.mfa_required_for
    user = await User.get(caller.id)
    if user is None or user.totp is None:
        raise NoSecondFactor
    if user.role in required_for:
        raise RoleNeedsFactor
    is_told = user.verified or await accounts.mail_limit.allows(user.email)

    async def write(session: Session) -> None:
        mine = {"_id": user.id, "active": True, "role": {"$nin": required_for}, "totp": {"$ne": None}}
        if not await _switch_off(mine, {"rev": 1}, user.id, user.id, session, is_told=is_told):
            raise NoSecondFactor

    await in_transaction(write)


async def reset(user_id: UUID, by: UUID | Other = "operator") -> bool:
    """For who has lost the app and the recovery codes: the password alone signs in again, and every session ends."""

    async def write(session: Session) -> bool:
        wanted = {"_id": user_id, "totp": {"$ne": None}}
        done = await _switch_off(wanted, {"rev": 1, "auth_epoch": 1}, user_id, by, session, is_told=True)
        if done:
            await end_sessions({"user_id": user_id}, session)
        return done

    return await in_transaction(write)


async def _switch_off(
    wanted: dict[str, Any],
    counted: dict[str, int],
    user_id: UUID,
    by: UUID | Other,
    session: Session,
    *,
    is_told: bool,
) -> bool:
    change = {"$set": {"totp": None, "pending_totp": None, "code_tries": None}, "$inc": counted}
    if not (await User.get_pymongo_collection().update_one(wanted, change, session=session)).matched_count:
        return False
    await record(session, Act.MFA_DISABLED, actor=by, target=user_id)
    if is_told:
        job = send_second_factor_off_email.name
        await Event.emit(session, "user.second_factor_off", [job], user_id=str(user_id))
    return True
