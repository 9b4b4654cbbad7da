"""What is done to a person's account, by themselves or by others."""

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymongo import DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.rules import (
    BadCredentials,
    EmailTaken,
    LastAdmin,
    UserNotFound,
    check_new_password,
    check_promotion,
)
from lms.api_keys.documents import ApiKey
from lms.audit import Other, record
from lms.audit.documents import Act
from lms.auth import Caller
from lms.clock import utc_now
from lms.errors import Unauthenticated
from lms.folding import search_words
from lms.oidc.documents import Identity
from lms.passwords import Passwords
from lms.transactions import Session, in_transaction, next_number
from lms.web.etags import RevisionMismatch, seen_revision, strong_tag

MOST_SESSIONS = 100
"""How many sessions of one person stand, more than anybody has devices. All of them end in one transaction, which must
have time for that whoever opened them.
"""
TRIMMED_EVERY = 50
"""After so many sign-ins the oldest sessions are looked for, and not at each one: so there may be as many more."""
MOST_TRIMMED = 1000


async def hash_new_password(passwords: Passwords, password: str, pointer: str, email: str, full_name: str) -> str:
    """The hash of a password that somebody chose. Raises 422 at `pointer` where it will not do."""
    common = await passwords.is_common(password)
    check_new_password(password, email, full_name, common=common, pointer=pointer, school=passwords.school)
    return await passwords.hash(password)


async def create_user(user: User, by: UUID | Other = "operator") -> None:
    """Store a person whom somebody else made. Raises `EmailTaken`."""
    try:
        await in_transaction(lambda session: store_user(user, by, session))
    except DuplicateKeyError:
        raise EmailTaken(user.email) from None


async def store_user(user: User, by: UUID | Other, session: Session) -> None:
    await user.insert(session=session)
    told = {user.id: {"email": user.email, "full_name": user.full_name}}
    await record(session, Act.USER_CREATED, actor=by, target=user.id, private=told, facts={"role": user.role.value})


async def change_role(user_id: UUID, role: Role, by: UUID | Other = "operator") -> bool:
    """Give a person another role and end every access token issued under the one before."""
    return await _change(user_id, {"role": role}, by)


async def set_active(user_id: UUID, *, active: bool, by: UUID | Other = "operator") -> bool:
    """Let a person in or keep them out; either way no earlier token or API key counts, and whoever comes back signs in
    anew.
    """
    return await _change(user_id, {"active": active}, by)


async def _change(user_id: UUID, changes: Mapping[str, Any], by: UUID | Other) -> bool:
    """Whether there was something to change."""

    async def write(session: Session) -> bool:
        before = await User.find_one({"_id": user_id}, session=session)
        if before is None:
            return False
        after, _ = await change_person(before, changes, by, session)
        return after is not before

    return await in_transaction(write)


async def update_person(
    user_id: UUID, changes: Mapping[str, Any], tags: list[str] | None, by: UUID, session: Session
) -> tuple[User, list[UUID]]:
    """As `change_person`, for who saw the revision in `tags`. Raises `UserNotFound` and `RevisionMismatch`."""
    before = await User.find_one({"_id": user_id}, session=session)
    if before is None:
        raise UserNotFound
    if not seen_revision(tags, before.rev):
        raise RevisionMismatch(strong_tag(before.rev), {name: getattr(before, name) for name in changes})
    return await change_person(before, changes, by, session)


