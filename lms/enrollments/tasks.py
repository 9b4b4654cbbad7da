"""Completing an enrolment, and what a deleted lesson means for those who had to do it."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pymongo

from lms.certificates.tasks import generate_certificate
from lms.clock import utc_now
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.merging import release_pipeline
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
UNFINISHED = {"$nin": [EnrollmentStatus.COMPLETED.value, EnrollmentStatus.DROPPED.value]}


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


@job("release_deleted_lessons")
async def release_deleted_lessons(event: Event, context: JobContext) -> None:
    """Take deleted lessons out of what enrolments are judged by, and complete those who are done without them.

    What was recorded of the lessons stays. Every batch stands for itself and is not found again, so that whoever
    takes over after a crash goes on where it ended. A large course takes several runs, each shorter than a job may be.
    """
    course_id, lesson_ids = event.subject("course_id"), str(event.data["lesson_ids"]).split()
    until = time.monotonic() + context.settings.job_timeout_seconds * SHARE
    # What is done already is passed over once in each run, for which one operation's time-out may be too short.
    with pymongo.timeout(context.settings.job_timeout_seconds):
        for step in (release_some, complete_some):
            while await step(course_id, lesson_ids):
                if time.monotonic() > until:
                    await _go_on_later(event)
                    return


async def release_some(course_id: UUID, lesson_ids: Sequence[str]) -> bool:
    """One batch of those that pin one of the lessons; False where there is none left."""
    enrollments = Enrollment.get_pymongo_collection()
    pins = [{f"progress.{lesson_id}.required": True} for lesson_id in lesson_ids]
    wanted = {"course_id": course_id, "status": UNFINISHED, "$or": pins}
    rows = await enrollments.find(wanted, {"student_id": 1}).limit(BATCH).to_list()
    these = {"_id": {"$in": [row["_id"] for row in rows]}, "student_id": {"$in": [row["student_id"] for row in rows]}}
    if rows:
        await enrollments.update_many({**these, "status": UNFINISHED}, release_pipeline(lesson_ids))
    return bool(rows)


async def complete_some(course_id: UUID, _: Sequence[str]) -> bool:
    """One batch of those who have done everything; False where there is none left."""
    done = {"course_id": course_id, "status": EnrollmentStatus.ACTIVE.value, "percent": 100}
    rows = await Enrollment.get_pymongo_collection().find(done, {"student_id": 1}).limit(BATCH).to_list()
    for start in range(0, len(rows), AT_ONCE):
        await asyncio.gather(*(complete(row["_id"], row["student_id"]) for row in rows[start : start + AT_ONCE]))
    return bool(rows)


async def _go_on_later(event: Event) -> None:
    """Become due again with all attempts: this run came to its end, it did not fail."""
    name = release_deleted_lessons.name
    await in_transaction(lambda session: event.follow(session, name, event.kind, [name], **event.data))
