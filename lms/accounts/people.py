"""What is done to a person's account, by themselves or by others."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pymongo.errors import DuplicateKeyError

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.rules import EmailTaken, check_new_password
from lms.api_keys.documents import ApiKey
from lms.audit import Other, record
from lms.audit.documents import Act
from lms.clock import utc_now
from lms.passwords import Passwords
from lms.transactions import Session, in_transaction


async def hash_new_password(passwords: Passwords, password: str, pointer: str, email: str, full_name: str) -> str:
    """The hash of a password that somebody chose. Raises 422 at `pointer` where it will not do."""
    check_new_password(password, email, full_name, common=await passwords.is_common(password), pointer=pointer)
    return await passwords.hash(password)


async def create_user(user: User, by: UUID | Other = "operator") -> None:
    """Store a person whom somebody else made. Raises `EmailTaken`."""

    async def write(session: Session) -> None:
        await user.insert(session=session)
        told = {user.id: {"email": user.email, "full_name": user.full_name}}
        facts = {"role": user.role.value}
        await record(session, Act.USER_CREATED, actor=by, target=user.id, private=told, facts=facts)

    try:
        await in_transaction(write)
    except DuplicateKeyError:
        raise EmailTaken(user.email) from None


async def change_role(user_id: UUID, role: Role, by: UUID | Other = "operator") -> bool:
    """Give a person another role and end every access token issued under the one before."""
    change = {"$set": {"role": role}, "$inc": {"auth_epoch": 1, "rev": 1}}

    async def write(session: Session) -> bool:
        wanted = {"_id": user_id, "role": {"$ne": role}}
        before = await User.get_pymongo_collection().find_one_and_update(wanted, change, session=session)
        if before is not None:
            facts = {"role_before": before["role"], "role": role.value}
            await record(session, Act.ROLE_CHANGED, actor=by, target=user_id, facts=facts)
        return before is not None

    return await in_transaction(write)


async def set_active(user_id: UUID, *, active: bool, by: UUID | Other = "operator") -> bool:
    """Let a person in or keep them out; either way no earlier token or API key counts, and whoever comes back signs in
    anew.
    """
    change = {"$set": {"active": active}, "$inc": {"auth_epoch": 1}}

    async def write(session: Session) -> bool:
        wanted = {"_id": user_id, "active": {"$ne": active}}
        result = await User.get_pymongo_collection().update_one(wanted, change, session=session)
        if not result.modified_count:
            return False
        if not active:
            await end_sessions({"user_id": user_id}, session)
            await ApiKey.revoke({"owner_id": user_id}, session)
        await record(session, Act.ACTIVATED if active else Act.DEACTIVATED, actor=by, target=user_id)
        return True

    return await in_transaction(write)


async def end_sessions(which: Mapping[str, Any], session: Session | None = None) -> list[UUID]:
    """End those that still stand; returns them, for `Accounts.forget` once that is committed."""
    live, sessions = {**which, "ended_at": None}, SignIn.get_pymongo_collection()
    found = await sessions.find(live, {"_id": 1}, session=session).to_list(1000)
    await sessions.update_many(live, {"$set": {"ended_at": utc_now()}}, session=session)
    return [row["_id"] for row in found]
