"""Promise 4: who has done everything but a lesson that goes is done, once, and what was recorded stays."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.enrollments import tasks
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.enrollments.rules import COMPLETED, IN_PROGRESS, pins_of
from lms.enrollments.tasks import emit_lessons_deleted, release_deleted_lessons
from lms.mail import Mailer
from lms.outbox.documents import Event
from lms.outbox.jobs import JobContext, Outcome, run_job
from lms.settings import Settings
from lms.transactions import in_transaction
from tests.build import a_lesson
from tests.conftest import ClientFor

JOB = release_deleted_lessons.name


@pytest.fixture
def context(settings: Settings) -> JobContext:
    return JobContext(settings, Mailer(settings))


@pytest.fixture
async def three(course: Course) -> Course:
    """The course with three required lessons."""
    more = a_lesson("Lesson 3", course.modules[0].id, 2)
    await course.update({"$push": {"lessons": more.model_dump()}})
    found = await Course.get(course.id)
    assert found is not None
    return found


async def a_student(
    course: Course, states: list[int], status: EnrollmentStatus = EnrollmentStatus.ACTIVE, student: UUID | None = None
) -> UUID:
    """An enrolment that has its lessons in these states; its percent is as reports left it."""
    progress = pins_of([one.model_dump() for one in course.lessons])
    for entry, state in zip(progress.values(), states, strict=True):
        entry["state"] = state
    percent = states.count(COMPLETED) * 100 // len(states)
    made = Enrollment(student_id=student or uuid4(), course_id=course.id, status=status, percent=percent).as_stored()
    await Enrollment.get_pymongo_collection().insert_one(made | {"progress": progress})
    return made["_id"]


async def raw(enrollment_id: UUID) -> dict[str, Any]:
    found = await Enrollment.get_pymongo_collection().find_one({"_id": enrollment_id})
    assert found is not None
    return found


async def deleted(course: Course, *numbers: int) -> Event:
    """The event of these lessons being deleted, the one that is due at once."""
    ids = [course.lessons[number].id for number in numbers]
    await in_transaction(lambda session: emit_lessons_deleted(course.id, ids, session))
    event = await Event.find({"kind": "lessons.deleted"}).sort("due").first_or_none()
    assert event is not None
    return event


async def completions() -> list[str]:
    events = await Event.find({"kind": "enrollment.completed"}).to_list()
    return sorted(str(one.data["enrollment_id"]) for one in events)


async def test_from_the_deletion_to_the_certificates_event(
    client_for: ClientFor, ivy: User, sam: User, stella: User, course: Course, context: JobContext
) -> None:
    student, other = await client_for(sam), await client_for(stella)
    done, begun = [
        (await one.post("/enrollments", json={"course_id": str(course.id)})).json()["id"] for one in (student, other)
    ]
    await student.post(f"/enrollments/{done}/lessons/{course.lessons[0].id}/complete")
    await student.put(
        f"/enrollments/{done}/lessons/{course.lessons[1].id}/progress",
        json={"position_seconds": 40, "watched": [[0, 40]]},
    )
    gone = await (await client_for(ivy)).delete(f"/courses/{course.id}/lessons/{course.lessons[1].id}")
    assert gone.status_code == 204
    events = await Event.find({"kind": "lessons.deleted"}).to_list()
    assert [await run_job(JOB, event.id, context) for event in events] == [Outcome.DONE] * 2
    after = (await student.get(f"/enrollments/{done}")).json()
    assert (after["status"], after["percent"]) == ("completed", 100)
    kept = after["progress"][course.lessons[1].id]
    assert (kept["state"], kept["position_seconds"], kept["watched"]) == ("in_progress", 40, [[0, 40]])
    assert kept["required"] is False
    untouched = (await other.get(f"/enrollments/{begun}")).json()
    assert (untouched["status"], untouched["percent"]) == ("active", 0)
    assert await completions() == [done]
    assert await Event.find({"kind": "lessons.deleted"}).count() == 0


async def test_percent_follows_and_only_who_is_done_completes(three: Course, context: JobContext) -> None:
    halfway = await a_student(three, [COMPLETED, 0, IN_PROGRESS])
    done = await a_student(three, [COMPLETED, COMPLETED, IN_PROGRESS])
    event = await deleted(three, 2)
    assert await run_job(JOB, event.id, context) is Outcome.DONE
    assert [(one["status"], one["percent"]) for one in (await raw(halfway), await raw(done))] == [
        ("active", 50),
        ("completed", 100),
    ]
    assert await completions() == [str(done)]
    finished = await raw(done)
    assert finished["completed_at"] == finished["changed_at"]
    assert (finished["seq"], finished["certificate_issued"]) == (1, False)


@pytest.mark.parametrize("status", [EnrollmentStatus.COMPLETED, EnrollmentStatus.DROPPED])
async def test_the_finished_and_the_dropped_stay_as_they_are(
    three: Course, context: JobContext, status: EnrollmentStatus
) -> None:
    before = await raw(await a_student(three, [COMPLETED, COMPLETED, COMPLETED], status))
    assert await run_job(JOB, (await deleted(three, 0)).id, context) is Outcome.DONE
    assert await raw(before["_id"]) == before
    assert await completions() == []


async def test_who_has_nothing_left_to_do_is_not_done(three: Course, context: JobContext) -> None:
    student = await a_student(three, [IN_PROGRESS, 0, 0])
    assert await run_job(JOB, (await deleted(three, 0, 1, 2)).id, context) is Outcome.DONE
    after = await raw(student)
    assert (after["status"], after["percent"]) == ("active", 0)
    assert [entry["state"] for entry in after["progress"].values()] == [IN_PROGRESS, 0, 0]


async def test_other_courses_have_nothing_to_do_with_it(
    course: Course, three: Course, context: JobContext, ivy: User
) -> None:
    other = three.model_copy(update={"id": uuid4()})
    elsewhere = await a_student(other, [COMPLETED, COMPLETED, 0])
    before = await raw(elsewhere)
    assert await run_job(JOB, (await deleted(three, 2)).id, context) is Outcome.DONE
    assert await raw(elsewhere) == before


async def test_a_crash_between_any_two_steps_is_made_good_by_the_next_run(
    three: Course, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of two, and after every single command of a run the worker is gone."""
    monkeypatch.setattr(tasks, "BATCH", 2)
    students = [await a_student(three, [COMPLETED, COMPLETED, 0]) for _ in range(5)]
    event = await deleted(three, 2)
    lesson_ids = [three.lessons[2].id]
    assert await tasks.release_some(three.id, lesson_ids, None) == students[1]
    assert [(await raw(one))["status"] for one in students].count("completed") == 2
    # The third is released but not completed.
    released = {"$set": {f"progress.{lesson_ids[0]}.required": False, "percent": 100}}
    await Enrollment.get_pymongo_collection().update_one({"_id": students[2]}, released)
    assert await run_job(JOB, event.id, context) is Outcome.DONE
    assert {(await raw(one))["status"] for one in students} == {"completed"}
    assert await completions() == sorted(str(one) for one in students)


