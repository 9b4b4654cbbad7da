"""The reads of enrolments."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from lms.courses.documents import Course
from lms.courses.queries import PINS
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.rules import STATES
from lms.enrollments.schemas import EnrollmentRead, EnrollmentSummary, LessonProgressRead
from lms.together import Together
from lms.transactions import Session
from lms.web.lists import Paging, Sort, find_page

READING = [EnrollmentStatus.ACTIVE.value, EnrollmentStatus.COMPLETED.value]
COUNTED = 10_000
WITHOUT_PROGRESS = {"progress": 0}
HEAD = {"title": 1, "slug": 1, "thumbnail_url": 1, "instructor_id": 1, "co_instructor_ids": 1}
NEWEST_FIRST = Sort((("created_at", -1), ("_id", -1)), index="student_created")


async def _read_enrollments(keys: list[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], dict[str, Any]]:
    student_ids, ids = ([*column] for column in zip(*keys, strict=True))
    wanted = {"_id": {"$in": ids}, "student_id": {"$in": student_ids}}
    rows = await Enrollment.get_pymongo_collection().find(wanted, WITHOUT_PROGRESS).to_list()
    return {(row["student_id"], row["_id"]): row for row in rows}


enrollment_heads = Together(_read_enrollments)
"""Enrolments by (student, id) without their progress, read together by the jobs that run at the same time."""


async def is_enrolled(student_id: UUID, course_id: UUID) -> bool:
    """Whether the student may read the course's lessons: active or completed."""
    wanted = {"student_id": student_id, "course_id": course_id, "status": {"$in": READING}}
    return await Enrollment.get_pymongo_collection().find_one(wanted, {"_id": 1}) is not None


async def count_enrollments(course_id: UUID, session: Session) -> int:
    """How many enrolments a course has, dropped ones too; counted up to 10,000."""
    enrollments = Enrollment.get_pymongo_collection()
    return await enrollments.count_documents({"course_id": course_id}, limit=COUNTED, session=session)


async def enrollment(enrollment_id: UUID, caller_id: UUID) -> dict[str, Any] | None:
    """The student is asked for first, whose shard has it; staff are few."""
    enrollments = Enrollment.get_pymongo_collection()
    mine = await enrollments.find_one({"_id": enrollment_id, "student_id": caller_id})
    return mine or await enrollments.find_one({"_id": enrollment_id})


async def _with_instructors(course_ids: list[UUID], projection: Mapping[str, Any]) -> dict[UUID, dict[str, Any]]:
    """Courses, each with its instructor's id and name under `instructor` (None for one who is gone), in one command."""
    name = [{"$project": {"full_name": 1}}]
    fields = {"localField": "instructor_id", "foreignField": "_id"}
    pipeline: list[dict[str, Any]] = [
        {"$match": {"_id": {"$in": course_ids}}},
        {"$project": projection},
        {"$lookup": {"from": "users", **fields, "as": "instructor", "pipeline": name}},
    ]
    courses = await (await Course.get_pymongo_collection().aggregate(pipeline)).to_list()
    return {
        course["_id"]: {**course, "id": course["_id"], "instructor": _one(course["instructor"])} for course in courses
    }


def _one(people: list[dict[str, Any]]) -> dict[str, Any] | None:
    return {"id": people[0]["_id"], "full_name": people[0]["full_name"]} if people else None


async def _read_heads(course_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await _with_instructors(course_ids, HEAD)


async def _read_open(course_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await _with_instructors(course_ids, {**HEAD, **PINS})


course_heads = Together(_read_heads)
"""What an enrolment shows of its course, read together. Shared, so not to be changed."""
courses_to_enroll_in = Together(_read_open)
"""The same with rights and with the lessons as an enrolment pins them."""


async def list_enrollments(
    wanted: Mapping[str, Any], paging: Paging
) -> tuple[list[EnrollmentSummary], int | None, str | None]:
    collection = Enrollment.get_pymongo_collection()
    rows, total, cursor = await find_page(collection, wanted, NEWEST_FIRST, paging, WITHOUT_PROGRESS)
    heads = await course_heads.get_all({row["course_id"] for row in rows})
    items = [
        EnrollmentSummary.from_raw(row, course=heads[row["course_id"]]) for row in rows if row["course_id"] in heads
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
    return EnrollmentRead.from_raw(raw, course=head, progress=progress)
