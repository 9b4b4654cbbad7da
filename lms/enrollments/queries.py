"""The reads of enrolments."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.rules import STATES
from lms.enrollments.schemas import EnrollmentRead, EnrollmentSummary, LessonProgressRead
from lms.web.lists import Paging, Sort, find_page

READING = [EnrollmentStatus.ACTIVE.value, EnrollmentStatus.COMPLETED.value]
WITHOUT_PROGRESS = {"progress": 0}
NEWEST_FIRST = Sort((("created_at", -1), ("_id", -1)), index="student_created")


async def is_enrolled(student_id: UUID, course_id: UUID) -> bool:
    """Whether the student may read the course's lessons: active or completed."""
    wanted = {"student_id": student_id, "course_id": course_id, "status": {"$in": READING}}
    return await Enrollment.get_pymongo_collection().find_one(wanted, {"_id": 1}) is not None


async def enrollment(enrollment_id: UUID) -> dict[str, Any] | None:
    return await Enrollment.get_pymongo_collection().find_one({"_id": enrollment_id})


async def course_heads(course_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    """What an enrolment shows of its course, the instructor's name included, in one command."""
    pipeline: list[dict[str, Any]] = [
        {"$match": {"_id": {"$in": list(course_ids)}}},
        {"$project": {"title": 1, "slug": 1, "thumbnail_url": 1, "instructor_id": 1, "co_instructor_ids": 1}},
        {
            "$lookup": {
                "from": "users",
                "localField": "instructor_id",
                "foreignField": "_id",
                "as": "instructor",
                "pipeline": [{"$project": {"full_name": 1}}],
            }
        },
    ]
    found = await Course.get_pymongo_collection().aggregate(pipeline)
    return {row["_id"]: row async for row in found}


def shown_course(head: Mapping[str, Any]) -> dict[str, Any]:
    instructors = head["instructor"]
    instructor = {"id": instructors[0]["_id"], "full_name": instructors[0]["full_name"]} if instructors else None
    return {**head, "id": head["_id"], "instructor": instructor}


async def list_enrollments(
    wanted: Mapping[str, Any], paging: Paging
) -> tuple[list[EnrollmentSummary], int | None, str | None]:
    collection = Enrollment.get_pymongo_collection()
    rows, total, cursor = await find_page(collection, wanted, NEWEST_FIRST, paging, WITHOUT_PROGRESS)
    heads = await course_heads({row["course_id"] for row in rows})
    items = [
        EnrollmentSummary.from_raw(row, course=shown_course(heads[row["course_id"]]))
        for row in rows
        if row["course_id"] in heads
    ]
    return items, total, cursor


def shown_progress(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **entry,
        "state": STATES[entry["state"]],
        "furthest_seconds": entry["furthest"],
        "position_seconds": entry["position"],
    }


def read_progress(entry: Mapping[str, Any]) -> LessonProgressRead:
    return LessonProgressRead.from_raw(shown_progress(entry))


def shown_enrollment(raw: Mapping[str, Any], head: Mapping[str, Any]) -> EnrollmentRead:
    progress = {lesson_id: shown_progress(entry) for lesson_id, entry in raw["progress"].items()}
    return EnrollmentRead.from_raw(raw, course=shown_course(head), progress=progress)
