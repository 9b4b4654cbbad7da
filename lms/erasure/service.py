"""Erasing a person: who they are goes at once and altogether, what is left of them by a job."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role, SignIn, User
from lms.accounts.people import keep_an_admin
from lms.accounts.rules import UserNotFound
from lms.audit import Other, record
from lms.audit.documents import Act, AuditKey
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.erasure.rules import NAMED, check_owns_nothing
from lms.erasure.tasks import erase_what_is_left
from lms.outbox.documents import Event
from lms.recovery.documents import MailedLink, Purpose
from lms.recovery.rules import link_id
from lms.transactions import Session, in_transaction
from lms.users.service import end_invitation
from lms.web.idempotency import forget_answers

MOST_COUNTED = 1_000
LATE = timedelta(minutes=3)
"""By when every request has ended that began before the person was gone, and could still write something of theirs."""


async def erase(user_id: UUID, by: UUID | Other = "operator") -> list[UUID]:
    """Their sessions, for `Accounts.forget`. Raises `UserNotFound`, `OwnsCourses`, `LastAdmin`.

    From the commit on nobody can sign in as them, no token of theirs counts, and nothing that the audit log tells of
    them can be read.
    """

    async def write(session: Session) -> list[UUID]:
        users = User.get_pymongo_collection()
        gone = await users.find_one_and_delete({"_id": user_id}, {"role": 1, "active": 1, "email": 1}, session=session)
        if gone is None:
            raise UserNotFound
        await _check_courses(user_id, session)
        if _administers(gone):
            await keep_an_admin(session)
        await record(session, Act.USER_DELETED, actor=by, target=user_id)
        # Behind the record, which would make them a key for the address that they asked from.
        await AuditKey.get_pymongo_collection().delete_one({"_id": user_id}, session=session)
        ids = {"user_id": str(user_id)}
        if invited := await _forget_address(gone["email"], session):
            ids["invitation_id"] = str(invited)
        await forget_answers(user_id, session)
        for due in (utc_now(), utc_now() + LATE):
            await Event.emit_for(due, session, "user.erased", [erase_what_is_left.name], **ids)
        return await _end_sessions(user_id, session)

    return await in_transaction(write)


async def _forget_address(email: str, session: Session) -> UUID | None:
    """What is kept under the address and not under the person; from the commit on it may be somebody else's.

    Returns the id of an invitation that was still open.
    """
    ids = [link_id(purpose, email) for purpose in (Purpose.VERIFY_EMAIL, Purpose.RESET_PASSWORD)]
    await MailedLink.get_pymongo_collection().delete_many({"_id": {"$in": ids}}, session=session)
    return await end_invitation(email, session)


def _administers(user: Mapping[str, Any]) -> bool:
    return user["role"] == Role.ADMIN.value and bool(user["active"])


async def _check_courses(user_id: UUID, session: Session) -> None:
    courses, theirs = Course.get_pymongo_collection(), {"instructor_id": user_id}
    found = await courses.find(theirs, {"_id": 1}, session=session).limit(MOST_COUNTED).to_list()
    check_owns_nothing(len(found), [row["_id"] for row in found[:NAMED]])


async def _end_sessions(user_id: UUID, session: Session) -> list[UUID]:
    """Those of more than a thousand go with the rest; without their person none of them stands."""
    sessions = SignIn.get_pymongo_collection()
    found = await sessions.find({"user_id": user_id}, {"_id": 1}, session=session).limit(1_000).to_list()
    ids = [row["_id"] for row in found]
    await sessions.delete_many({"_id": {"$in": ids}}, session=session)
    return ids
