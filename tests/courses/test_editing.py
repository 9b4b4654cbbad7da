import asyncio
from typing import Any

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course, CourseStats, Difficulty
from tests.build import a_course, a_user
from tests.conftest import ClientFor, HeldClock

CHANGES = {
    "title": "Tides and time",
    "slug": "tides-and-time",
    "description": "New words.",
    "category": "geology",
    "tags": ["moon"],
    "difficulty_level": "advanced",
    "thumbnail_url": "https://media.school.example/moon.webp",
    "estimated_duration_minutes": 45,
    "metadata": {"a": {"b": [1]}, "$c.d": 2},
}


@pytest.fixture
async def full(ivy: User) -> Course:
    """A course with a value in every field."""
    return await a_course(
        ivy.id,
        description="Words.",
        category="biology",
        tags=["sea"],
        difficulty_level=Difficulty.INTERMEDIATE,
        thumbnail_url="https://media.school.example/tide.webp",
        estimated_duration_minutes=90,
        metadata={"old": 1},
    ).insert()


@pytest.mark.parametrize("name", CHANGES)
async def test_only_the_named_field_changes(client_for: ClientFor, ivy: User, full: Course, name: str) -> None:
    client = await client_for(ivy)
    before = (await client.get(f"/courses/{full.id}")).json()
    answer = await client.patch(f"/courses/{full.id}", json={name: CHANGES[name]})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2.1"')
    after = answer.json()
    assert after[name] == CHANGES[name] != before[name]
    assert {field for field in after if after[field] != before[field]} == {name, "updated_at"}
    read = await client.get(f"/courses/{full.id}")
    assert (read.json(), read.headers["etag"]) == (after, '"2.1"')


async def test_all_fields_change_at_once_and_the_change_is_stamped(
    client_for: ClientFor, ivy: User, full: Course, held_clock: HeldClock
) -> None:
    held_clock.advance(days=1)
    body = (await (await client_for(ivy)).patch(f"/courses/{full.id}", json=CHANGES)).json()
    assert body.items() >= CHANGES.items()
    stored = await Course.get(full.id)
    assert stored is not None
    assert (stored.updated_at, stored.seq, stored.rev, stored.outline_rev) == (held_clock.now, 1, 2, 1)
    assert (stored.lessons, stored.modules, stored.status) == (full.lessons, full.modules, full.status)


async def test_changes_take_numbers_of_one_sequence(client_for: ClientFor, ivy: User, full: Course) -> None:
    client = await client_for(ivy)
    other = await a_course(ivy.id, "Other").insert()
    numbers: list[int] = []
    for course in (full, other, full):
        await client.patch(f"/courses/{course.id}", json={"description": "New."})
        stored = await Course.get(course.id)
        numbers.append(stored.seq if stored else 0)
    assert numbers == [1, 2, 3]


async def test_naming_nothing_changes_nothing(client_for: ClientFor, ivy: User, full: Course) -> None:
    before = await Course.get(full.id)
    answer = await (await client_for(ivy)).patch(f"/courses/{full.id}", json={})
    assert (answer.status_code, answer.headers["etag"], answer.json()["title"]) == (200, '"1.1"', full.title)
    assert await Course.get(full.id) == before


async def test_null_clears_what_may_be_empty(client_for: ClientFor, ivy: User, full: Course) -> None:
    cleared = dict.fromkeys(("category", "thumbnail_url", "estimated_duration_minutes"))
    body = (await (await client_for(ivy)).patch(f"/courses/{full.id}", json=cleared)).json()
    assert body.items() >= cleared.items()
    emptied = {"description": "", "tags": [], "metadata": {}}
    body = (await (await client_for(ivy)).patch(f"/courses/{full.id}", json=emptied)).json()
    assert body.items() >= (emptied | cleared).items()


async def test_null_for_what_is_required_and_unknown_fields_are_all_named(
    client_for: ClientFor, ivy: User, full: Course
) -> None:
    required = ["title", "slug", "description", "tags", "difficulty_level", "metadata", "instructor_id"]
    unknown = {"status": "published", "source": "x", "is_published": True, "rev": 9, "titel": "x"}
    answer = await (await client_for(ivy)).patch(f"/courses/{full.id}", json=dict.fromkeys(required) | unknown)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    named = sorted(one["pointer"] for one in answer.json()["errors"])
    assert named == sorted(f"#/{name}" for name in (*required, *unknown))
    assert (await (await client_for(ivy)).get(f"/courses/{full.id}")).headers["etag"] == '"1.1"'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("title", " "),
        ("title", "x" * 256),
        ("description", "x" * 5001),
        ("category", "x" * 101),
        ("thumbnail_url", "x"),
        ("estimated_duration_minutes", 0),
        ("metadata", {"x": "y" * 16_384}),
    ],
)
async def test_the_limits_of_creating_hold(
    client_for: ClientFor, ivy: User, full: Course, field: str, value: Any
) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{full.id}", json={field: value})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["pointer"] for one in answer.json()["errors"]] == [f"#/{field}"]