async def test_a_run_that_takes_too_long_goes_on_later_with_all_its_attempts(
    three: Course, context: JobContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BATCH", 1)
    monkeypatch.setattr(tasks, "SHARE", 0)
    students = [await a_student(three, [COMPLETED, COMPLETED, 0]) for _ in range(3)]
    event = await deleted(three, 2)
    runs = 0
    while await Event.get(event.id) is not None:
        assert await run_job(JOB, event.id, context) is Outcome.DONE
        runs += 1
        row = await Event.get(event.id)
        if row is not None:
            assert (row.attempts, row.todo) == (0, [JOB])
            assert row.data == {**event.data, "after": str(students[runs - 1])}
    assert runs == 4
    assert await completions() == sorted(str(one) for one in students)


async def test_copies_of_the_job_and_reports_at_once_complete_each_once(
    client_for: ClientFor, sam: User, three: Course, context: JobContext
) -> None:
    mine = await a_student(three, [COMPLETED, 0, 0], student=sam.id)
    others = [await a_student(three, [COMPLETED, COMPLETED, 0]) for _ in range(4)]
    first, second = await deleted(three, 2), await Event.find({"kind": "lessons.deleted"}).sort("-due").first_or_none()
    assert second is not None
    student = await client_for(sam)
    reported, *outcomes = await asyncio.gather(
        student.post(f"/enrollments/{mine}/lessons/{three.lessons[1].id}/complete"),
        run_job(JOB, first.id, context),
        run_job(JOB, second.id, context),
    )
    assert (reported.status_code, outcomes) == (200, [Outcome.DONE] * 2)
    assert {(await raw(one))["status"] for one in (mine, *others)} == {"completed"}
    assert await completions() == sorted(str(one) for one in (mine, *others))


async def test_an_enrolment_that_came_late_with_the_old_pins_is_found_by_the_second_event(
    three: Course, context: JobContext
) -> None:
    first = await deleted(three, 2)
    assert await run_job(JOB, first.id, context) is Outcome.DONE
    late = await a_student(three, [COMPLETED, COMPLETED, 0])
    second = await Event.find_one({"kind": "lessons.deleted"})
    assert second is not None
    assert await run_job(JOB, second.id, context) is Outcome.DONE
    assert (await raw(late))["status"] == "completed"


async def test_many_lessons_are_several_events(three: Course) -> None:
    ids = [f"lesson{n:06}" for n in range(120)]
    await in_transaction(lambda session: emit_lessons_deleted(three.id, ids, session))
    told = [str(one.data["lesson_ids"]).split() for one in await Event.find_all().to_list()]
    assert sorted(len(one) for one in told) == [20, 20, 50, 50, 50, 50]
    assert {one for some in told for one in some} == set(ids)
