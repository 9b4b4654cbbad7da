import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course
from lms.enrollments.documents import Enrollment, EnrollmentStatus
from tests.build import a_lesson, a_user
from tests.conftest import ClientFor

CHANGES = {
    "title": "Ebb",
    "slug": "ebb",
    "content_type": "embed",
    "content": "New words.",
    "video_url": "https://media.school.example/ebb.mp4",
    "duration_minutes": 9,
    "preview": True,
    "required": False,
    "metadata": {"$a.b": 1},
}


def path_of(course: Course, number: int) -> str:
    return f"/courses/{course.id}/lessons/{course.lessons[number].id}"


async def stored(course_id: UUID) -> Course:
    found = await Course.get(course_id)
    assert found is not None
    return found


async def refused(client: httpx.AsyncClient, path: str) -> tuple[int, str]:
    answer = await client.get(path)
    assert "content" not in answer.json()
    return answer.status_code, answer.json()["code"]


async def test_staff_read_every_body(client_for: ClientFor, ivy: User, ada: User, course: Course) -> None:
    colleague = await a_user("Colin", Role.INSTRUCTOR).insert()
    await course.set({"co_instructor_ids": [colleague.id]})
    for person in (ivy, colleague, ada):
        for number, lesson in enumerate(course.lessons):
            answer = await (await client_for(person)).get(path_of(course, number))
            assert (answer.status_code, answer.json()["content"]) == (200, lesson.content)
            assert answer.headers["etag"] == '"1"'


async def test_a_preview_is_for_everybody_and_the_rest_is_not(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User, oscar: User, course: Course
) -> None:
    preview, closed = path_of(course, 0), path_of(course, 1)
    for reader in (client, await client_for(sam), await client_for(oscar)):
        assert (await reader.get(preview)).json()["content"] == course.lessons[0].content
    assert await refused(client, closed) == (401, "not_enrolled")
    for person in (sam, oscar):
        assert await refused(await client_for(person), closed) == (403, "not_enrolled")


@pytest.mark.parametrize("status", EnrollmentStatus)
async def test_bodies_are_for_the_active_and_the_completed(
    client_for: ClientFor, sam: User, course: Course, status: EnrollmentStatus
) -> None:
    await Enrollment(student_id=sam.id, course_id=course.id, status=status).insert()
    client = await client_for(sam)
    if status in (EnrollmentStatus.ACTIVE, EnrollmentStatus.COMPLETED):
        assert (await client.get(path_of(course, 1))).json()["content"] == course.lessons[1].content
    else:
        assert await refused(client, path_of(course, 1)) == (403, "not_enrolled")


async def test_being_enrolled_elsewhere_opens_nothing(
    client_for: ClientFor, sam: User, stella: User, ivy: User, course: Course
) -> None:
    await Enrollment(student_id=stella.id, course_id=course.id).insert()
    await Enrollment(student_id=sam.id, course_id=ivy.id).insert()
    assert await refused(await client_for(sam), path_of(course, 1)) == (403, "not_enrolled")


@pytest.mark.parametrize("lesson", ["no-such-lesson", "aaaaaaaaaaaa", "%24ne", "x" * 500, "1.content"])
async def test_an_unknown_lesson(
    client: httpx.AsyncClient, client_for: ClientFor, ivy: User, course: Course, lesson: str
) -> None:
    path = f"/courses/{course.id}/lessons/{lesson}"
    author = await client_for(ivy)
    for answer in (await client.get(path), await author.get(path), await author.patch(path, json={"title": "X"})):
        assert (answer.status_code, answer.json()["code"]) == (404, "lesson_not_found")


async def test_a_reader_who_has_the_lesson_gets_a_304(client: httpx.AsyncClient, course: Course) -> None:
    answer = await client.get(path_of(course, 0), headers={"If-None-Match": '"1"'})
    assert (answer.status_code, answer.content) == (304, b"")
    denied = await client.get(path_of(course, 1), headers={"If-None-Match": '"1"'})
    assert (denied.status_code, denied.json()["code"]) == (401, "not_enrolled")


