import asyncio
import time
from typing import Any
from uuid import UUID

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment
from tests.build import a_course, a_user
from tests.commands import Commands
from tests.conftest import ClientFor


class Class:
    """Students in a course of five lessons, each with a client and an enrolment."""

    def __init__(self, course: Course) -> None:
        self.course = course
        self.clients: list[httpx.AsyncClient] = []
        self.enrollments: list[str] = []

    async def report(self, student: int, lesson_id: str, **data: Any) -> httpx.Response:
        path = f"/enrollments/{self.enrollments[student]}/lessons/{lesson_id}/progress"
        return await self.clients[student].put(path, json=data)


@pytest.fixture
async def tides(ivy: User, client_for: ClientFor) -> Class:
    made = Class(await a_course(ivy.id, "Tides", lessons=5).insert())
    for number in range(6):
        student = await a_user(f"Student {number}", email=f"student{number}@school.example").insert()
        made.clients.append(await client_for(student))
        answer = await made.clients[-1].post("/enrollments", json={"course_id": str(made.course.id)})
        made.enrollments.append(answer.json()["id"])
    # The session's verdict is known from now on, so that the reports alone are counted.
    for client in made.clients:
        await client.get("/users/me")
    return made


async def test_reports_of_one_moment_travel_together(tides: Class, commands: Commands) -> None:
    commands.seen.clear()
    lessons = [lesson.id for lesson in tides.course.lessons]
    asked = [(student, lesson) for student in range(6) for lesson in lessons]
    answers = await asyncio.gather(
        *(tides.report(student, lesson, position_seconds=10 * student, watched=[[0, 60]]) for student, lesson in asked)
    )
    assert {answer.status_code for answer in answers} == {200}
    assert len(commands.names) < len(asked)
    for (student, lesson), answer in zip(asked, answers, strict=True):
        told = answer.json()
        assert (told["lesson_id"], told["progress"]["position_seconds"]) == (lesson, 10 * student)
        assert told["progress"]["furthest_seconds"] == 60
    stored = await Enrollment.get(tides.enrollments[3])
    assert stored is not None
    assert {entry.position for entry in stored.progress.values()} == {30}


async def test_a_report_with_nowhere_to_go_fails_alone(tides: Class) -> None:
    first, second = tides.course.lessons[0].id, tides.course.lessons[1].id
    await tides.clients[5].delete(f"/enrollments/{tides.enrollments[5]}")
    others = tides.enrollments[0]
    path = f"/enrollments/{others}/lessons/{first}/progress"
    answers = await asyncio.gather(
        tides.report(0, first, state="completed"),
        tides.report(1, "a" * 12, state="completed"),
        tides.clients[2].put(path, json={"state": "completed"}),
        tides.report(5, first, state="completed"),
        tides.report(3, second, state="completed"),
        tides.report(4, second, state="completed"),
    )
    assert [answer.status_code for answer in answers] == [200, 404, 404, 409, 200, 200]
    codes = [answer.json().get("code") for answer in answers[1:4]]
    assert codes == ["lesson_not_found", "enrollment_not_found", "enrollment_not_active"]
    assert [answer.json()["percent"] for answer in answers if answer.is_success] == [20, 20, 20]


async def test_several_reports_on_one_lesson_at_once_all_count(tides: Class) -> None:
    lesson = tides.course.lessons[0].id
    pieces = [[start, start + 10] for start in range(0, 100, 10)]
    answers = await asyncio.gather(
        *(tides.report(0, lesson, watched=[piece], device_id=f"d{piece[0]}") for piece in pieces)
    )
    assert {answer.status_code for answer in answers} == {200}
    stored = await Enrollment.get(tides.enrollments[0])
    assert stored is not None
    assert stored.progress[lesson].watched == [[0, 100]]


async def test_the_last_lessons_completed_at_once_complete_the_enrolment_once(tides: Class, commands: Commands) -> None:
    lessons = [lesson.id for lesson in tides.course.lessons]
    commands.seen.clear()
    answers = await asyncio.gather(
        *(tides.report(0, lesson, state="completed") for lesson in lessons for _ in range(3))
    )
    assert "completed" in {answer.json()["status"] for answer in answers}
    assert commands.writes.count("insert outbox") == 1
    shown = (await tides.clients[0].get(f"/enrollments/{tides.enrollments[0]}")).json()
    assert (shown["status"], shown["percent"]) == ("completed", 100)


async def test_an_enrolment_that_is_held_holds_up_nobody_elses_reports(
    tides: Class, database: AsyncDatabase[dict[str, Any]]
) -> None:
    lesson = tides.course.lessons[0].id
    held = {"_id": UUID(tides.enrollments[0])}
    async with database.client.start_session() as session:
        await session.start_transaction()
        await database["enrollments"].update_one(held, {"$set": {"grade": 1.0}}, session=session)
        stuck = asyncio.create_task(tides.report(0, lesson, state="completed"))
        started = time.monotonic()
        while time.monotonic() - started < 1.5:
            others = await asyncio.gather(*(tides.report(n, lesson, state="in_progress") for n in range(1, 6)))
            assert {answer.status_code for answer in others} == {200}
            # Half a second in its company, and then alone; without that it is the eight seconds of two time-outs.
            assert time.monotonic() - started < 3.5
        await session.abort_transaction()
    assert (await stuck).status_code == 200
