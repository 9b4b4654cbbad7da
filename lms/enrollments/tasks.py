"""Completing an enrolment, and what a deleted lesson means for those who had to do it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from lms.certificates.tasks import generate_certificate
from lms.clock import utc_now
from lms.courses import queries as courses
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.merging import release_pipeline, touched_by_release
from lms.enrollments.rules import pins_of
from lms.enrollments.sequence import next_student_seq
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, job
from lms.transactions import Session, in_transaction

BATCH = 500
AT_ONCE = 8
SHARE = 0.5
"""Of the time that a job may take, after which a run ends by itself."""
LESSONS_PER_EVENT = 50
LATE_ENROLLMENTS = timedelta(minutes=5)
"""An enrolment that was under way when the lesson went may still pin it; none is under way for that long."""
OVER = {EnrollmentStatus.COMPLETED, EnrollmentStatus.DROPPED}
UNFINISHED = [status.value for status in EnrollmentStatus if status not in OVER]
"""Named one by one, because the index has the enrolments of each status in the order of their ids."""


async def complete(enrollment_id: UUID, student_id: UUID) -> dict[str, Any]:
    """The transition of the enrolment and the event that issues its certificate, once, however many arrive at once."""
    enrollments = Enrollment.get_pymongo_collection()
    mine = {"_id": enrollment_id, "student_id": student_id}

    async def transition(session: Session) -> dict[str, Any]:
        now = utc_now()
        done = {"status": EnrollmentStatus.COMPLETED.value, "completed_at": now, "changed_at": now}
        updated = await enrollments.find_one_and_update(
            {**mine, "status": EnrollmentStatus.ACTIVE.value, "percent": 100},
            {"$set": done},
            projection={"_id": 1},
            session=session,
        )
        shown = {"status": 1, "percent": 1, "completed_at": 1}
        if updated is None:
            return await enrollments.find_one(mine, shown, session=session) or {}
        seq = await next_student_seq(student_id, session)
        await enrollments.update_one(mine, {"$set": {"seq": seq}}, session=session)
        jobs = [generate_certificate.name]
        ids: dict[str, Any] = {"enrollment_id": str(enrollment_id), "student_id": str(student_id)}
        await Event.emit(session, "enrollment.completed", jobs, **ids)
        return done

    return await in_transaction(transition)


async def emit_lessons_deleted(course_id: UUID, lesson_ids: Sequence[str], session: Session) -> None:
    """In the transaction that deletes them: nobody needs these lessons any more, and some may be done now."""
    jobs = [release_deleted_lessons.name]
    for start in range(0, len(lesson_ids), LESSONS_PER_EVENT):
        some = " ".join(lesson_ids[start : start + LESSONS_PER_EVENT])
        for after in (timedelta(0), LATE_ENROLLMENTS):
            due, data = utc_now() + after, {"course_id": str(course_id), "lesson_ids": some}
            await Event.emit_for(due, session, "lessons.deleted", jobs, **data)


async def emit_course_published(course_id: UUID, session: Session) -> None:
    """In the transaction that publishes it: who lost every pin while nothing was required gets today's."""
    await Event.emit(session, "course.published", [release_deleted_lessons.name], course_id=str(course_id))


@job("release_deleted_lessons")
async def release_deleted_lessons(event: Event, context: JobContext) -> None:
    """Take deleted lessons out of what enrolments are judged by, and complete those who are done without them.

    What was recorded of the lessons stays. Who would have nothing left to do gets the lessons that are required today,
    or could never finish; where there is none, the next time that the course is published.

    One way through the unfinished enrolments by their ids, and a batch that was done before changes nothing: whoever
    takes over after a crash goes on where this run began. A large course takes several runs, each shorter than a job
    may be, and the event keeps how far they came.
    """
    course_id, lesson_ids = event.subject("course_id"), str(event.data.get("lesson_ids", "")).split()
    after = event.subject("after") if "after" in event.data else None
    until = time.monotonic() + context.settings.job_timeout_seconds * SHARE
    while (after := await release_some(course_id, lesson_ids, after)) is not None:
        if time.monotonic() > until:
            await _go_on_later(event, after)
            return


async def release_some(course_id: UUID, lesson_ids: Sequence[str], after: UUID | None) -> UUID | None:
    """One batch of those behind `after`: the id that it came to, None where there is nobody left.

    The batch is chosen by the index alone, so that it costs the same wherever it lies in however large a course.
    """
    enrollments = Enrollment.get_pymongo_collection()
    wanted = {"course_id": course_id, "status": {"$in": UNFINISHED}} | ({"_id": {"$gt": after}} if after else {})
    found = enrollments.find(wanted, {"student_id": 1}).sort("_id").limit(BATCH).hint("course_status")
    rows = await found.to_list()
    if not rows:
        return None
    these = {"_id": {"$in": [row["_id"] for row in rows]}, "student_id": {"$in": [row["student_id"] for row in rows]}}
    # Read anew for each batch: a lesson that goes meanwhile is pinned for moments only, and has its own late event.
    course = await courses.course(course_id, courses.PINS)
    pins = pins_of(course["lessons"]) if course else {}
    if touched := touched_by_release(lesson_ids, pins):
        await enrollments.update_many(
            {**these, "status": {"$in": UNFINISHED}, "$or": touched}, release_pipeline(lesson_ids, pins)
        )
    done = {**these, "status": EnrollmentStatus.ACTIVE.value, "percent": 100}
    finished = await enrollments.find(done, {"student_id": 1}).to_list()
    for start in range(0, len(finished), AT_ONCE):
        await asyncio.gather(*(complete(row["_id"], row["student_id"]) for row in finished[start : start + AT_ONCE]))
    return rows[-1]["_id"]


async def _go_on_later(event: Event, after: UUID) -> None:
    """Become due again behind `after`, with all attempts: this run came to its end, it did not fail."""
    name, data = release_deleted_lessons.name, {**event.data, "after": str(after)}
    await in_transaction(lambda session: event.follow(session, name, event.kind, [name], **data))
