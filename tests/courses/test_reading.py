from typing import Any
from uuid import uuid4

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course, CourseStats, CourseStatus, Module
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from lms.web.lists import encode_cursor
from tests.build import a_course, a_lesson, a_user
from tests.conftest import ClientFor

HIDDEN = [CourseStatus.DRAFT, CourseStatus.ARCHIVED]


@pytest.fixture
async def colleague() -> User:
    """Helps Ivy with her courses."""
    return await a_user("Colin", Role.INSTRUCTOR).insert()


@pytest.fixture
async def draft(ivy: User, colleague: User) -> Course:
    return await a_course(ivy.id, "A draft", status=CourseStatus.DRAFT, co_instructor_ids=[colleague.id]).insert()


async def test_everybody_reads_a_published_course(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, course: Course
) -> None:
    for reader in (client, await client_for(sam)):
        answer = await reader.get(f"/courses/{course.id}")
        assert (answer.status_code, answer.json()["title"], answer.json()["is_published"]) == (200, course.title, True)
        assert answer.headers["etag"] == '"1.1"'


async def test_by_slug_it_is_the_same(client: httpx.AsyncClient, ivy: User) -> None:
    course = await a_course(ivy.id, "हिन्दी की किताब").insert()
    by_id = await client.get(f"/courses/{course.id}")
    by_slug = await client.get(f"/courses/slug/{course.slug}")
    assert (by_slug.json(), by_slug.headers["etag"]) == (by_id.json(), by_id.headers["etag"])
    unknown = await client.get("/courses/slug/nothing-of-that-name")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "course_not_found")


@pytest.mark.parametrize("status", HIDDEN)
async def test_a_hidden_course_is_read_by_its_staff_and_administrators(
    client_for: ClientFor, ivy: User, colleague: User, ada: User, draft: Course, status: CourseStatus
) -> None:
    await draft.set({"status": status})
    for person in (ivy, colleague, ada):
        client = await client_for(person)
        for path in (f"/courses/{draft.id}", f"/courses/slug/{draft.slug}", f"/courses/{draft.id}/lessons"):
            assert (await client.get(path)).status_code == 200
        answer = await client.get(f"/courses/{draft.id}")
        assert (answer.json()["status"], answer.json()["is_published"]) == (status, False)


def writes(course_id: Any, lesson_id: str) -> list[tuple[str, str, Any]]:
    """Every way to change a course, each with a body that its staff may send."""
    base = f"/courses/{course_id}"
    return [
        ("PATCH", base, {"title": "Mine now"}),
        ("PATCH", base, {}),
        ("POST", f"{base}/publish", None),
        ("POST", f"{base}/unpublish", None),
        ("POST", f"{base}/archive", None),
        ("POST", f"{base}/modules", {"title": "Module"}),
        ("POST", f"{base}/lessons", {"title": "Lesson"}),
        ("PATCH", f"{base}/lessons/{lesson_id}", {"title": "Mine now"}),
        ("PATCH", f"{base}/lessons/no-such-lesson", {"title": "Mine now"}),
    ]


