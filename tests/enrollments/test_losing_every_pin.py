"""Promise 4: who is enrolled can finish, even when every lesson that they had to do goes."""

from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from bson import Binary
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.enrollments import tasks
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.rules import COMPLETED, new_entry
from lms.enrollments.tasks import release_deleted_lessons
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from tests.conftest import ClientFor

GONE, NEW = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


@pytest.fixture
def context(settings: Settings) -> JobContext:
    return JobContext(settings, Mailer(settings))


async def run_jobs(context: JobContext) -> list[str]:
    """All that is to do of deletions and publishing, the late copies too; the kinds of the events."""
    events = await Event.find({"todo": release_deleted_lessons.name}).sort("due").to_list()
    for event in events:
        assert await run_job(release_deleted_lessons.name, event.id, context) is Outcome.DONE
    return [event.kind for event in events]


async def enrolled(student: httpx.AsyncClient, course: Course) -> str:
    answer = await student.post("/enrollments", json={"course_id": str(course.id)})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def a_new_lesson(author: httpx.AsyncClient, course: Course) -> str:
    answer = await author.post(f"/courses/{course.id}/lessons", json={"title": "C", "content": "c", "required": True})
    assert answer.status_code == 201
    return str(answer.json()["id"])


async def delete_all(author: httpx.AsyncClient, course: Course) -> None:
    for lesson in course.lessons:
        assert (await author.delete(f"/courses/{course.id}/lessons/{lesson.id}")).status_code == 204


async def test_who_loses_every_pin_gets_those_of_today_and_finishes(
    client_for: ClientFor, ivy: User, sam: User, course: Course, context: JobContext
) -> None:
    student, author = await client_for(sam), await client_for(ivy)
    mine = f"/enrollments/{await enrolled(student, course)}"
    await student.put(f"{mine}/lessons/{course.lessons[0].id}/progress", json={"position_seconds": 5})
    new = await a_new_lesson(author, course)
    await delete_all(author, course)
    await run_jobs(context)
    after = (await student.get(mine)).json()
    assert (after["status"], after["percent"]) == ("active", 0)
    assert {one: entry["required"] for one, entry in after["progress"].items()} == {
        course.lessons[0].id: False,
        course.lessons[1].id: False,
        new: True,
    }
    assert after["progress"][course.lessons[0].id]["position_seconds"] == 5
    done = (await student.post(f"{mine}/lessons/{new}/complete")).json()
    assert (done["status"], done["percent"]) == ("completed", 100)


async def test_who_has_done_the_new_pins_already_is_completed_by_the_job(
    client_for: ClientFor, ivy: User, sam: User, course: Course, context: JobContext
) -> None:
    student, author = await client_for(sam), await client_for(ivy)
    mine = f"/enrollments/{await enrolled(student, course)}"
    new = await a_new_lesson(author, course)
    before = (await student.post(f"{mine}/lessons/{new}/complete")).json()
    assert (before["status"], before["percent"]) == ("active", 0)
    await delete_all(author, course)
    await run_jobs(context)
    after = (await student.get(mine)).json()
    assert (after["status"], after["percent"]) == ("completed", 100)
    kept = after["progress"][new]
    assert (kept["required"], kept["first_completed_at"]) == (True, before["progress"]["first_completed_at"])
    assert await Event.find({"kind": "enrollment.completed"}).count() == 1


async def test_pins_lost_while_unpublished_come_with_the_next_publishing(
    client_for: ClientFor, ivy: User, sam: User, course: Course, context: JobContext
) -> None:
    student, author = await client_for(sam), await client_for(ivy)
    mine = f"/enrollments/{await enrolled(student, course)}"
    assert (await author.post(f"/courses/{course.id}/unpublish")).status_code == 200
    await delete_all(author, course)
    await run_jobs(context)
    lost = (await student.get(mine)).json()
    assert [entry["required"] for entry in lost["progress"].values()] == [False, False]
    new = await a_new_lesson(author, course)
    for _ in range(2):
        assert (await author.post(f"/courses/{course.id}/publish")).status_code == 200
    assert await run_jobs(context) == ["course.published"]
    done = (await student.post(f"{mine}/lessons/{new}/complete")).json()
    assert (done["status"], done["percent"]) == ("completed", 100)


@pytest.mark.parametrize("status", EnrollmentStatus)
async def test_only_the_unfinished_without_a_pin_get_one(course: Course, status: EnrollmentStatus) -> None:
    """`GONE` was reset twice, so late reports on what is pinned anew are told from later ones by its epoch."""
    gone = {GONE: new_entry(required=True, duration_minutes=None, epoch=2) | {"state": COMPLETED}}
    kept = gone | {NEW: new_entry(required=True, duration_minutes=None)}
    lost, other = [await stored(course, status, progress) for progress in (gone, kept)]
    assert await tasks.release_some(course.id, [GONE], None) == (other if status in tasks.UNFINISHED else None)
    [after, of_other] = [await Enrollment.get(one) for one in (lost, other)]
    assert after is not None
    assert of_other is not None
    if status in tasks.UNFINISHED:
        pinned = {lesson.id: 2 for lesson in course.lessons}
        assert {one: entry.epoch for one, entry in after.progress.items() if entry.required} == pinned
        assert (after.percent, after.progress[GONE].state) == (0, COMPLETED)
        assert [one for one, entry in of_other.progress.items() if entry.required] == [NEW]
        assert await tasks.release_some(course.id, [GONE], None) == other
        assert await Enrollment.get(lost) == after
    else:
        assert (after.percent, [*after.progress], after.progress[GONE].required) == (50, [GONE], True)


async def stored(course: Course, status: EnrollmentStatus, progress: dict[str, Any]) -> UUID:
    made = Enrollment(student_id=uuid4(), course_id=course.id, status=status, percent=50).as_stored()
    await Enrollment.get_pymongo_collection().insert_one(made | {"progress": progress})
    return made["_id"]


async def test_every_batch_reads_only_what_is_its_own(
    course: Course, database: AsyncDatabase[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 5)
    statuses = [*EnrollmentStatus] * 4
    entry = {GONE: new_entry(required=True, duration_minutes=None)}
    ids = [await stored(course, status, entry) for status in statuses]
    unfinished = sorted(one for one, status in zip(ids, statuses, strict=True) if status in tasks.UNFINISHED)
    after, ends = None, list[UUID]()
    while (after := await tasks.release_some(course.id, [GONE], after)) is not None:
        ends.append(after)
    assert ends == [unfinished[index] for index in (4, 9, 14, 15)]
    behind, of_course = (Binary.from_uuid(one) for one in (unfinished[4], course.id))
    wanted = {"course_id": of_course, "status": {"$in": tasks.UNFINISHED}, "_id": {"$gt": behind}}
    asked = {"find": "enrollments", "filter": wanted, "sort": {"_id": 1}, "limit": 5, "hint": "course_status"}
    plan = await database.command("explain", asked, verbosity="executionStats")
    # A batch and the next one of each status, of the eleven that are left.
    assert plan["executionStats"]["totalDocsExamined"] <= 5 + len(tasks.UNFINISHED)
    assert "SORT_MERGE" in str(plan["queryPlanner"]["winningPlan"])
