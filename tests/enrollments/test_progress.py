import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from lms.accounts.documents import User
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus
from lms.enrollments.documents import Enrollment
from lms.enrollments.rules import MAX_ENROLLMENT_BYTES
from lms.outbox.documents import Event
from tests.build import a_lesson
from tests.commands import Commands
from tests.conftest import ClientFor


class Learner:
    """Sam in Ivy's course."""

    def __init__(self, client: httpx.AsyncClient, enrollment: str, course: Course) -> None:
        self.client = client
        self.enrollment = enrollment
        self.lessons = [lesson.id for lesson in course.lessons]

    async def report(self, lesson: int | str, **data: Any) -> httpx.Response:
        lesson_id = self.lessons[lesson] if isinstance(lesson, int) else lesson
        return await self.client.put(f"/enrollments/{self.enrollment}/lessons/{lesson_id}/progress", json=data)

    async def complete(self, lesson: int) -> httpx.Response:
        return await self.client.post(f"/enrollments/{self.enrollment}/lessons/{self.lessons[lesson]}/complete")


@pytest.fixture
async def learner(client_for: ClientFor, sam: User, course: Course) -> Learner:
    client = await client_for(sam)
    created = await client.post("/enrollments", json={"course_id": str(course.id)})
    return Learner(client, created.json()["id"], course)


async def test_reports_merge_and_the_answer_shows_the_result(learner: Learner) -> None:
    await learner.report(0, position_seconds=95, watched=[[0, 40], [30, 95]], device_id="phone")
    answer = await learner.report(0, position_seconds=10, watched=[[95, 100]], data={"page": 2})
    progress = answer.json()["progress"]
    assert (answer.json()["result"], progress["state"]) == ("applied", "in_progress")
    assert (progress["furthest_seconds"], progress["position_seconds"]) == (100, 10)
    assert progress["watched"] == [[0, 100]]
    assert progress["data"] == {"page": 2}


async def test_a_late_report_from_another_device_does_not_move_the_position_back(learner: Learner) -> None:
    earlier = (utc_now() - timedelta(hours=1)).isoformat()
    await learner.report(0, position_seconds=200, device_id="phone")
    answer = await learner.report(0, position_seconds=50, occurred_at=earlier, device_id="tablet")
    assert answer.json()["progress"]["position_seconds"] == 200


async def test_a_clock_that_is_ahead_counts_as_now(learner: Learner) -> None:
    tomorrow = (utc_now() + timedelta(days=1)).isoformat()
    await learner.report(0, position_seconds=200, occurred_at=tomorrow)
    answer = await learner.report(0, position_seconds=50)
    assert answer.json()["progress"]["position_seconds"] == 50


@pytest.mark.parametrize("dead", ["0001-01-01T00:00:00+14:00", "1970-01-01T00:00:00Z"])
async def test_a_clock_that_is_dead_counts_as_the_time_of_enrolling(learner: Learner, dead: str) -> None:
    answer = await learner.report(0, state="completed", occurred_at=dead)
    assert answer.status_code == 200
    first = datetime.fromisoformat(answer.json()["progress"]["first_completed_at"])
    assert timedelta(hours=23) < utc_now() - first < timedelta(hours=25)


async def test_the_last_required_lesson_completes_the_enrolment_once(learner: Learner) -> None:
    half = await learner.complete(0)
    assert (half.json()["percent"], half.json()["status"]) == (50, "active")
    done = await learner.complete(1)
    assert (done.json()["percent"], done.json()["status"]) == (100, "completed")
    again = await learner.complete(1)
    assert again.json()["completed_at"] == done.json()["completed_at"]
    events = await Event.find({"kind": "enrollment.completed"}).to_list()
    assert [event.todo for event in events] == [["generate_certificate"]]