@pytest.mark.parametrize("status", HIDDEN)
async def test_to_anybody_else_a_hidden_course_is_as_unknown_as_one_that_never_was(
    client: httpx.AsyncClient, client_for: ClientFor, oscar: User, sam: User, draft: Course, status: CourseStatus
) -> None:
    await draft.set({"status": status})
    before = await Course.get(draft.id)
    lesson = draft.lessons[0].id
    for person in (None, sam, oscar):
        reader = client if person is None else await client_for(person)
        for course_id, slug in ((draft.id, draft.slug), (uuid4(), "never-was")):
            base = f"/courses/{course_id}"
            reads = [base, f"/courses/slug/{slug}", f"{base}/lessons", f"{base}/lessons/{lesson}"]
            asked: list[tuple[str, str, Any]] = [("GET", path, None) for path in reads]
            if person is oscar:
                asked += writes(course_id, lesson)
            for method, path, body in asked:
                answer = await reader.request(method, path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found"), f"{method} {path}"
    assert await Course.get(draft.id) == before


async def test_another_instructor_changes_nothing_of_a_published_course(
    client_for: ClientFor, oscar: User, course: Course
) -> None:
    before = await Course.get(course.id)
    client = await client_for(oscar)
    for method, path, body in writes(course.id, course.lessons[0].id):
        answer = await client.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_course_staff"), f"{method} {path}"
    assert await Course.get(course.id) == before


async def test_students_and_visitors_change_nothing(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, course: Course
) -> None:
    before = await Course.get(course.id)
    student = await client_for(sam)
    for method, path, body in writes(course.id, course.lessons[0].id):
        refused = await student.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_role"), f"{method} {path}"
        unknown = await client.request(method, path, json=body)
        assert (unknown.status_code, unknown.json()["code"]) == (401, "unauthenticated"), f"{method} {path}"
    assert await Course.get(course.id) == before


@pytest.mark.parametrize("course_id", ["1", "x" * 36, "0190a3e4-7b1c-7d2e-8f3a-4b5c6d7e8f9", "%24ne", "null"])
async def test_a_malformed_id_is_unknown(client: httpx.AsyncClient, course_id: str) -> None:
    for path in (f"/courses/{course_id}", f"/courses/{course_id}/lessons", f"/courses/{course_id}/lessons/x"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_the_outline_is_in_order_and_without_bodies(client: httpx.AsyncClient, ivy: User) -> None:
    one, two, inner = Module(title="One", order=0), Module(title="Two", order=1), Module(title="Inner", order=1)
    inner.parent_id = one.id
    lessons = [
        a_lesson("Fourth", two.id, 0, video_url="https://media.school.example/a.mp4"),
        a_lesson("Third", one.id, 2),
        a_lesson("Second", inner.id, 0),
        a_lesson("First", one.id, 0, required=False, metadata={"a": 1}),
    ]
    course = await a_course(ivy.id, modules=[two, inner, one]).insert()
    await course.set({"lessons": [lesson.model_dump() for lesson in lessons]})
    answer = await client.get(f"/courses/{course.id}")
    body = answer.json()
    assert [module["title"] for module in body["modules"]] == ["One", "Inner", "Two"]
    assert body["modules"][1] == {"id": inner.id, "title": "Inner", "parent_id": one.id, "order": 1}
    assert [lesson["title"] for lesson in body["lessons"]] == ["First", "Second", "Third", "Fourth"]
    assert body["lessons"][0] == {
        "id": lessons[3].id,
        "module_id": one.id,
        "title": "First",
        "slug": "first",
        "content_type": "text",
        "duration_minutes": 5,
        "order": 0,
        "preview": False,
        "required": False,
        "metadata": {"a": 1},
    }
    assert "Read this" not in answer.text
    listed = await client.get(f"/courses/{course.id}/lessons")
    assert (listed.json()["items"], listed.json()["total"]) == (body["lessons"], 4)
    paged = await client.get(f"/courses/{course.id}/lessons?page=2&page_size=3")
    assert paged.json()["items"] == body["lessons"][3:]
    first = (await client.get(f"/courses/{course.id}/lessons?page_size=3&cursor=")).json()
    rest = (await client.get(f"/courses/{course.id}/lessons?page_size=3&cursor={first['next_cursor']}")).json()
    assert (first["items"] + rest["items"], rest["next_cursor"]) == (body["lessons"], None)
    foreign = encode_cursor("title,_id", [0])
    refused = await client.get(f"/courses/{course.id}/lessons?cursor={foreign}")
    assert (refused.status_code, refused.json()["code"]) == (422, "validation_failed")


async def test_a_reader_who_has_it_gets_a_304(client: httpx.AsyncClient, course: Course) -> None:
    path = f"/courses/{course.id}"
    for wanted in ('"1.1"', 'W/"1.1"', "*", '"0.0", "1.1"'):
        answer = await client.get(path, headers={"If-None-Match": wanted})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", '"1.1"')
    assert (await client.get(path, headers={"If-None-Match": '"1.0"'})).status_code == 200


async def test_who_may_not_see_it_gets_no_304(client: httpx.AsyncClient, draft: Course) -> None:
    answer = await client.get(f"/courses/{draft.id}", headers={"If-None-Match": '"1.1"'})
    assert (answer.status_code, answer.json()["code"]) == (404, "course_not_found")


async def test_counters_do_not_change_the_etag(client: httpx.AsyncClient, course: Course) -> None:
    before = await client.get(f"/courses/{course.id}")
    await CourseStats(id=course.id, enrolled=5, rating_sum=9, rating_count=2).insert()
    after = await client.get(f"/courses/{course.id}")
    assert before.headers["etag"] == after.headers["etag"]
    assert (before.json()["enrollment_count"], after.json()["enrollment_count"]) == (0, 5)
    assert (before.json()["average_rating"], after.json()["average_rating"]) == (None, 4.5)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (EnrollmentStatus.ACTIVE, 200),
        (EnrollmentStatus.COMPLETED, 200),
        (EnrollmentStatus.DROPPED, 404),
        (EnrollmentStatus.EXPIRED, 404),
        (EnrollmentStatus.PENDING, 404),
    ],
)
async def test_who_is_enrolled_goes_on_reading_a_hidden_course(
    client_for: ClientFor, sam: User, stella: User, draft: Course, status: EnrollmentStatus, found: int
) -> None:
    await Enrollment(student_id=sam.id, course_id=draft.id, status=status).insert()
    paths = [f"/courses/{draft.id}", f"/courses/slug/{draft.slug}", f"/courses/{draft.id}/lessons"]
    paths.append(f"/courses/{draft.id}/lessons/{draft.lessons[1].id}")
    for path in paths:
        assert (await (await client_for(sam)).get(path)).status_code == found, path
        assert (await (await client_for(stella)).get(path)).status_code == 404, path


async def test_a_bad_token_on_a_public_read_is_a_visitor_who_hears_of_it(
    client: httpx.AsyncClient, course: Course, draft: Course
) -> None:
    headers = {"Authorization": "Bearer x.y.z"}
    answer = await client.get(f"/courses/{course.id}", headers=headers)
    assert (answer.status_code, answer.json()["id"]) == (200, str(course.id))
    assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    hidden = await client.get(f"/courses/{draft.id}", headers=headers)
    assert (hidden.status_code, hidden.json()["code"]) == (401, "unauthenticated")
