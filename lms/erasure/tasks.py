"""What is left of a person who is gone, removed a batch at a time: doing it again goes on where it was cut off."""

from typing import Any
from uuid import UUID

from beanie import Document

from lms.accounts.documents import SignIn
from lms.api_keys.documents import ApiKey
from lms.audit.documents import AuditKey
from lms.certificates.documents import Certificate, CertificatePdf
from lms.clock import utc_now
from lms.courses.documents import Course
from lms.courses.sequence import next_course_seq
from lms.enrollments.documents import Enrollment
from lms.enrollments.sequence import forget_student
from lms.oidc.documents import Identity
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.recovery.documents import MailedLink
from lms.transactions import Session, in_transaction
from lms.web.idempotency import IdempotencyRecord

ROWS, ENROLLMENTS, COURSES = 1_000, 50, 20
"""In one batch."""
MOST_BATCHES = 20
"""Of each kind in one run of the job."""
THEIRS: tuple[tuple[type[Document], str], ...] = (
    *((SignIn, "user_id"), (MailedLink, "user_id"), (IdempotencyRecord, "user_id")),
    *((ApiKey, "owner_id"), (Identity, "user_id")),
)
"""What goes altogether, and the field that says whose it is.

Codes and challenges of sign-ins end by themselves within minutes."""


@job("erase_what_is_left")
async def erase_what_is_left(event: Event, _: JobContext) -> None:
    """Everything that holds, or would tell, something of the person. What certificates need stays, without a name."""
    person = event.subject("user_id")
    await _drop_failed_events("user_id", [str(person)])
    await _drop_failed_events("student_id", [str(person)])
    # Who accepted an invitation has its id.
    await _drop_failed_events("invitation_id", [str(person), str(event.data.get("invitation_id", person))])
    done = [await _delete_rows(document, field, person) for document, field in THEIRS]
    await AuditKey.get_pymongo_collection().delete_one({"_id": person})
    await forget_student(person)
    done += [await _leave_courses(person), await _leave_enrollments(person)]
    if not all(done):
        jobs = [erase_what_is_left.name]
        await in_transaction(
            lambda session: event.follow(session, jobs[0], event.kind, jobs, user_id=str(person)),
        )


async def _drop_failed_events(name: str, ids: list[str]) -> None:
    """Jobs that gave up, whose last error may quote an address. All others see by themselves that nobody is there."""
    failed = {"failed_at": {"$type": "date"}, f"data.{name}": {"$in": ids}}
    await Event.get_pymongo_collection().delete_many(failed)


async def _delete_rows(document: type[Document], field: str, person: UUID) -> bool:
    rows = document.get_pymongo_collection()
    for _ in range(MOST_BATCHES):
        ids = [row["_id"] async for row in rows.find({field: person}, {"_id": 1}).limit(ROWS)]
        if not ids:
            return True
        await rows.delete_many({"_id": {"$in": ids}})
    return False


async def _leave_courses(person: UUID) -> bool:
    """Those they helped to teach; what they owned kept them from being erased."""
    courses = Course.get_pymongo_collection()
    taught = {"co_instructor_ids": person}

    async def leave(session: Session) -> bool:
        found = await courses.find(taught, {"_id": 1}, session=session).limit(COURSES).to_list()
        for row in found:
            stamped = {"updated_at": utc_now(), "seq": await next_course_seq(session)}
            change = {"$pull": taught, "$inc": {"rev": 1}, "$set": stamped}
            await courses.update_one({"_id": row["_id"], **taught}, change, session=session)
        return not found

    return await _repeated(leave)


async def _leave_enrollments(person: UUID) -> bool:
    """An enrolment with a certificate stays, and says only that somebody completed the course; all others go."""
    # A report that was on its way may have written into one that was dealt with.
    theirs = {"student_id": person, "$or": [{"erased_at": None}, {"progress": {"$ne": {}}}]}
    enrollments = Enrollment.get_pymongo_collection()

    async def leave(session: Session) -> bool:
        shown = {"certificate_issued": 1}
        found = await enrollments.find(theirs, shown, session=session).limit(ENROLLMENTS).to_list()
        certified = [row["_id"] for row in found if row["certificate_issued"]]
        others = [row["_id"] for row in found if not row["certificate_issued"]]
        if certified:
            await _forget_who(person, certified, session)
        if others:
            await enrollments.delete_many({"student_id": person, "_id": {"$in": others}}, session=session)
        return not found

    return await _repeated(leave)


async def _forget_who(person: UUID, ids: list[UUID], session: Session) -> None:
    """Certificates have the ids of their enrolments. Why one was revoked may name the person, too."""
    these = {"_id": {"$in": ids}}
    now = utc_now()
    emptied: dict[str, Any] = {"progress": {}, "last_activity_at": None, "grade": None}
    change = {"$set": {**emptied, "changed_at": now, "erased_at": now}}
    await Enrollment.get_pymongo_collection().update_many({"student_id": person, **these}, change, session=session)
    nameless = {"$set": {"name": None, "reason": None}}
    await Certificate.get_pymongo_collection().update_many(these, nameless, session=session)
    await CertificatePdf.get_pymongo_collection().delete_many(these, session=session)
    failed = {"failed_at": {"$type": "date"}, "data.certificate_id": {"$in": [str(one) for one in ids]}}
    await Event.get_pymongo_collection().delete_many(failed, session=session)


async def _repeated(batch: Any) -> bool:
    """Whether a batch, each of them a transaction, found nothing before there were too many for one run."""
    for _ in range(MOST_BATCHES):
        if await in_transaction(batch):
            return True
    return False
