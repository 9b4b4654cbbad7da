import asyncio
from typing import Any

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.courses.rules import MAX_COURSE_BYTES
from lms.ids import SHORT_ID
from tests.build import a_course, a_lesson
from tests.conftest import ClientFor

FULL = {
    "title": "  The tidal zone ",
    "slug": "zone",
    "content_type": "video",
    "content": "# The tidal zone\n\nWatch.",
    "video_url": "https://media.school.example/tide.mp4",
    "duration_minutes": 12,
    "preview": True,
    "required": False,
    "metadata": {"$a.b": [1, {"c": None}]},
}


async def stored(course: Course) -> Course:
    found = await Course.get(course.id)
    assert found is not None
    return found


@pytest.fixture
async def bare(ivy: User) -> Course:
    """Ivy's course without modules or lessons."""
    return await a_course(ivy.id, "Bare", lessons=0, modules=[]).insert()


async def test_modules_and_sub_modules_are_appended(client_for: ClientFor, ivy: User, bare: Course) -> None:
    client, path = await client_for(ivy), f"/courses/{bare.id}/modules"
    first = await client.post(path, json={"title": " First "})
    assert first.status_code == 201
    assert first.headers["location"] == f"/api/v1/courses/{bare.id}"
    parent = first.json()["id"]
    assert SHORT_ID.fullmatch(parent)
    assert first.json() == {"id": parent, "title": "First", "parent_id": None, "order": 0}
    second = (await client.post(path, json={"title": "Second"})).json()
    assert (second["parent_id"], second["order"]) == (None, 1)
    await client.post(f"/courses/{bare.id}/lessons", json={"title": "Lesson", "module_id": parent})
    inner = (await client.post(path, json={"title": "Inner", "parent_id": parent})).json()
    assert (inner["parent_id"], inner["order"]) == (parent, 1)
    read = await client.get(f"/courses/{bare.id}")
    assert [one["title"] for one in read.json()["modules"]] == ["First", "Inner", "Second"]
    assert read.headers["etag"] == '"1.5"'
    assert (await stored(bare)).seq == 4


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        ({}, "validation_failed", ["#/title"]),
        ({"title": " ", "order": 1}, "validation_failed", ["#/order", "#/title"]),
        ({"title": "x" * 256}, "validation_failed", ["#/title"]),
        ({"title": "X", "parent_id": "nowhere"}, "module_unknown", ["#/parent_id"]),
    ],
)
async def test_a_broken_module_is_refused(
    client_for: ClientFor, ivy: User, course: Course, body: Any, code: str, pointers: list[str]
) -> None:
    answer = await (await client_for(ivy)).post(f"/courses/{course.id}/modules", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert sorted(one["pointer"] for one in answer.json()["errors"]) == pointers
    assert await Course.get(course.id) == course


async def test_a_lesson_is_made_with_all_that_it_has(client_for: ClientFor, ivy: User, course: Course) -> None:
    client, module = await client_for(ivy), course.modules[0].id
    answer = await client.post(f"/courses/{course.id}/lessons", json=FULL | {"module_id": module})
    body = answer.json()
    assert answer.status_code == 201
    assert SHORT_ID.fullmatch(body["id"])
    assert body == FULL | {"title": "The tidal zone", "id": body["id"], "module_id": module, "order": 2}
    assert answer.headers["location"] == f"/api/v1/courses/{course.id}/lessons/{body['id']}"
    read = await client.get(answer.headers["location"].removeprefix("/api/v1"))
    assert (read.json(), read.headers["etag"]) == (body, answer.headers["etag"])
    assert answer.headers["etag"] == '"1"'


async def test_a_title_is_enough_for_a_lesson(client_for: ClientFor, ivy: User, course: Course) -> None:
    body = (await (await client_for(ivy)).post(f"/courses/{course.id}/lessons", json={"title": "Élan"})).json()
    expected = {"slug": "elan", "content_type": "text", "content": "", "video_url": None, "duration_minutes": None}
    assert body.items() >= (expected | {"preview": False, "required": True, "metadata": {}}).items()


async def test_without_a_module_lessons_go_to_one_untitled_module(
    client_for: ClientFor, ivy: User, course: Course
) -> None:
    client = await client_for(ivy)
    made = [(await client.post(f"/courses/{course.id}/lessons", json={"title": f"New {n}"})).json() for n in range(3)]
    [home] = {one["module_id"] for one in made}
    assert [one["order"] for one in made] == [0, 1, 2]
    outline = (await client.get(f"/courses/{course.id}")).json()
    assert [(one["id"], one["title"], one["order"]) for one in outline["modules"]] == [
        (course.modules[0].id, "First steps", 0),
        (home, "", 1),
    ]
    assert [one["title"] for one in outline["lessons"]] == ["Lesson 1", "Lesson 2", "New 0", "New 1", "New 2"]


async def test_lesson_slugs_are_unique_inside_a_course(client_for: ClientFor, ivy: User, course: Course) -> None:
    client, path = await client_for(ivy), f"/courses/{course.id}/lessons"
    made = [(await client.post(path, json={"title": "Lesson 1"})).json()["slug"] for _ in range(2)]
    assert made == ["lesson-1-2", "lesson-1-3"]
    answer = await client.post(path, json={"title": "X", "slug": "lesson-1"})
    assert (answer.status_code, answer.json()["code"], answer.json()["slug"]) == (409, "lesson_slug_taken", "lesson-1")
    other = await a_course(ivy.id, "Other").insert()
    assert (await client.post(f"/courses/{other.id}/lessons", json={"title": "X", "slug": "zone"})).status_code == 201
    assert (await client.post(path, json={"title": "X", "slug": "zone"})).status_code == 201


@pytest.mark.parametrize(
    ("body", "code", "pointers"),
    [
        ({}, "validation_failed", ["#/title"]),
        (
            {"title": "x" * 256, "duration_minutes": 0, "id": "x"},
            "validation_failed",
            "#/duration_minutes #/id #/title",
        ),
        ({"title": "X", "content": None, "preview": None}, "validation_failed", "#/content #/preview"),
        ({"title": "X", "content": "x" * 1_000_001}, "validation_failed", "#/content"),
        ({"title": "X", "content_type": "audio"}, "validation_failed", "#/content_type"),
        ({"title": "X", "content_type": "embed"}, "validation_failed", "#/video_url"),
        ({"title": "X", "video_url": "//x.example"}, "validation_failed", "#/video_url"),
        ({"title": "X", "metadata": {"x": "y" * 16_384}}, "validation_failed", "#/metadata"),
        ({"title": "X", "module_id": "nowhere"}, "module_unknown", "#/module_id"),
        ({"title": "X", "module_id": ""}, "validation_failed", "#/module_id"),
        ({"title": "X", "order": 0, "rev": 7}, "validation_failed", "#/order #/rev"),
    ],
)
async def test_a_broken_lesson_is_refused(
    client_for: ClientFor, ivy: User, course: Course, body: Any, code: str, pointers: str | list[str]
) -> None:
    answer = await (await client_for(ivy)).post(f"/courses/{course.id}/lessons", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    expected = pointers.split() if isinstance(pointers, str) else pointers
    assert sorted(one["pointer"] for one in answer.json()["errors"]) == expected
    assert await Course.get(course.id) == course


async def test_parallel_lessons_and_modules_lose_nothing_and_have_a_place_each(
    client_for: ClientFor, ivy: User, ada: User, bare: Course
) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    answers = await asyncio.gather(
        *(authors[n % 2].post(f"/courses/{bare.id}/lessons", json={"title": "Same"}) for n in range(6)),
        *(authors[n % 2].post(f"/courses/{bare.id}/modules", json={"title": f"Module {n}"}) for n in range(2)),
    )
    assert {answer.status_code for answer in answers} == {201}
    lessons, modules = (await stored(bare)).lessons, (await stored(bare)).modules
    assert sorted(one.order for one in lessons) == list(range(6))
    assert len({one.id for one in lessons}) == len({one.slug for one in lessons}) == 6
    assert len({one.module_id for one in lessons}) == 1
    assert sorted(one.order for one in modules) == list(range(3))
    assert (await stored(bare)).outline_rev == 9


async def test_a_repeated_key_makes_one_lesson_and_one_module(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    client.headers["Idempotency-Key"] = "make-1"
    for path in (f"/courses/{course.id}/lessons", f"/courses/{course.id}/modules"):
        first, again = [await client.post(path, json={"title": "Tides"}) for _ in range(2)]
        assert (again.status_code, again.json()) == (201, first.json())
    after = await stored(course)
    assert (len(after.lessons), len(after.modules)) == (3, 3)


@pytest.fixture
async def nearly_full(ivy: User) -> Course:
    """A course that has 4,000 bytes left."""
    course = a_course(ivy.id, "Nearly full", lessons=0)
    module = course.modules[0].id
    course.lessons = [a_lesson(f"Long {n}", module, n, content="x" * 1_000_000) for n in range(12)]
    await course.insert()
    pipeline = [{"$match": {"_id": course.id}}, {"$project": {"size": {"$bsonSize": "$$ROOT"}}}]
    [found] = await (await Course.get_pymongo_collection().aggregate(pipeline)).to_list()
    filling = "y" * (MAX_COURSE_BYTES - found["size"] + 5 - 4_000)
    await course.set({"lessons.0.content": "x" * 1_000_000 + filling})
    return await stored(course)


async def test_a_course_grows_up_to_its_limit_and_no_further(
    client_for: ClientFor, ivy: User, nearly_full: Course
) -> None:
    client, path = await client_for(ivy), f"/courses/{nearly_full.id}"
    last = f"{path}/lessons/{nearly_full.lessons[11].id}"
    before = await stored(nearly_full)
    refused = [
        (await client.post(f"{path}/lessons", json={"title": " Too long ", "content": "z" * 5_000}), "Too long"),
        (await client.patch(last, json={"content": "x" * 1_000_000, "metadata": {"z": "z" * 5_000}}), "Long 11"),
        (await client.patch(last, json={"title": "Renamed", "metadata": {"z": "z" * 5_000}}), "Renamed"),
    ]
    for answer, name in refused:
        assert (answer.status_code, answer.json()["code"]) == (413, "course_too_large")
        assert answer.json()["lesson"] == name
    assert await stored(nearly_full) == before
    fits = await client.post(f"{path}/lessons", json={"title": "Fits", "content": "z" * 3_000})
    assert fits.status_code == 201
    assert (await client.patch(last, json={"content": "short"})).status_code == 200
    assert (await client.post(f"{path}/lessons", json={"title": "More", "content": "z" * 900_000})).status_code == 201


async def test_a_module_does_not_make_a_course_too_large_either(
    client_for: ClientFor, ivy: User, nearly_full: Course
) -> None:
    client, path = await client_for(ivy), f"/courses/{nearly_full.id}/modules"
    answers = [await client.post(path, json={"title": "é" * 255}) for _ in range(8)]
    codes = [answer.status_code for answer in answers]
    assert (codes[0], codes[-1], sorted(set(codes))) == (201, 413, [201, 413])
    assert (answers[-1].json()["code"], answers[-1].json()["module"]) == ("course_too_large", "é" * 255)
