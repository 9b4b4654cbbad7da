"""A student who is done, and what must have come of it once all is quiet: one certificate, one mail's Message-ID."""

from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import Role
from lms.certificates.tasks import generate_certificate
from lms.clock import utc_now
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.outbox.documents import Event
from tests.build import a_course, a_user
from tests.promises.system import eventually, store
from tests.servers import SmtpSink

Database = AsyncDatabase[dict[str, Any]]

# A mail that ran into a time-out on a busy machine is tried again after a minute.
QUIET_SECONDS = 90.0
JOB_SECONDS = 2.0
SHORT_LEASES = {"LMS_JOB_TIMEOUT_SECONDS": str(JOB_SECONDS)}
"""What a dead worker leaves behind is taken up after twice this."""


@dataclass(frozen=True, slots=True)
class Done:
    """`event` is the completion's, `id` the enrolment's."""

    id: UUID
    event: UUID


async def somebody_is_done(database: Database) -> Done:
    """Store what the API stores with the last lesson."""
    ivy, sam = a_user("Ivy", Role.INSTRUCTOR), a_user("Sam")
    course = a_course(ivy.id)
    completed = {"status": EnrollmentStatus.COMPLETED, "percent": 100, "completed_at": utc_now()}
    enrollment = Enrollment.model_validate({"student_id": sam.id, "course_id": course.id} | completed)
    ids = {"enrollment_id": str(enrollment.id), "student_id": str(sam.id)}
    event = an_event("enrollment.completed", generate_certificate.name, **ids)
    await store(database, ivy, sam, course, enrollment, event)
    return Done(enrollment.id, event.id)


def an_event(kind: str, job: str, **data: str) -> Event:
    return Event(kind=kind, data=data, todo=[job], due=utc_now())


async def all_is_issued(database: Database) -> None:
    """Until nothing is left to do for any completion and for any certificate's mail."""

    async def nothing_waits() -> bool:
        wanted = {"kind": {"$in": ["enrollment.completed", "certificate.issued"]}}
        return await database["outbox"].count_documents(wanted) == 0

    await eventually(nothing_waits, QUIET_SECONDS)


async def row_of(database: Database, event: UUID) -> dict[str, Any]:
    return await database["outbox"].find_one({"_id": event}) or {}


async def mail_event(database: Database) -> dict[str, Any]:
    """The event that the certificate has left for its mail."""

    async def find() -> dict[str, Any] | None:
        return await database["outbox"].find_one({"kind": "certificate.issued"})

    return await eventually(find)


async def check_issued_once(database: Database, done: Done, sink: SmtpSink) -> list[EmailMessage]:
    """Wait for the end; returns the mails, of which there is one or more, all with one Message-ID."""
    await all_is_issued(database)
    for collection in ("certificates", "certificate_pdfs"):
        assert [row["_id"] async for row in database[collection].find()] == [done.id]
    mails = certificate_mails(sink)
    assert len({mail["Message-ID"] for mail in mails}) == 1
    return mails


def certificate_mails(sink: SmtpSink) -> list[EmailMessage]:
    return [mail for mail in sink.messages if mail["Subject"].startswith("Your certificate")]


async def nothing_held(sink: SmtpSink) -> bool:
    """Whether the sink has seen that those who waited for an answer are dead."""
    return not sink.held
