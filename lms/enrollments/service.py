"""Enrolling, reporting progress, completing, dropping."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from pymongo import ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection

from lms.auth import Caller
from lms.clock import utc_now
from lms.courses import queries as courses
from lms.courses.documents import Course
from lms.courses.rules import CourseNotFound, LessonNotFound, check_can_see, is_open, is_staff
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.merging import has_room
from lms.enrollments.queries import READING, courses_to_enroll_in, read_progress
from lms.enrollments.reports import Merging, merged
from lms.enrollments.rules import (
    IN_PROGRESS,
    NOT_STARTED,
    STATES,
    AlreadyEnrolled,
    EnrollmentCompleted,
    EnrollmentNotActive,
    EnrollmentNotFound,
    EnrollmentTooLarge,
    Report,
    check_report,
    check_takes_enrollments,
    is_stale,
    new_entry,
    pins_of,
    reset,
)
from lms.enrollments.schemas import ProgressReport, ProgressResult
from lms.enrollments.sequence import next_student_seq
from lms.enrollments.tasks import complete
from lms.ids import SHORT_ID, time_of
from lms.schemas import Moment
from lms.transactions import Session, in_transaction


def _enrollments() -> AsyncCollection[dict[str, Any]]:
    return Enrollment.get_pymongo_collection()


async def enroll(caller: Caller, course_id: UUID, session: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    """The new enrolment and its course. Raises, in this order: `AlreadyEnrolled`, `CourseNotFound`, `CourseNotOpen`.

    Nobody looks before: where there is an enrolment the unique index says so, with PyMongo's `DuplicateKeyError`, and
    `enroll_again` goes on from there.
    """
    course = await courses_to_enroll_in.get(course_id)
    if course is None or not is_open(course):
        existing = await _enrollments().find_one({"student_id": caller.id, "course_id": course_id}, session=session)
        if existing is not None and existing["status"] != EnrollmentStatus.DROPPED:
            raise AlreadyEnrolled(existing["_id"])
    course = _open_course(caller, course)
    if not course.get("has_enrollments"):
        await _keep_course(course_id, session)
    enrollment = Enrollment(
        student_id=caller.id,
        course_id=course_id,
        progress={},
        seq=await next_student_seq(caller.id, session),
    )
    stored = enrollment.as_stored() | {"progress": pins_of(course["lessons"])}
    await _enrollments().insert_one(stored, session=session)
    return stored, course


async def _keep_course(course_id: UUID, session: Session) -> None:
    """The first enrolment writes the course, so that it and a deletion at the same time are in each other's way."""
    kept = {"$set": {"has_enrollments": True}}
    result = await Course.get_pymongo_collection().update_one({"_id": course_id}, kept, session=session)
    if result.matched_count == 0:
        raise CourseNotFound


def _open_course(caller: Caller, course: dict[str, Any] | None) -> dict[str, Any]:
    staff = course is not None and is_staff(course, caller.id, caller.role)
    check_can_see(course, staff=staff, enrolled=False)
    check_takes_enrollments(course or {})
    return course or {}


