"""The reads of courses. None of them but `lesson_with_body` touches lesson content."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from lms.accounts.documents import Role
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.courses.rules import in_order, is_open, numbered
from lms.courses.schemas import CourseRead, CourseSummary
from lms.together import Together, by_id
from lms.transactions import Session
from lms.web.lists import Paging, Sort, find_page
from lms.web.searching import search_page

HEAD = {"modules": 0, "lessons": 0, "loaded": 0}
OUTLINE = {"lessons.content": 0, "loaded": 0}
RIGHTS = {"status": 1, "instructor_id": 1, "co_instructor_ids": 1, "rev": 1, "outline_rev": 1}
PINS = {
    **RIGHTS,
    "title": 1,
    "has_enrollments": 1,
    "lessons.id": 1,
    "lessons.required": 1,
    "lessons.duration_minutes": 1,
}

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


async def _read_outlines(name: str, values: list[Any]) -> dict[Any, dict[str, Any]]:
    found = await Course.get_pymongo_collection().find({name: {"$in": values}}, OUTLINE).to_list()
    return {row[name]: row for row in found}


async def _read_shown(course_ids: list[UUID]) -> dict[UUID, tuple[dict[str, Any], dict[str, Any] | None]]:
    outlines, counted = await asyncio.gather(_read_outlines("_id", course_ids), _read_stats(course_ids))
    return {course_id: (row, counted.get(course_id)) for course_id, row in outlines.items()}


async def _read_slugs(slugs: list[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any] | None]]:
    outlines = await _read_outlines("slug", slugs)
    counted = await _read_stats([row["_id"] for row in outlines.values()])
    return {slug: (row, counted.get(row["_id"])) for slug, row in outlines.items()}


shown_by_id = Together(_read_shown)
"""Outlines with their counters, read together. What they give is shared and not to be changed."""
shown_by_slug = Together(_read_slugs)


async def lesson_with_body(course_id: UUID, lesson_id: str) -> dict[str, Any] | None:
    """The course's rights, with this one lesson under `lessons` (empty where there is none)."""
    projection = {**RIGHTS, "lessons": {"$elemMatch": {"id": lesson_id}}}
    return await Course.get_pymongo_collection().find_one({"_id": course_id}, projection)


async def empty_lessons(course_id: UUID, session: Session) -> set[str]:
    """The ids of the text lessons in which there is nothing to read. Their bodies stay in the database."""
    has_nothing = {
        "$and": [{"$eq": ["$$one.content_type", "text"]}, {"$eq": [{"$trim": {"input": "$$one.content"}}, ""]}]
    }
    found = {"$filter": {"input": "$lessons", "as": "one", "cond": has_nothing}}
    pipeline = [{"$match": {"_id": course_id}}, {"$project": {"ids": {"$map": {"input": found, "in": "$$this.id"}}}}]
    rows = await (await Course.get_pymongo_collection().aggregate(pipeline, session=session)).to_list(1)
    return set(rows[0]["ids"]) if rows else set()


async def _read_stats(course_ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    return await by_id(CourseStats.get_pymongo_collection(), course_ids)


stats = Together(_read_stats)
"""Counters by course, read together. Shared, so not to be changed."""


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
    wanted: Mapping[str, Any], search: str | None, sort: Sort, paging: Paging
) -> tuple[list[CourseSummary], int | None, str | None]:
    courses = Course.get_pymongo_collection()
    if search is None:
        rows, total, cursor = await find_page(courses, wanted, sort, paging, HEAD, shared=True)
    else:
        rows, total, cursor = await search_page(courses, {"$text": {"$search": search}}, wanted, sort, paging, HEAD)
    counted = await stats.get_all({row["_id"] for row in rows})
    return [CourseSummary.from_raw(row, **_computed(row, counted.get(row["_id"]))) for row in rows], total, cursor


async def with_stats(raw: Mapping[str, Any]) -> CourseRead:
    """What a write gives back of the course that it changed."""
    return shown_course(raw, await stats.get(raw["_id"]))


def shown_course(raw: Mapping[str, Any], counted: Mapping[str, Any] | None) -> CourseRead:
    """The single read: head, outline in order, counters."""
    modules, lessons = in_order(raw["modules"], raw["lessons"])
    return CourseRead.from_raw({**raw, "modules": modules, "lessons": lessons}, **_computed(raw, counted))


def _computed(raw: Mapping[str, Any], counted: Mapping[str, Any] | None) -> dict[str, Any]:
    count = counted["rating_count"] if counted else 0
    return {
        "is_published": is_open(raw),
        "managed": raw["source_id"] is not None,
        "enrollment_count": counted["enrolled"] if counted else 0,
        "average_rating": round(counted["rating_sum"] / count, 2) if counted and count else None,
        "review_count": count,
    }


async def slugs_like(bases: Iterable[str], session: Session | None = None) -> dict[str, UUID]:
    """Which of `bases` and their numbered kin are taken, and by which course."""
    alike = [one for base in bases for one in (base, re.compile(f"^{re.escape(numbered(base))}[0-9]+$"))]
    found = Course.get_pymongo_collection().find({"slug": {"$in": alike}}, {"slug": 1}, session=session)
    return {str(row["slug"]): row["_id"] async for row in found}
