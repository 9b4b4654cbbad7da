import asyncio

import pytest

from lms.accounts.documents import User
from lms.clock import utc_now
from lms.courses.documents import Course, CourseStatus, Difficulty, LoadedFrom, Module
from lms.courses.rules import MAX_COURSE_BYTES
from lms.enrollments.documents import Enrollment
from tests.build import a_course, a_lesson
from tests.conftest import ClientFor
from tests.outline.trees import a_deep_course, as_put, check_gap_free, outline_of, stored

HEAD = {
    "description": "Words.",
    "category": "biology",
    "tags": ["sea"],
    "difficulty_level": Difficulty.ADVANCED,
    "thumbnail_url": "https://media.school.example/tide.webp",
    "estimated_duration_minutes": 90,
    "metadata": {"$a.b": [1]},
}


@pytest.fixture
async def full(ivy: User, oscar: User, sam: User) -> Course:
    """Loaded, published, with a co-instructor and a student."""
    course = a_deep_course(ivy.id).model_copy(update=HEAD)
    course.co_instructor_ids = [oscar.id]
    course.source, course.source_id = "native", "deep"
    course.loaded = LoadedFrom(hash="x", loaded_at=utc_now())
    course.published_at, course.has_enrollments = utc_now(), True
    course.rev, course.outline_rev = 7, 9
    course.lessons[0].source_id, course.lessons[0].rev, course.modules[0].source_id = "one", 5, "first"
    await Enrollment(student_id=sam.id, course_id=course.id).insert()
    return await course.insert()


async def test_a_duplicate_is_a_draft_of_the_callers_own_with_the_same_content(
    client_for: ClientFor, oscar: User, full: Course
) -> None:
    client = await client_for(oscar)
    answer = await client.post(f"/courses/{full.id}/duplicate", headers={"If-Match": '"7.9"'})
    body = answer.json()
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1.1"')
    assert answer.headers["location"] == f"/api/v1/courses/{body['id']}"
    assert (await client.get(f"/courses/{body['id']}")).json() == body
    assert (body["status"], body["slug"], body["title"], body["managed"]) == ("draft", "deep-2", "Deep", False)
    assert (body["instructor_id"], body["co_instructor_ids"]) == (str(oscar.id), [])
    copy = await stored(body["id"])
    assert {name: getattr(copy, name) for name in HEAD} == HEAD
    assert (copy.source, copy.source_id, copy.loaded, copy.published_at) == (None, None, None, None)
    assert (copy.has_enrollments, copy.rev, copy.outline_rev, copy.seq) == (False, 1, 1, 1)
    assert copy.id != full.id
    ids = {one.id for one in (*full.lessons, *full.modules)} & {one.id for one in (*copy.lessons, *copy.modules)}
    assert ids == set()
    own = {"id", "module_id", "parent_id", "source_id", "rev"}
    assert [one.model_dump(exclude=own) for one in copy.lessons] == [
        one.model_dump(exclude=own) for one in full.lessons
    ]
    assert {(one.source_id, one.rev) for one in copy.lessons} == {(None, 1)}
    check_gap_free(copy)
    titles = [
        [(module["title"], [lesson["title"] for lesson in module["lessons"]]) for module in outline["modules"]]
        for outline in [(await outline_of(client, one))[0] for one in (full.id, copy.id)]
    ]
    assert titles[0] == titles[1]
    assert await Course.get(full.id) == full


async def test_the_duplicate_lives_on_its_own(client_for: ClientFor, ivy: User, full: Course) -> None:
    client = await client_for(ivy)
    copy = (await client.post(f"/courses/{full.id}/duplicate")).json()
    changed = await client.patch(f"/courses/{copy['id']}/lessons/{copy['lessons'][0]['id']}", json={"content": "New"})
    assert changed.status_code == 200
    assert (await client.delete(f"/courses/{copy['id']}")).status_code == 204
    assert await Course.get(full.id) == full


async def test_a_stale_tag_copies_nothing(client_for: ClientFor, ivy: User, full: Course) -> None:
    late = await (await client_for(ivy)).post(f"/courses/{full.id}/duplicate", headers={"If-Match": '"6.9"'})
    assert (late.status_code, late.headers["etag"]) == (412, '"7.9"')
    assert await Course.find_all().count() == 1


async def test_a_repeated_key_makes_one_duplicate(client_for: ClientFor, ivy: User, full: Course) -> None:
    client = await client_for(ivy)
    first, again = [
        await client.post(f"/courses/{full.id}/duplicate", headers={"Idempotency-Key": "copy"}) for _ in range(2)
    ]
    assert (again.status_code, again.json(), await Course.find_all().count()) == (201, first.json(), 2)


async def test_parallel_duplicates_have_a_slug_each(client_for: ClientFor, ivy: User, full: Course) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(*(client.post(f"/courses/{full.id}/duplicate") for _ in range(4)))
    assert sorted(answer.json()["slug"] for answer in answers) == [f"deep-{n}" for n in range(2, 6)]


async def fill(course: Course) -> None:
    """Let the course take as many bytes as it may, and not one more."""
    this = {"_id": course.id}
    courses = Course.get_pymongo_collection()
    await courses.update_one(this, {"$set": {"lessons.3.content": "x" * 1_000_000}})
    pipeline = [{"$match": this}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    [found] = await (await courses.aggregate(pipeline)).to_list()
    more = "y" * (MAX_COURSE_BYTES - found["size"])
    await courses.update_one(this, {"$set": {"lessons.3.content": "x" * 1_000_000 + more}})


async def test_a_duplicate_and_an_outline_keep_the_limit_of_a_course(client_for: ClientFor, ivy: User) -> None:
    course = a_course(ivy.id, "Nearly full", lessons=0, status=CourseStatus.DRAFT)
    first = course.modules[0]
    course.modules.append(Module(title="Second", order=1))
    course.lessons = [a_lesson(f"Long {n}", first.id, n, content="x" * 1_000_000) for n in range(12)]
    await course.insert()
    await fill(course)
    before, client = await stored(course.id), await client_for(ivy)
    wanted = as_put((await outline_of(client, course.id))[0])
    wanted["modules"][1]["parent_id"] = first.id
    refused = [
        # The slug of a copy is longer by a number, and a module that has a parent by its id.
        await client.post(f"/courses/{course.id}/duplicate"),
        await client.put(f"/courses/{course.id}/outline", json=wanted),
        await client.patch(f"/courses/{course.id}", json={"description": "Words."}),
    ]
    for answer in refused:
        assert (answer.status_code, answer.json().get("code")) == (413, "course_too_large")
        assert answer.json()["lesson"] == "Long 3"
    assert await Course.find_all().to_list() == [before]
    smaller = await client.patch(f"/courses/{course.id}/lessons/{course.lessons[0].id}", json={"content": "Short."})
    assert smaller.status_code == 200
    assert (await client.post(f"/courses/{course.id}/duplicate")).status_code == 201
    assert (await client.put(f"/courses/{course.id}/outline", json=wanted)).status_code == 200
