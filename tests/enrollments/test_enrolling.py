import asyncio
from collections import Counter

import httpx

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from lms.enrollments.documents import Enrollment
from tests.build import a_course, a_lesson
from tests.commands import Commands
from tests.conftest import ClientFor


async def test_a_student_enrols_and_the_required_lessons_are_pinned(
    client_for: ClientFor, sam: User, ivy: User, course: Course
) -> None:
    extra = a_lesson("Extra", course.modules[0].id, 2, required=False)
    await course.update({"$push": {"lessons": extra.model_dump()}})
    response = await (await client_for(sam)).post("/enrollments", json={"course_id": str(course.id)})
    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == f"/api/v1/enrollments/{body['id']}"
    assert body["status"] == "active"
    assert set(body["progress"]) == {lesson.id for lesson in course.lessons} - {extra.id}
    assert body["course"]["instructor"] == {"id": str(ivy.id), "full_name": "Ivy Okafor"}


async def test_enrolling_twice_names_the_enrolment(client_for: ClientFor, sam: User, course: Course) -> None:
    client = await client_for(sam)
    first = await client.post("/enrollments", json={"course_id": str(course.id)})
    again = await client.post("/enrollments", json={"course_id": str(course.id)})
    assert (again.status_code, again.json()["code"]) == (409, "already_enrolled")
    assert again.json()["enrollment_id"] == first.json()["id"]


async def test_of_fifty_parallel_enrolments_one_wins_and_all_others_name_it(
    client_for: ClientFor, sam: User, course: Course
) -> None:
    client = await client_for(sam)
    answers = await asyncio.gather(
        *(client.post("/enrollments", json={"course_id": str(course.id)}) for _ in range(50))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 49}
    winner = next(answer.json()["id"] for answer in answers if answer.status_code == 201)
    assert {answer.json()["enrollment_id"] for answer in answers if answer.status_code == 409} == {winner}
    assert await Enrollment.count() == 1


async def test_a_visitor_must_sign_in(client: httpx.AsyncClient, course: Course) -> None:
    response = await client.post("/enrollments", json={"course_id": str(course.id)})
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_draft_is_unknown_to_students_and_not_open_to_its_staff(
    client_for: ClientFor, sam: User, ivy: User, ada: User
) -> None:
    draft = await a_course(ivy.id, status=CourseStatus.DRAFT).insert()
    body = {"course_id": str(draft.id)}
    hidden = await (await client_for(sam)).post("/enrollments", json=body)
    assert (hidden.status_code, hidden.json()["code"]) == (404, "course_not_found")
    for staff in (ivy, ada):
        closed = await (await client_for(staff)).post("/enrollments", json=body)
        assert (closed.status_code, closed.json()["code"]) == (409, "course_not_open")
    unknown = await (await client_for(sam)).post("/enrollments", json={"course_id": str(sam.id)})
    assert unknown.json() | {"request_id": ""} == hidden.json() | {"request_id": ""}


async def test_a_repeated_key_gives_the_first_answer(client_for: ClientFor, sam: User, course: Course) -> None:
    client = await client_for(sam)
    client.headers["Idempotency-Key"] = "enrol-1"
    first = await client.post("/enrollments", json={"course_id": str(course.id)})
    again = await client.post("/enrollments", json={"course_id": str(course.id)})
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["location"] == first.headers["location"]


async def test_after_a_drop_the_same_enrolment_starts_again(client_for: ClientFor, sam: User, course: Course) -> None:
    client = await client_for(sam)
    first = (await client.post("/enrollments", json={"course_id": str(course.id)})).json()
    lesson = course.lessons[0].id
    await client.post(f"/enrollments/{first['id']}/lessons/{lesson}/complete")
    assert (await client.delete(f"/enrollments/{first['id']}")).status_code == 204
    assert (await client.delete(f"/enrollments/{first['id']}")).status_code == 204
    late = await client.post(f"/enrollments/{first['id']}/lessons/{lesson}/complete")
    assert (late.status_code, late.json()["code"]) == (409, "enrollment_not_active")
    again = await client.post("/enrollments", json={"course_id": str(course.id)})
    assert (again.status_code, again.json()["id"], again.json()["percent"]) == (201, first["id"], 0)
    assert again.json()["progress"][lesson]["epoch"] == 1
    stale = await client.put(
        f"/enrollments/{first['id']}/lessons/{lesson}/progress", json={"state": "completed", "epoch": 0}
    )
    assert (stale.json()["result"], stale.json()["progress"]["state"]) == ("stale", "not_started")