async def test_a_title_is_trimmed(client_for: ClientFor, ivy: User, full: Course) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{full.id}", json={"title": "  Tides \n"})
    assert answer.json()["title"] == "Tides"
    assert answer.json()["slug"] == full.slug


async def test_co_instructors_and_administrators_edit_too(client_for: ClientFor, ada: User, full: Course) -> None:
    colleague = await a_user("Colin", Role.INSTRUCTOR).insert()
    await full.set({"co_instructor_ids": [colleague.id]})
    for person, words in ((colleague, "One."), (ada, "Two.")):
        answer = await (await client_for(person)).patch(f"/courses/{full.id}", json={"description": words})
        assert (answer.status_code, answer.json()["description"]) == (200, words)


async def test_a_slug_of_another_course_is_a_conflict(client_for: ClientFor, ivy: User, full: Course) -> None:
    other = await a_course(ivy.id, "Other").insert()
    client = await client_for(ivy)
    answer = await client.patch(f"/courses/{full.id}", json={"slug": other.slug, "title": "X"})
    assert (answer.status_code, answer.json()["code"], answer.json()["slug"]) == (409, "slug_taken", other.slug)
    assert (await client.get(f"/courses/{full.id}")).json()["title"] == full.title
    assert (await client.patch(f"/courses/{full.id}", json={"slug": full.slug})).status_code == 200


async def test_of_courses_that_want_one_slug_at_once_one_gets_it(client_for: ClientFor, ivy: User) -> None:
    courses = [await a_course(ivy.id, f"Course {n}").insert() for n in range(5)]
    client = await client_for(ivy)
    answers = await asyncio.gather(*(client.patch(f"/courses/{one.id}", json={"slug": "tides"}) for one in courses))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]


@pytest.mark.parametrize("tag", ['"1.1"', '"1.7"', "*", '"0", "1.1"'])
async def test_who_saw_the_current_revision_may_change_it(
    client_for: ClientFor, ivy: User, full: Course, tag: str
) -> None:
    answer = await (await client_for(ivy)).patch(
        f"/courses/{full.id}", json={"title": "New"}, headers={"If-Match": tag}
    )
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2.1"')


@pytest.mark.parametrize("tag", ['"0.1"', 'W/"1.1"', '"11"', '"2.1", "3.1"'])
async def test_who_did_not_is_told_what_stands_there_now(
    client_for: ClientFor, ivy: User, full: Course, tag: str
) -> None:
    client = await client_for(ivy)
    changes = {"title": "New", "category": None, "tags": ["x"]}
    answer = await client.patch(f"/courses/{full.id}", json=changes, headers={"If-Match": tag})
    assert (answer.status_code, answer.json()["code"]) == (412, "revision_mismatch")
    assert answer.headers["etag"] == '"1.1"'
    assert answer.json()["current"] == {"title": full.title, "category": "biology", "tags": ["sea"]}
    assert (await client.get(f"/courses/{full.id}")).json()["title"] == full.title


async def test_an_unquoted_tag_is_no_tag(client_for: ClientFor, ivy: User, full: Course) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{full.id}", json={}, headers={"If-Match": "1.1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["header"] for one in answer.json()["errors"]] == ["If-Match"]


async def test_neither_students_nor_the_outline_are_in_the_way_of_the_head(
    client_for: ClientFor, ivy: User, full: Course
) -> None:
    client = await client_for(ivy)
    seen = (await client.get(f"/courses/{full.id}")).headers["etag"]
    await CourseStats(id=full.id, enrolled=5).insert()
    await client.post(f"/courses/{full.id}/modules", json={"title": "More"})
    answer = await client.patch(f"/courses/{full.id}", json={"title": "New"}, headers={"If-Match": seen})
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2.2"')


async def test_of_parallel_changes_of_one_revision_one_wins_and_all_others_hear_of_it(
    client_for: ClientFor, ivy: User, full: Course
) -> None:
    client = await client_for(ivy)

    async def rename(number: int) -> httpx.Response:
        return await client.patch(
            f"/courses/{full.id}", json={"title": f"Title {number}"}, headers={"If-Match": '"1.1"'}
        )

    answers = await asyncio.gather(*(rename(number) for number in range(8)))
    [winner] = [answer for answer in answers if answer.status_code == 200]
    losers = [answer for answer in answers if answer is not winner]
    assert {(answer.status_code, answer.headers["etag"]) for answer in losers} == {(412, '"2.1"')}
    assert [answer.json()["current"] for answer in losers] == [{"title": winner.json()["title"]}] * 7


async def test_parallel_changes_of_different_fields_without_a_tag_lose_nothing(
    client_for: ClientFor, ivy: User, full: Course
) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(
        *(client.patch(f"/courses/{full.id}", json={name: value}) for name, value in CHANGES.items())
    )
    assert {answer.status_code for answer in answers} == {200}
    read = await client.get(f"/courses/{full.id}")
    assert read.json().items() >= CHANGES.items()
    assert read.headers["etag"] == f'"{1 + len(CHANGES)}.1"'