async def enroll_again(caller: Caller, course_id: UUID, session: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    """After a drop the same enrolment becomes active again, from the start. Raises as `enroll` does."""
    existing = await _enrollments().find_one({"student_id": caller.id, "course_id": course_id}, session=session)
    if existing is None:
        return await enroll(caller, course_id, session)
    if existing["status"] != EnrollmentStatus.DROPPED:
        raise AlreadyEnrolled(existing["_id"])
    course = _open_course(caller, await courses_to_enroll_in.get(course_id))
    now = utc_now()
    change = {
        "status": EnrollmentStatus.ACTIVE.value,
        "progress": reset(existing["progress"], pins_of(course["lessons"])),
        "percent": 0,
        "enrolled_at": now,
        "changed_at": now,
        "seq": await next_student_seq(caller.id, session),
    }
    updated = await _enrollments().find_one_and_update(
        {"_id": existing["_id"], "student_id": caller.id, "status": EnrollmentStatus.DROPPED.value},
        {"$set": change},
        return_document=ReturnDocument.AFTER,
        session=session,
    )
    if updated is None:
        raise AlreadyEnrolled(existing["_id"])
    return updated, course


async def drop(caller: Caller, enrollment_id: UUID) -> None:
    """Leave a course. Raises `EnrollmentNotFound`, `EnrollmentCompleted`; dropping again changes nothing."""

    async def change(session: Session) -> None:
        mine = {"_id": enrollment_id, "student_id": caller.id}
        found = await _enrollments().find_one(mine, {"status": 1}, session=session)
        if found is None:
            raise EnrollmentNotFound
        if found["status"] == EnrollmentStatus.COMPLETED:
            raise EnrollmentCompleted
        if found["status"] == EnrollmentStatus.DROPPED:
            return
        dropped = {
            "status": EnrollmentStatus.DROPPED.value,
            "changed_at": utc_now(),
            "seq": await next_student_seq(caller.id, session),
        }
        await _enrollments().update_one(mine, {"$set": dropped}, session=session)

    await in_transaction(change)


async def report_progress(caller: Caller, enrollment_id: UUID, lesson_id: str, data: ProgressReport) -> ProgressResult:
    """Merge a report. When it completes the last pinned lesson, the enrolment completes before this returns."""
    if not SHORT_ID.fullmatch(lesson_id):
        # It becomes a part of a field's path below.
        raise LessonNotFound
    report = _as_report(enrollment_id, data)
    stored = await _merge(caller, enrollment_id, lesson_id, report)
    if stored["status"] == EnrollmentStatus.ACTIVE and stored["percent"] == 100:  # noqa: PLR2004 - per cent
        stored |= await complete(stored["_id"], stored["student_id"])
    entry = stored["progress"][lesson_id]
    completed_at = stored.get("completed_at")
    return ProgressResult(
        result="stale" if is_stale(entry, report) else "applied",
        lesson_id=lesson_id,
        progress=read_progress(entry),
        status=EnrollmentStatus(stored["status"]),
        percent=stored["percent"],
        completed_at=Moment.of(completed_at) if completed_at else None,
    )


def _as_report(enrollment_id: UUID, data: ProgressReport) -> Report:
    data_bytes = b"" if data.data is None else msgspec.json.encode(data.data, order="deterministic")
    check_report(data.watched, len(data_bytes), data.data)
    now = utc_now()
    # A clock that is ahead counts as now, and one that is dead as the time of enrolling, give or take a time zone.
    earliest = min(time_of(enrollment_id), now) - timedelta(days=1)
    at = now if data.occurred_at is None else max(min(data.occurred_at, now), earliest)
    touched = bool(data.watched) or data.position_seconds is not None or data.data is not None
    return Report(
        state=max(STATES.index(data.state or "not_started"), IN_PROGRESS if touched else NOT_STARTED),
        at=at.replace(microsecond=at.microsecond // 1000 * 1000),
        device=data.device_id,
        sequence=data.sequence,
        position=data.position_seconds,
        watched=tuple((start, end) for start, end in data.watched),
        data=data.data,
        data_bytes=data_bytes,
        epoch=data.epoch,
    )


async def _merge(caller: Caller, enrollment_id: UUID, lesson_id: str, report: Report) -> dict[str, Any]:
    """One command where the lesson has an entry; otherwise find out why nothing matched."""
    merging = Merging(caller.id, enrollment_id, lesson_id, report)
    updated = await merged.get(merging)
    if updated is None:
        await _make_room(caller, enrollment_id, lesson_id)
        updated = await merged.get(merging)
    if updated is None:
        raise EnrollmentTooLarge(lesson=lesson_id)
    return updated


async def _make_room(caller: Caller, enrollment_id: UUID, lesson_id: str) -> None:
    """Enter an optional lesson at its first report. Raises 404 and 409 for what cannot be reported on."""
    found = await _enrollments().find_one({"_id": enrollment_id, "student_id": caller.id})
    if found is None:
        raise EnrollmentNotFound
    if found["status"] not in READING:
        raise EnrollmentNotActive
    if lesson_id in found["progress"]:
        return
    course = await courses.course(found["course_id"], courses.PINS)
    lessons = course["lessons"] if course else []
    lesson = next((one for one in lessons if one["id"] == lesson_id), None)
    if lesson is None:
        raise LessonNotFound
    epoch = max((one["epoch"] for one in found["progress"].values()), default=0)
    entry = new_entry(required=False, duration_minutes=lesson.get("duration_minutes"), epoch=epoch)
    missing = {"_id": enrollment_id, "student_id": caller.id, f"progress.{lesson_id}": {"$exists": False}}
    await _enrollments().update_one(missing | has_room(), {"$set": {f"progress.{lesson_id}": entry}})