async def test_fifty_parallel_completions_make_one_event(learner: Learner) -> None:
    await learner.complete(0)
    answers = await asyncio.gather(*(learner.complete(1) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["status"] for answer in answers} == {"completed"}
    assert await Event.find({"kind": "enrollment.completed"}).count() == 1


async def test_an_ordinary_report_is_one_command_without_a_transaction(learner: Learner, commands: Commands) -> None:
    await learner.report(0, position_seconds=1)
    commands.seen.clear()
    await learner.report(0, position_seconds=5)
    assert commands.names == ["findAndModify"]
    assert "txnNumber" not in commands.seen[0][1] or "startTransaction" not in commands.seen[0][1]


async def test_an_optional_lesson_joins_at_its_first_report_and_does_not_count(
    learner: Learner, course: Course
) -> None:
    extra = a_lesson("Extra", course.modules[0].id, 2, required=False)
    await course.update({"$push": {"lessons": extra.model_dump()}})
    answer = await learner.report(extra.id, state="completed")
    assert (answer.json()["percent"], answer.json()["progress"]["required"]) == (0, False)


async def test_a_lesson_added_later_does_not_reopen_anybody(learner: Learner, course: Course) -> None:
    await learner.complete(0)
    await learner.complete(1)
    late = a_lesson("Added later", course.modules[0].id, 2, required=True)
    await course.update({"$push": {"lessons": late.model_dump()}})
    answer = await learner.report(late.id, position_seconds=3)
    assert (answer.json()["status"], answer.json()["percent"]) == ("completed", 100)


@pytest.mark.parametrize("status", [CourseStatus.DRAFT, CourseStatus.ARCHIVED])
async def test_who_is_enrolled_reads_and_finishes_a_withdrawn_course(
    learner: Learner, course: Course, status: CourseStatus
) -> None:
    await course.update({"$set": {"status": status.value}})
    lesson = await learner.client.get(f"/courses/{course.id}/lessons/{learner.lessons[1]}")
    assert lesson.status_code == 200
    await learner.complete(0)
    assert (await learner.complete(1)).json()["status"] == "completed"


@pytest.mark.parametrize("lesson", ["aaaaaaaaaaaa", "a.b", "$where", "AAAAAAAAAAAA", "x" * 500])
async def test_an_unknown_lesson_is_404_and_changes_nothing(learner: Learner, lesson: str) -> None:
    before = await Enrollment.get(learner.enrollment)
    response = await learner.report(lesson, state="completed")
    assert (response.status_code, response.json()["code"]) == (404, "lesson_not_found")
    assert await Enrollment.get(learner.enrollment) == before


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"state": "done"}, "#/state"),
        ({"position_seconds": -1}, "#/position_seconds"),
        ({"position_seconds": "5"}, "#/position_seconds"),
        ({"position_seconds": 1.5}, "#/position_seconds"),
        ({"watched": [[5, 2]]}, "#/watched/0"),
        ({"watched": [[0, 1], [0]]}, "#/watched/1"),
        ({"watched": [[0, 1]] * 101}, "#/watched"),
        ({"occurred_at": "2026-11-23T08:00:00"}, "#/occurred_at"),
        ({"occurred_at": "yesterday"}, "#/occurred_at"),
        ({"data": {"text": "x" * 3000}}, "#/data"),
        ({"epoch": -1}, "#/epoch"),
        ({"sequence": True}, "#/sequence"),
        ({"seconds": 1}, "#/seconds"),
    ],
)
async def test_a_broken_report_names_the_field_and_changes_nothing(
    learner: Learner, body: dict[str, Any], pointer: str
) -> None:
    before = await Enrollment.get(learner.enrollment)
    response = await learner.report(0, **body)
    assert response.status_code == 422
    assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert await Enrollment.get(learner.enrollment) == before


async def test_a_record_that_would_grow_too_large_is_refused_whole(learner: Learner) -> None:
    filler = {
        "progress.filler": {"epoch": 0, "required": False, "state": 0, "data": "x" * (MAX_ENROLLMENT_BYTES - 5000)}
    }
    await Enrollment.get_pymongo_collection().update_one({}, {"$set": filler})
    response = await learner.report(0, data={"page": 1})
    assert (response.status_code, response.json()["code"]) == (413, "enrollment_too_large")
    assert response.json()["lesson"] == learner.lessons[0]
    stored = await Enrollment.get_pymongo_collection().find_one({}, {f"progress.{learner.lessons[0]}": 1})
    assert stored is not None
    assert stored["progress"][learner.lessons[0]]["state"] == 0