async def test_what_is_completed_cannot_be_dropped(client_for: ClientFor, sam: User, course: Course) -> None:
    client = await client_for(sam)
    enrollment = (await client.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    for lesson in course.lessons:
        await client.post(f"/enrollments/{enrollment}/lessons/{lesson.id}/complete")
    response = await client.delete(f"/enrollments/{enrollment}")
    assert (response.status_code, response.json()["code"]) == (409, "enrollment_completed")


async def test_every_transition_takes_the_students_next_number(
    client_for: ClientFor, sam: User, course: Course, ivy: User
) -> None:
    client = await client_for(sam)
    other = await a_course(ivy.id, "Second course").insert()
    seen: list[int] = []
    for one in (course, other):
        created = (await client.post("/enrollments", json={"course_id": str(one.id)})).json()["id"]
        stored = await Enrollment.get(created)
        seen.append(stored.seq if stored else 0)
        await client.delete(f"/enrollments/{created}")
        stored = await Enrollment.get(created)
        seen.append(stored.seq if stored else 0)
    assert seen == [1, 2, 3, 4]


async def test_my_list_has_only_mine_filters_and_pages(
    client_for: ClientFor, sam: User, stella: User, ivy: User
) -> None:
    courses = [await a_course(ivy.id, f"Course {number}").insert() for number in range(3)]
    sams, stellas = await client_for(sam), await client_for(stella)
    for course in courses:
        await sams.post("/enrollments", json={"course_id": str(course.id)})
    await stellas.post("/enrollments", json={"course_id": str(courses[0].id)})
    first = await sams.get("/enrollments", params={"page_size": 2})
    assert [item["course"]["title"] for item in first.json()["items"]] == ["Course 2", "Course 1"]
    assert (first.json()["total"], first.json()["pages"]) == (3, 2)
    one = await sams.get("/enrollments", params={"course_id": str(courses[1].id), "status": "active"})
    assert [item["course"]["title"] for item in one.json()["items"]] == ["Course 1"]
    assert (await stellas.get("/enrollments")).json()["total"] == 1


async def test_a_list_of_enrolments_costs_two_commands(
    client_for: ClientFor, sam: User, course: Course, commands: Commands
) -> None:
    client = await client_for(sam)
    await client.post("/enrollments", json={"course_id": str(course.id)})
    await client.get("/enrollments")
    commands.seen.clear()
    await client.get("/enrollments")
    # The enrolments, then their courses with the instructors. A page that is not full needs no counting.
    assert commands.names == ["find", "aggregate"]


async def test_others_see_no_enrolment_of_mine(
    client_for: ClientFor, sam: User, stella: User, oscar: User, ivy: User, ada: User, course: Course
) -> None:
    sams = await client_for(sam)
    enrollment = (await sams.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    for outsider in (stella, oscar):
        client = await client_for(outsider)
        lesson = f"/enrollments/{enrollment}/lessons/{course.lessons[0].id}"
        answers = [
            await client.get(f"/enrollments/{enrollment}"),
            await client.delete(f"/enrollments/{enrollment}"),
            await client.put(f"{lesson}/progress", json={"state": "completed"}),
            await client.post(f"{lesson}/complete"),
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert {answer.json()["code"] for answer in answers} == {"enrollment_not_found"}
    for staff in (ivy, ada):
        assert (await (await client_for(staff)).get(f"/enrollments/{enrollment}")).status_code == 200
        dropped = await (await client_for(staff)).delete(f"/enrollments/{enrollment}")
        assert dropped.status_code == 404
    assert (await sams.get(f"/enrollments/{enrollment}")).json()["percent"] == 0
