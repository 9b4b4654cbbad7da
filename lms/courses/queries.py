"""The reads of courses. None of them but `lesson_with_body` touches lesson content."""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.courses.rules import in_order, is_open, numbered
from lms.courses.schemas import CourseRead, CourseSummary
from lms.transactions import Session
from lms.web.lists import Paging, Sort, find_page

HEAD = {"modules": 0, "lessons": 0, "loaded": 0}
OUTLINE = {"lessons.content": 0, "loaded": 0}
RIGHTS = {"status": 1, "instructor_id": 1, "co_instructor_ids": 1, "rev": 1, "outline_rev": 1}
PINS = {**RIGHTS, "title": 1, "lessons.id": 1, "lessons.required": 1, "lessons.duration_minutes": 1}

SORTS = {
    "-created_at": Sort((("created_at", -1), ("_id", -1)), index="status_created"),
    "title": Sort((("title", 1), ("_id", 1)), index="status_title"),
}
"""The closed table of sorts, each with the index that serves it."""

FILTERS = {
    "category": "category",
    "tag": "tags",
    "difficulty_level": "status_created",
    "instructor_id": "instructor_created",
    "search": "text",
    "min_minutes": "status_created",
    "max_minutes": "status_created",
    "mine": "instructor_created",
    "status": "status_created",
}
"""The closed table of filters, each with the index that it starts from."""


async def course(course_id: UUID, projection: Mapping[str, Any]) -> dict[str, Any] | None:
    return await Course.get_pymongo_collection().find_one({"_id": course_id}, projection)


async def course_by_slug(slug: str) -> dict[str, Any] | None:
    return await Course.get_pymongo_collection().find_one({"slug": slug}, OUTLINE)


async def lesson_with_body(course_id: UUID, lesson_id: str) -> dict[str, Any] | None:
    """The course's rights, with this one lesson under `lessons` (empty where there is none)."""
    projection = {**RIGHTS, "lessons": {"$elemMatch": {"id": lesson_id}}}
    return await Course.get_pymongo_collection().find_one({"_id": course_id}, projection)


async def stats_of(course_ids: Iterable[UUID]) -> dict[UUID, dict[str, Any]]:
    found = CourseStats.get_pymongo_collection().find({"_id": {"$in": list(course_ids)}})
    return {row["_id"]: row async for row in found}


def visible_filter(
    *, viewer_id: UUID | None, role: Role | None, status: CourseStatus | None, mine: bool
) -> dict[str, Any]:
    """Published courses; with `mine` or another `status` those that the viewer is staff of (administrators: all)."""
    staff_of = {"$or": [{"instructor_id": viewer_id}, {"co_instructor_ids": viewer_id}]}
    wanted: dict[str, Any] = {} if status is None else {"status": status.value}
    if mine:
        return wanted | staff_of
    if status is None or status is CourseStatus.PUBLISHED:
        return {"status": CourseStatus.PUBLISHED.value}
    return wanted if role is Role.ADMIN else wanted | staff_of


async def list_courses(
    wanted: Mapping[str, Any], sort: Sort, paging: Paging
) -> tuple[list[CourseSummary], int | None, str | None]:
    rows, total, cursor = await find_page(Course.get_pymongo_collection(), wanted, sort, paging, HEAD)
    stats = await stats_of(row["_id"] for row in rows)
    return [CourseSummary.from_raw(row, **_computed(row, stats.get(row["_id"]))) for row in rows], total, cursor


async def with_stats(raw: Mapping[str, Any]) -> CourseRead:
    """The single read: head, outline in order, counters."""
    stats = await stats_of([raw["_id"]])
    modules, lessons = in_order(raw["modules"], raw["lessons"])
    return CourseRead.from_raw({**raw, "modules": modules, "lessons": lessons}, **_computed(raw, stats.get(raw["_id"])))


def _computed(raw: Mapping[str, Any], stats: Mapping[str, Any] | None) -> dict[str, Any]:
    count = stats["rating_count"] if stats else 0
    return {
        "is_published": is_open(raw),
        "managed": raw["source_id"] is not None,
        "enrollment_count": stats["enrolled"] if stats else 0,
        "average_rating": round(stats["rating_sum"] / count, 2) if stats and count else None,
        "review_count": count,
    }


async def slugs_like(base: str, session: Session | None = None, *, but: UUID | None = None) -> set[str]:
    """Which of `base` and its numbered kin are taken, by other courses than `but`."""
    alike = {"slug": {"$in": [base, re.compile(f"^{re.escape(numbered(base))}[0-9]+$")]}, "_id": {"$ne": but}}
    found = Course.get_pymongo_collection().find(alike, {"slug": 1}, session=session)
    return {str(row["slug"]) async for row in found}