async def change_person(
    before: User, changes: Mapping[str, Any], by: UUID | Other, session: Session
) -> tuple[User, list[UUID]]:
    """Set what differs from `before`, which this transaction has read, and write each act down.

    Another role ends every access token and API key, being kept out every session too; those are returned, for
    `Accounts.forget` once that is committed. Raises `LastAdmin` and `RoleNeedsVerified`; an operator is not held up by
    these.
    """
    new = {name: value for name, value in changes.items() if getattr(before, name) != value}
    if not new:
        return before, []
    if by != "operator":
        check_promotion(before, new)
    access = new.keys() & {"role", "active"}
    found: dict[str, Any] = {"search": search_words(before.email, new["full_name"])} if "full_name" in new else {}
    if new.get("verified"):
        # Whoever vouches for the address cannot know who has set the password.
        found["password_doubted"] = True
    raw = await User.get_pymongo_collection().find_one_and_update(
        {"_id": before.id},
        {"$set": new | found, "$inc": {"rev": 1, "auth_epoch": int(bool(access))}},
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if access and by != "operator" and _is_admin(before):
        await keep_an_admin(session)
    ended: list[UUID] = []
    if new.get("active") is False:
        ended = await end_sessions({"user_id": before.id}, session)
    if access:
        # A key was made for what its owner could do then; it neither comes back with the role nor grows with another.
        await ApiKey.revoke({"owner_id": before.id}, session)
    await _record_changes(before, new, by, session)
    return User.model_validate(raw), ended


def _is_admin(user: User) -> bool:
    return user.role is Role.ADMIN and user.active


async def _record_changes(before: User, new: Mapping[str, Any], by: UUID | Other, session: Session) -> None:
    target = before.id
    if "role" in new:
        facts = {"role_before": before.role.value, "role": str(new["role"])}
        await record(session, Act.ROLE_CHANGED, actor=by, target=target, facts=facts)
    if "active" in new:
        act = Act.ACTIVATED if new["active"] else Act.DEACTIVATED
        await record(session, act, actor=by, target=target)
    profile = {name: value for name, value in new.items() if name not in {"role", "active"}}
    if profile:
        fields: dict[str, Any] = {"fields": " ".join(sorted(profile))}
        if "verified" in profile:
            fields["verified"] = profile["verified"]
        told: dict[UUID, dict[str, str]] = {}
        if "full_name" in profile:
            told[target] = {"full_name_before": before.full_name, "full_name": profile["full_name"]}
        await record(session, Act.PROFILE_CHANGED, actor=by, target=target, private=told, facts=fields)


async def change_user(user_id: UUID, change: dict[str, Any], session: Session) -> User:
    raw = await User.get_pymongo_collection().find_one_and_update(
        {"_id": user_id}, change, return_document=ReturnDocument.AFTER, session=session
    )
    return User.model_validate(raw)


async def take_over(user: User, values: Mapping[str, Any], session: Session) -> tuple[User, list[UUID]]:
    """Give an account to the owner of its address, whom nobody knows to have set it up: with `values`, and without
    anything that lets in, or locks out by, whoever did. Returns the ended sessions, for `Accounts.forget`.
    """
    owned = {"verified": True, "password_doubted": False, "totp": None, "pending_totp": None, "code_tries": None}
    change = {"$set": {**values, **owned}, "$inc": {"password_rev": 1, "auth_epoch": 1, "rev": 1}}
    changed = await change_user(user.id, change, session)
    await ApiKey.revoke({"owner_id": user.id}, session)
    await Identity.get_pymongo_collection().delete_many({"user_id": user.id}, session=session)
    return changed, await end_sessions({"user_id": user.id}, session)


async def end_sessions(which: Mapping[str, Any], session: Session | None = None) -> list[UUID]:
    """End those that still stand; returns them, for `Accounts.forget` once that is committed."""
    live, sessions = {**which, "ended_at": None}, SignIn.get_pymongo_collection()
    found = await sessions.find(live, {"_id": 1}, session=session).to_list(1000)
    await sessions.update_many(live, {"$set": {"ended_at": utc_now()}}, session=session)
    return [row["_id"] for row in found]


async def count_session(user: User, session: Session) -> int:
    """Called in the transaction that opens a session: how many there were, with this one.

    Raises `BadCredentials` where the account was closed or changed since `user` was read. Whoever does that at the same
    time writes the same document, so that one of the two is made again after the other.
    """
    # An account that was stored before passwords were counted has none of them counted.
    passwords = {"$in": [0, None]} if user.password_rev == 0 else user.password_rev
    same = {"_id": user.id, "active": True, "password_rev": passwords, "auth_epoch": user.auth_epoch}
    raw = await User.get_pymongo_collection().find_one_and_update(
        same,
        {"$inc": {"sessions_made": 1}},
        projection={"sessions_made": 1},
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if raw is None:
        raise BadCredentials
    return int(raw["sessions_made"])


async def trim_sessions(user_id: UUID, session: Session) -> list[UUID]:
    """Delete all but the newest `MOST_SESSIONS` that stand, and as many that are over; returns those that stood.

    Sign-ins of one person are made one after the other (`count_session`), so that none is missed here.
    """
    sessions = SignIn.get_pymongo_collection()
    newest_first = sessions.find({"user_id": user_id}, {"ended_at": 1}, session=session).sort(
        [("created_at", DESCENDING), ("_id", DESCENDING)]
    )
    rows = await newest_first.limit(2 * MOST_SESSIONS + MOST_TRIMMED).to_list()
    live = [row["_id"] for row in rows if row.get("ended_at") is None][MOST_SESSIONS:]
    over = [row["_id"] for row in rows if row.get("ended_at") is not None][MOST_SESSIONS:]
    await sessions.delete_many({"_id": {"$in": [*live, *over]}}, session=session)
    if live:
        facts = {"over_limit": len(live)}
        await record(session, Act.SIGNED_OUT, actor="system", target=user_id, facts=facts)
    return live


async def keep_an_admin(session: Session) -> None:
    """Called behind the change, in its transaction: raises `LastAdmin` where it leaves nobody who administers.

    Two such changes at once would each see the other one's administrator; the number that both take has one of them
    made again after the other.
    """
    await next_number("counters", "admins", session)
    standing = {"role": Role.ADMIN.value, "active": True}
    if await User.get_pymongo_collection().find_one(standing, {"_id": 1}, session=session) is None:
        raise LastAdmin


async def keep_owner(user_id: UUID, session: Session) -> None:
    """Called in the transaction that gives a person a course, so that it cannot be committed beside their erasure."""
    change = {"$inc": {"owner_rev": 1}}
    result = await User.get_pymongo_collection().update_one({"_id": user_id}, change, session=session)
    if not result.matched_count:
        raise Unauthenticated("The account that the course was to belong to is gone.")


async def keep_session(caller: Caller, values: Mapping[str, Any], session: Session) -> SignIn:
    """Let the session that asks go on, with `values`, where all others end. Raises 401 where it is over itself."""
    raw = await SignIn.get_pymongo_collection().find_one_and_update(
        {"_id": caller.session_id, "user_id": caller.id, "ended_at": None},
        {
            # A copy of the refresh token, which may be why the others end, is worth nothing from now on.
            "$set": {**values, "nonce": secrets.token_urlsafe(16), "rotated_at": utc_now()},
            "$inc": {"generation": 1},
        },
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if raw is None:
        raise Unauthenticated
    return SignIn.model_validate(raw)
