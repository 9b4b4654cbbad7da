import asyncio

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from lms.enrollments.documents import Enrollment
from tests.build import a_course
from tests.conftest import ClientFor, HeldClock

STATUSES = list(CourseStatus)
STEPS = {
    "publish": CourseStatus.PUBLISHED,
    "unpublish": CourseStatus.DRAFT,
    "archive": CourseStatus.ARCHIVED,
}


async def stored(course: Course) -> Course:
    found = await Course.get(course.id)
    assert found is not None
    return found


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("step", STEPS)
async def test_a_step_leads_to_its_status_from_every_other(
    client_for: ClientFor, ivy: User, course: Course, held_clock: HeldClock, step: str, status: CourseStatus
) -> None:
    await course.set({"status": status})
    held_clock.advance(days=1)
    answer = await (await client_for(ivy)).post(f"/courses/{course.id}/{step}")
    body, changed, after = answer.json(), STEPS[step] != status, await stored(course)
    assert (answer.status_code, body["status"]) == (200, STEPS[step])
    assert body["is_published"] is (step == "publish")
    assert [lesson["id"] for lesson in body["lessons"]] == [lesson.id for lesson in course.lessons]
    assert answer.headers["etag"] == ('"2.1"' if changed else '"1.1"')
    assert (after.rev, after.seq) == ((2, 1) if changed else (1, 0))
    assert (after.updated_at == held_clock.now) is changed
    assert after.published_at == (held_clock.now if changed and step == "publish" else None)


async def test_a_step_done_again_changes_nothing(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    for step in ("unpublish", "publish", "archive"):
        answers = [await client.post(f"/courses/{course.id}/{step}") for _ in range(2)]
        assert answers[0].json() == answers[1].json()
        assert answers[0].headers["etag"] == answers[1].headers["etag"]
    assert (await stored(course)).rev == 4


async def test_parallel_steps_are_one_change(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(*(client.post(f"/courses/{course.id}/archive") for _ in range(6)))
    assert {(answer.status_code, answer.headers["etag"]) for answer in answers} == {(200, '"2.1"')}
    assert (await stored(course)).rev == 2


@pytest.mark.parametrize("status", [CourseStatus.DRAFT, CourseStatus.ARCHIVED])
async def test_a_course_without_lessons_cannot_be_published(
    client_for: ClientFor, ivy: User, status: CourseStatus
) -> None:
    course = await a_course(ivy.id, lessons=0, status=status).insert()
    client = await client_for(ivy)
    answer = await client.post(f"/courses/{course.id}/publish")
    assert (answer.status_code, answer.json()["code"]) == (409, "course_not_publishable")
    assert answer.json()["missing"] == ["lessons"]
    assert (await stored(course)).status is status


async def test_a_course_that_nobody_could_complete_cannot_be_published(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    course = (await client.post("/courses", json={"title": "Tides"})).json()["id"]
    lessons = f"/courses/{course}/lessons"
    await client.post(lessons, json={"title": "Extra", "content": "Words.", "required": False})
    answer = await client.post(f"/courses/{course}/publish")
    assert (answer.status_code, answer.json()["code"]) == (409, "course_not_publishable")
    assert answer.json()["missing"] == ["required_lessons"]
    await client.post(lessons, json={"title": "Main", "content": "Words."})
    assert (await client.post(f"/courses/{course}/publish")).status_code == 200


async def test_a_repeated_key_gives_the_first_answer(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    key = {"Idempotency-Key": "archive-1"}
    first = await client.post(f"/courses/{course.id}/archive", headers=key)
    await client.post(f"/courses/{course.id}/publish")
    again = await client.post(f"/courses/{course.id}/archive", headers=key)
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    assert (await stored(course)).status is CourseStatus.PUBLISHED


async def test_administrators_and_co_instructors_do_it_too(
    client_for: ClientFor, oscar: User, ada: User, course: Course
) -> None:
    await course.set({"co_instructor_ids": [oscar.id]})
    for person, step in ((oscar, "unpublish"), (ada, "publish"), (oscar, "archive")):
        assert (await (await client_for(person)).post(f"/courses/{course.id}/{step}")).status_code == 200


@pytest.mark.parametrize("step", ["unpublish", "archive"])
async def test_newcomers_lose_sight_of_it_and_who_is_enrolled_reads_on_and_finishes(
    client_for: ClientFor, ivy: User, sam: User, stella: User, course: Course, step: str
) -> None:
    student, newcomer = await client_for(sam), await client_for(stella)
    enrollment = (await student.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    await (await client_for(ivy)).post(f"/courses/{course.id}/{step}")
    lesson = f"/courses/{course.id}/lessons/{course.lessons[1].id}"
    for path in (f"/courses/{course.id}", f"/courses/slug/{course.slug}", f"/courses/{course.id}/lessons", lesson):
        assert (await student.get(path)).status_code == 200
        refused = await newcomer.get(path)
        assert (refused.status_code, refused.json()["code"]) == (404, "course_not_found")
    assert (await newcomer.get("/courses")).json()["total"] == 0
    for one in course.lessons:
        done = await student.post(f"/enrollments/{enrollment}/lessons/{one.id}/complete")
        assert done.status_code == 200
    found = await Enrollment.get(enrollment)
    assert found is not None
    assert (found.status, found.percent) == ("completed", 100)
    assert (await student.get(lesson)).json()["content"] == course.lessons[1].content


async def test_all_that_is_missing_is_told_with_its_place(client_for: ClientFor, ivy: User, course: Course) -> None:
    empty = {"required": False, "content": " \n"}
    lessons = [one.model_dump() | empty for one in course.lessons]
    await course.set({"status": CourseStatus.DRAFT, "lessons": lessons[::-1]})
    answer = await (await client_for(ivy)).post(f"/courses/{course.id}/publish")
    assert (answer.status_code, answer.json()["code"]) == (409, "course_not_publishable")
    assert answer.json()["missing"] == ["required_lessons", "lesson_content"]
    # Places are those of the course as it is read, whose lessons are in order.
    assert [(one["pointer"], one["message"]) for one in answer.json()["errors"]] == [
        ("#/lessons", "No lesson is required."),
        ("#/lessons/0/content", "There is nothing to read in Lesson 1."),
        ("#/lessons/1/content", "There is nothing to read in Lesson 2."),
    ]
    assert (await stored(course)).status is CourseStatus.DRAFT


@pytest.mark.parametrize("step", STEPS)
async def test_who_did_not_see_the_current_course_takes_no_step(
    client_for: ClientFor, ivy: User, course: Course, step: str
) -> None:
    client = await client_for(ivy)
    await client.patch(f"/courses/{course.id}", json={"title": "New"})
    late = await client.post(f"/courses/{course.id}/{step}", headers={"If-Match": '"1.1"'})
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (412, "revision_mismatch", '"2.1"')
    assert late.json()["current"] == {"status": "published"}
    seen = await client.post(f"/courses/{course.id}/{step}", headers={"If-Match": '"2.1"'})
    assert (seen.status_code, seen.json()["status"]) == (200, STEPS[step])
