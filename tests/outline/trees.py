"""Trees for tests: what is put, and whether a stored one is whole."""

from typing import Any
from uuid import UUID

import httpx

from lms.courses.documents import Course, Module
from tests.build import a_course, a_lesson


def a_deep_course(instructor_id: UUID) -> Course:
    """First (lesson, sub-module with a lesson, lesson) and Second (two lessons)."""
    first, second = Module(title="First", order=0), Module(title="Second", order=1)
    inner = Module(title="Inner", parent_id=first.id, order=1)
    course = a_course(instructor_id, "Deep", lessons=0, modules=[first, second, inner])
    course.lessons = [
        a_lesson("One", first.id, 0),
        a_lesson("Two", inner.id, 0),
        a_lesson("Three", first.id, 2),
        a_lesson("Four", second.id, 0),
        a_lesson("Five", second.id, 1),
    ]
    return course


async def stored(course_id: UUID) -> Course:
    found = await Course.get(course_id)
    assert found is not None
    return found


def check_gap_free(course: Course) -> None:
    """In every module, and at the top, what is in it is numbered from 0."""
    homes = {None, *(one.id for one in course.modules)}
    inside: dict[str | None, list[int]] = {home: [] for home in homes}
    for module in course.modules:
        inside[module.parent_id].append(module.order)
    for lesson in course.lessons:
        inside[lesson.module_id].append(lesson.order)
    assert {home: sorted(orders) for home, orders in inside.items()} == {
        home: list(range(len(orders))) for home, orders in inside.items()
    }


def as_put(outline: dict[str, Any]) -> dict[str, Any]:
    """What a client sends back of what it got."""
    return {
        "modules": [
            {
                "id": one["id"],
                "parent_id": one["parent_id"],
                "after_lessons": one["after_lessons"],
                "lessons": [{"id": lesson["id"]} for lesson in one["lessons"]],
            }
            for one in outline["modules"]
        ]
    }


async def outline_of(client: httpx.AsyncClient, course_id: UUID) -> tuple[dict[str, Any], str]:
    answer = await client.get(f"/courses/{course_id}/outline")
    assert answer.status_code == 200
    return answer.json(), answer.headers["etag"]