@pytest.mark.parametrize("name", CHANGES)
async def test_only_the_named_field_of_that_lesson_changes(
    client_for: ClientFor, ivy: User, course: Course, name: str
) -> None:
    client = await client_for(ivy)
    await course.set({"lessons.1.video_url": "https://media.school.example/old.mp4"})
    before = (await client.get(path_of(course, 1))).json()
    answer = await client.patch(path_of(course, 1), json={name: CHANGES[name]})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == before | {name: CHANGES[name]} != before
    read = await client.get(path_of(course, 1))
    assert (read.json(), read.headers["etag"]) == (answer.json(), '"2"')
    after = await stored(course.id)
    assert after.lessons[0] == course.lessons[0]
    assert (after.rev, after.outline_rev, after.seq) == (1, 2, 1)


async def test_null_clears_what_a_lesson_may_lack(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    await client.patch(path_of(course, 0), json={"video_url": "https://x.example/a.mp4", "title": "  Ebb "})
    answer = await client.patch(path_of(course, 0), json={"video_url": None, "duration_minutes": None})
    body = answer.json()
    assert (body["title"], body["video_url"], body["duration_minutes"]) == ("Ebb", None, None)
    assert (await client.get(path_of(course, 0))).json() == body


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        (dict.fromkeys(("title", "slug", "content_type", "content", "preview", "required", "metadata")), None),
        ({"order": 1, "module_id": "x", "rev": 5, "id": "x"}, None),
        ({"title": " ", "duration_minutes": 0, "content_type": "audio"}, None),
        ({"content_type": "video"}, ["#/video_url"]),
        ({"metadata": {"x": "y" * 16_384}}, None),
    ],
)
async def test_a_broken_change_is_refused(
    client_for: ClientFor, ivy: User, course: Course, body: dict[str, Any], pointers: list[str] | None
) -> None:
    answer = await (await client_for(ivy)).patch(path_of(course, 0), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    expected = pointers or [f"#/{name}" for name in body]
    assert sorted(one["pointer"] for one in answer.json()["errors"]) == sorted(expected)
    assert await Course.get(course.id) == course


async def test_a_video_keeps_its_address(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    video = {"content_type": "video", "video_url": "https://x.example/a.mp4"}
    assert (await client.patch(path_of(course, 0), json=video)).status_code == 200
    answer = await client.patch(path_of(course, 0), json={"video_url": None})
    assert [one["pointer"] for one in answer.json()["errors"]] == ["#/video_url"]


async def test_naming_nothing_changes_nothing(client_for: ClientFor, ivy: User, course: Course) -> None:
    answer = await (await client_for(ivy)).patch(path_of(course, 0), json={})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert await Course.get(course.id) == course


async def test_a_slug_of_another_lesson_is_a_conflict(client_for: ClientFor, ivy: User, course: Course) -> None:
    client, taken = await client_for(ivy), course.lessons[1].slug
    answer = await client.patch(path_of(course, 0), json={"slug": taken})
    assert (answer.status_code, answer.json()["code"], answer.json()["slug"]) == (409, "lesson_slug_taken", taken)
    assert (await client.patch(path_of(course, 1), json={"slug": taken})).status_code == 200


async def test_a_stale_tag_is_told_what_stands_there_now(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    first = await client.patch(path_of(course, 0), json={"title": "Ebb"}, headers={"If-Match": '"1"'})
    assert first.status_code == 200
    body = {"title": "Flood", "video_url": None}
    late = await client.patch(path_of(course, 0), json=body, headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (412, "revision_mismatch", '"2"')
    assert late.json()["current"] == {"title": "Ebb", "video_url": None}
    # The other lesson and the course's head are each of their own.
    assert (await client.patch(path_of(course, 1), json=body, headers={"If-Match": '"1"'})).status_code == 200
    head = await client.patch(f"/courses/{course.id}", json={"title": "X"}, headers={"If-Match": '"1.1"'})
    assert (head.status_code, head.headers["etag"]) == (200, '"2.3"')


@pytest.fixture
async def six(course: Course) -> Course:
    """The course with six lessons."""
    more = [a_lesson(f"Lesson {n + 1}", course.modules[0].id, n) for n in range(2, 6)]
    await course.update({"$push": {"lessons": {"$each": [one.model_dump() for one in more]}}})
    return await stored(course.id)


async def test_parallel_changes_of_different_lessons_lose_nothing(
    client_for: ClientFor, ivy: User, ada: User, six: Course
) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    answers = await asyncio.gather(
        *(
            authors[n % 2].patch(path_of(six, n), json={"title": f"New {n}"}, headers={"If-Match": '"1"'})
            for n in range(6)
        )
    )
    assert {(answer.status_code, answer.headers["etag"]) for answer in answers} == {(200, '"2"')}
    after = await stored(six.id)
    assert [one.title for one in after.lessons] == [f"New {n}" for n in range(6)]
    assert after.outline_rev == 7


async def test_parallel_changes_of_one_lesson_without_a_tag_lose_nothing(
    client_for: ClientFor, ivy: User, course: Course
) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(
        *(
            client.patch(path_of(course, 0), json={name: value})
            for name, value in CHANGES.items()
            if name != "content_type"
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.headers["etag"] for answer in answers) == [f'"{rev}"' for rev in range(2, 10)]
    read = (await client.get(path_of(course, 0))).json()
    assert read.items() >= {name: value for name, value in CHANGES.items() if name != "content_type"}.items()


async def test_of_parallel_changes_with_one_tag_one_wins(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(
        *(client.patch(path_of(course, 0), json={"title": f"T {n}"}, headers={"If-Match": '"1"'}) for n in range(6))
    )
    [winner] = [answer for answer in answers if answer.status_code == 200]
    losers = [answer for answer in answers if answer is not winner]
    assert {(answer.status_code, answer.headers["etag"]) for answer in losers} == {(412, '"2"')}
    assert [answer.json()["current"]["title"] for answer in losers] == [winner.json()["title"]] * 5


async def test_of_lessons_that_want_one_slug_at_once_one_gets_it(client_for: ClientFor, ivy: User, six: Course) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(*(client.patch(path_of(six, n), json={"slug": "ebb"}) for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    slugs = [one.slug for one in (await stored(six.id)).lessons]
    assert len(set(slugs)) == 6


async def test_a_lesson_added_later_is_optional_for_whoever_is_enrolled(
    client_for: ClientFor, ivy: User, sam: User, stella: User, course: Course
) -> None:
    student, newcomer = await client_for(sam), await client_for(stella)
    enrollment = (await student.post("/enrollments", json={"course_id": str(course.id)})).json()["id"]
    body = {"title": "New", "content": "Words."}
    new = (await (await client_for(ivy)).post(f"/courses/{course.id}/lessons", json=body)).json()["id"]
    assert (await student.get(f"/courses/{course.id}/lessons/{new}")).json()["content"] == "Words."
    reported = await student.post(f"/enrollments/{enrollment}/lessons/{new}/complete")
    assert (reported.status_code, reported.json()["percent"]) == (200, 0)
    assert reported.json()["progress"]["required"] is False
    pinned = (await newcomer.post("/enrollments", json={"course_id": str(course.id)})).json()["progress"]
    assert set(pinned) == {new, *(lesson.id for lesson in course.lessons)}
    done = [f"/enrollments/{enrollment}/lessons/{lesson.id}/complete" for lesson in course.lessons]
    last = [await student.post(path) for path in done][-1]
    assert (last.json()["status"], last.json()["percent"]) == ("completed", 100)
    later = (await (await client_for(ivy)).post(f"/courses/{course.id}/lessons", json={"title": "Later"})).json()["id"]
    again = (await student.get(f"/enrollments/{enrollment}")).json()
    assert (again["status"], again["percent"]) == ("completed", 100)
    assert (await student.get(f"/courses/{course.id}/lessons/{later}")).status_code == 200
