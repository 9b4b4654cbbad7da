import asyncio

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.auth import Caller
from lms.courses.documents import Course, CourseStats, CourseStatus
from lms.enrollments import service
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.transactions import client
from tests.build import a_course, a_user
from tests.conftest import ClientFor


async def test_a_course_that_nobody_enrolled_in_goes_with_its_counters(
    client_for: ClientFor, ivy: User, course: Course
) -> None:
    await CourseStats(id=course.id).insert()
    client = await client_for(ivy)
    answer = await client.delete(f"/courses/{course.id}", headers={"If-Match": '"1.1"'})
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await Course.find_all().to_list(), await CourseStats.find_all().to_list()) == ([], [])
    for again in (await client.delete(f"/courses/{course.id}"), await client.get(f"/courses/{course.id}")):
        assert (again.status_code, again.json()["code"]) == (404, "course_not_found")


@pytest.mark.parametrize("status", EnrollmentStatus)
async def test_a_course_with_enrolments_stays_and_can_be_archived(
    client_for: ClientFor, ivy: User, sam: User, stella: User, course: Course, status: EnrollmentStatus
) -> None:
    for student in (sam, stella):
        await Enrollment(student_id=student.id, course_id=course.id, status=status).insert()
    client = await client_for(ivy)
    answer = await client.delete(f"/courses/{course.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "course_has_enrollments")
    assert (answer.json()["count"], answer.json()["hint"]) == (2, "archive")
    assert await Course.get(course.id) == course
    assert (await client.post(f"/courses/{course.id}/archive")).status_code == 200


async def test_who_did_not_see_the_current_course_does_not_delete_it(
    client_for: ClientFor, ivy: User, course: Course
) -> None:
    client = await client_for(ivy)
    await client.patch(f"/courses/{course.id}", json={"title": "New"})
    late = await client.delete(f"/courses/{course.id}", headers={"If-Match": '"1.1"'})
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (412, "revision_mismatch", '"2.1"')
    assert await Course.find_all().count() == 1


async def test_co_instructors_and_administrators_delete_too(
    client_for: ClientFor, ivy: User, oscar: User, ada: User
) -> None:
    for person in (oscar, ada):
        course = await a_course(ivy.id, co_instructor_ids=[oscar.id], status=CourseStatus.DRAFT).insert()
        assert (await (await client_for(person)).delete(f"/courses/{course.id}")).status_code == 204


@pytest.mark.parametrize("number", range(6))
async def test_of_a_deletion_and_enrolments_at_once_one_side_comes_about(
    client_for: ClientFor, ivy: User, course: Course, number: int
) -> None:
    author = await client_for(ivy)
    students = [await client_for(await a_user(f"Student {n}", Role.STUDENT).insert()) for n in range(4)]

    async def enroll(student: httpx.AsyncClient) -> httpx.Response:
        return await student.post("/enrollments", json={"course_id": str(course.id)})

    async def delete() -> httpx.Response:
        return await author.delete(f"/courses/{course.id}")

    # Who is asked first has a head start, and it is another one each time.
    asked = [enroll(student) for student in students]
    asked.insert(number % 5, delete())
    answers = await asyncio.gather(*asked)
    deleted = answers.pop(number % 5)
    if deleted.status_code == 204:
        assert {(one.status_code, one.json()["code"]) for one in answers} == {(404, "course_not_found")}
        assert await Enrollment.find_all().count() == 0
    else:
        assert (deleted.status_code, deleted.json()["code"]) == (409, "course_has_enrollments")
        assert {one.status_code for one in answers} == {201}
        assert await Course.find_all().count() == 1


async def test_the_first_enrolment_marks_the_course_and_changes_nothing_else_of_it(
    client_for: ClientFor, sam: User, stella: User, course: Course
) -> None:
    for student in (sam, stella):
        answer = await (await client_for(student)).post("/enrollments", json={"course_id": str(course.id)})
        assert answer.status_code == 201
        stored = await Course.get(course.id)
        assert stored is not None
        assert stored.has_enrollments
        assert stored == course.model_copy(update={"has_enrollments": True})


async def test_an_enrolment_in_the_making_holds_a_deletion_off(
    client_for: ClientFor, ivy: User, sam: User, course: Course
) -> None:
    """As the transaction of an enrolment that has written everything and is not committed yet."""
    author = await client_for(ivy)
    async with client().start_session() as session:
        await session.start_transaction()
        caller = Caller(id=sam.id, role=sam.role, session_id=sam.id)
        await service.enroll(caller, course.id, session)
        deleting = asyncio.create_task(author.delete(f"/courses/{course.id}"))
        done, _ = await asyncio.wait({deleting}, timeout=0.3)
        assert not done
        await session.commit_transaction()
    assert (await deleting).json()["code"] == "course_has_enrollments"


async def test_a_course_whose_students_were_all_erased_stays(client_for: ClientFor, ivy: User, course: Course) -> None:
    """Who enrols now only reads the mark, so a deletion that went by the count alone would not see them."""
    await course.set({"has_enrollments": True})
    answer = await (await client_for(ivy)).delete(f"/courses/{course.id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "course_has_enrollments")
    assert (answer.json()["count"], await Course.get(course.id)) == (0, course)


async def test_no_enrolment_outlives_a_course_that_is_marked_already(
    client_for: ClientFor, ivy: User, sam: User, course: Course
) -> None:
    await course.set({"has_enrollments": True})
    author = await client_for(ivy)
    async with client().start_session() as session:
        await session.start_transaction()
        await service.enroll(Caller(id=sam.id, role=sam.role, session_id=sam.id), course.id, session)
        assert (await author.delete(f"/courses/{course.id}")).status_code == 409
        await session.commit_transaction()
    assert await Course.find_all().count() == await Enrollment.find_all().count() == 1
