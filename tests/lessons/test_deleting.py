import asyncio

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStatus
from lms.outbox.documents import Event
from tests.conftest import ClientFor
from tests.outline.trees import a_deep_course, check_gap_free, stored


@pytest.fixture
async def deep(ivy: User) -> Course:
    return await a_deep_course(ivy.id).insert()


async def test_a_lesson_goes_and_its_place_is_closed(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client, path = await client_for(ivy), f"/courses/{deep.id}/lessons/{deep.lessons[0].id}"
    answer = await client.delete(path, headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.content) == (204, b"")
    after = await stored(deep.id)
    check_gap_free(after)
    # The sub-module and the lesson behind it moved up; of both only the lesson shows a revision of its own.
    assert {one.title: (one.order, one.rev) for one in after.lessons} == {
        "Two": (0, 1),
        "Three": (1, 2),
        "Four": (0, 1),
        "Five": (1, 1),
    }
    assert (after.rev, after.outline_rev, after.seq) == (1, 2, 1)
    for again in (await client.delete(path), await client.get(path)):
        assert (again.status_code, again.json()["code"]) == (404, "lesson_not_found")


async def test_who_did_not_see_the_lesson_as_it_is_does_not_delete_it(
    client_for: ClientFor, ivy: User, deep: Course
) -> None:
    client, path = await client_for(ivy), f"/courses/{deep.id}/lessons/{deep.lessons[0].id}"
    await client.patch(path, json={"content": "New words."})
    late = await client.delete(path, headers={"If-Match": '"1"'})
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (412, "revision_mismatch", '"2"')
    assert len((await stored(deep.id)).lessons) == 5
    assert await Event.find_all().to_list() == []


async def test_the_job_that_releases_students_is_sent_at_once_and_once_more_later(
    client_for: ClientFor, ivy: User, deep: Course
) -> None:
    await (await client_for(ivy)).delete(f"/courses/{deep.id}/lessons/{deep.lessons[0].id}")
    events = sorted(await Event.find_all().to_list(), key=lambda event: str(event.due))
    data = {"course_id": str(deep.id), "lesson_ids": deep.lessons[0].id}
    assert [(one.kind, one.todo, one.data) for one in events] == [
        ("lessons.deleted", ["release_deleted_lessons"], data)
    ] * 2
    first, second = [one.due for one in events]
    assert first is not None
    assert second is not None
    assert (second - first).total_seconds() >= 300


@pytest.mark.parametrize("status", CourseStatus)
async def test_a_published_course_keeps_its_last_required_lesson(
    client_for: ClientFor, ivy: User, course: Course, status: CourseStatus
) -> None:
    client = await client_for(ivy)
    first, last = [f"/courses/{course.id}/lessons/{one.id}" for one in course.lessons]
    assert (await client.patch(first, json={"required": False})).status_code == 200
    await course.set({"status": status})
    for answer in (await client.patch(last, json={"required": False, "title": "X"}), await client.delete(last)):
        if status is CourseStatus.PUBLISHED:
            assert (answer.status_code, answer.json()["code"]) == (409, "last_required_lesson")
        else:
            assert answer.status_code in {200, 204}
    if status is CourseStatus.PUBLISHED:
        assert (await client.delete(first)).status_code == 204
        assert [one.required for one in (await stored(course.id)).lessons] == [True]


async def test_of_two_required_lessons_that_become_optional_at_once_one_stays_required(
    client_for: ClientFor, ivy: User, ada: User, course: Course
) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    paths = [f"/courses/{course.id}/lessons/{one.id}" for one in course.lessons]
    answers = await asyncio.gather(
        authors[0].patch(paths[0], json={"required": False}), authors[1].patch(paths[1], json={"required": False})
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert sorted(one.required for one in (await stored(course.id)).lessons) == [False, True]


async def test_of_two_required_lessons_deleted_at_once_one_stays(
    client_for: ClientFor, ivy: User, ada: User, course: Course
) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    paths = [f"/courses/{course.id}/lessons/{one.id}" for one in course.lessons]
    answers = await asyncio.gather(*(author.delete(path) for author, path in zip(authors, paths, strict=True)))
    assert sorted(answer.status_code for answer in answers) == [204, 409]
    check_gap_free(await stored(course.id))
