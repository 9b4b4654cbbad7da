import asyncio
from typing import Any

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course
from tests.build import a_course
from tests.conftest import ClientFor

Database = AsyncDatabase[dict[str, Any]]
FULL = {
    "title": "  Plants of the tidal zone ",
    "slug": "tides",
    "description": "What grows between the tides.",
    "category": "biology",
    "tags": ["plants", "sea"],
    "difficulty_level": "advanced",
    "thumbnail_url": "https://media.school.example/tide.webp",
    "estimated_duration_minutes": 90,
    "metadata": {"licence": {"name": "CC BY"}, "$odd.name": 1},
}
LONG_URL = "https://x.example/"

SOME_ID = "0190a3e4-7b1c-4d2e-8f3a-4b5c6d7e8f90"


async def test_an_instructor_creates_a_draft(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    answer = await client.post("/courses", json=FULL)
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/courses/{body['id']}"
    assert answer.headers["etag"] == '"1.1"'
    assert body.items() >= (FULL | {"title": "Plants of the tidal zone"}).items()
    computed = {
        "status": "draft",
        "is_published": False,
        "instructor_id": str(ivy.id),
        "co_instructor_ids": [],
        "enrollment_count": 0,
        "average_rating": None,
        "review_count": 0,
        "source": None,
        "managed": False,
        "modules": [],
        "lessons": [],
    }
    assert body.items() >= computed.items()
    read = await client.get(answer.headers["location"].removeprefix("/api/v1"))
    assert (read.json(), read.headers["etag"]) == (body, answer.headers["etag"])
    assert body.keys() == {*FULL, *computed, "id", "created_at", "updated_at"}
    assert len(body["created_at"]) == len("2026-03-01T08:00:00.000Z")


async def test_a_title_is_enough(client_for: ClientFor, ivy: User) -> None:
    body = (await (await client_for(ivy)).post("/courses", json={"title": "Élan & tides"})).json()
    defaults = {"slug": "elan-tides", "description": "", "category": None, "tags": [], "metadata": {}}
    more = {"difficulty_level": "beginner", "thumbnail_url": None, "estimated_duration_minutes": None}
    assert body.items() >= (defaults | more).items()


async def test_an_administrator_creates_too_and_owns_it(client_for: ClientFor, ada: User) -> None:
    answer = await (await client_for(ada)).post("/courses", json={"title": "Tides"})
    assert (answer.status_code, answer.json()["instructor_id"]) == (201, str(ada.id))


async def test_students_and_visitors_create_nothing(
    client: httpx.AsyncClient, client_for: ClientFor, sam: User
) -> None:
    visitor = await client.post("/courses", json={"title": "Tides"})
    assert (visitor.status_code, visitor.json()["code"]) == (401, "unauthenticated")
    student = await (await client_for(sam)).post("/courses", json={"title": "Tides"})
    assert (student.status_code, student.json()["code"]) == (403, "wrong_role")
    # Whoever may not create learns nothing about the fields either.
    assert (await (await client_for(sam)).post("/courses", json={"x": 1})).status_code == 403
    assert await Course.count() == 0


async def test_a_slug_from_the_title_gets_the_first_free_number(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    await Course.insert_many([a_course(ivy.id, "T", slug=slug) for slug in ("tides-3", "tides-of-old", "tides-2x")])
    made = [(await client.post("/courses", json={"title": "Tides!"})).json()["slug"] for _ in range(4)]
    assert made == ["tides", "tides-2", "tides-4", "tides-5"]


async def test_a_hundred_courses_of_one_title_do_not_run_out_of_numbers(client_for: ClientFor, ivy: User) -> None:
    taken = ["tides", *(f"tides-{number}" for number in range(2, 151))]
    await Course.insert_many([a_course(ivy.id, "Tides", slug=slug) for slug in taken])
    answer = await (await client_for(ivy)).post("/courses", json={"title": "Tides"})
    assert (answer.status_code, answer.json()["slug"]) == (201, "tides-151")


async def test_parallel_courses_of_one_title_get_a_slug_each(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(*(client.post("/courses", json={"title": "Tides"}) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [201] * 8
    expected = {"tides", *(f"tides-{number}" for number in range(2, 9))}
    assert {answer.json()["slug"] for answer in answers} == expected
    stored = await Course.find_all().to_list()
    assert sorted(one.seq for one in stored) == list(range(1, 9))


async def test_a_given_slug_that_is_taken_is_a_conflict(client_for: ClientFor, ivy: User, course: Course) -> None:
    client = await client_for(ivy)
    answer = await client.post("/courses", json={"title": "New", "slug": course.slug})
    assert (answer.status_code, answer.json()["code"], answer.json()["slug"]) == (409, "slug_taken", course.slug)
    assert await Course.count() == 1


async def test_of_parallel_courses_of_one_given_slug_one_is_made(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    body = {"title": "New", "slug": "tides"}
    answers = await asyncio.gather(*(client.post("/courses", json=body) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409, 409]
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"slug_taken"}
    assert await Course.count() == 1


@pytest.mark.parametrize(
    ("field", "largest"),
    [
        ("title", "x" * 255),
        ("title", "é" * 255),
        ("description", "x" * 5000),
        ("category", "x" * 100),
        ("thumbnail_url", LONG_URL + "x" * (500 - len(LONG_URL))),
        ("slug", "x" * 80),
        ("tags", ["x" * 50] * 50),
        ("estimated_duration_minutes", 1),
        ("estimated_duration_minutes", 100_000),
    ],
)
async def test_what_is_just_within_its_limit_is_kept(
    client_for: ClientFor, ivy: User, field: str, largest: Any
) -> None:
    answer = await (await client_for(ivy)).post("/courses", json={"title": "Tides", field: largest})
    assert (answer.status_code, answer.json()[field]) == (201, largest)


@pytest.mark.parametrize(
    ("field", "value", "pointer"),
    [
        ("title", "", "#/title"),
        ("title", " \n\t", "#/title"),
        ("title", "x" * 256, "#/title"),
        ("title", None, "#/title"),
        ("title", 5, "#/title"),
        ("description", "x" * 5001, "#/description"),
        ("description", None, "#/description"),
        ("category", "x" * 101, "#/category"),
        ("category", "", "#/category"),
        ("thumbnail_url", LONG_URL + "x" * (501 - len(LONG_URL)), "#/thumbnail_url"),
        ("thumbnail_url", "javascript:alert(1)", "#/thumbnail_url"),
        ("thumbnail_url", "https://x.example/\n", "#/thumbnail_url"),
        ("slug", "Tides", "#/slug"),
        ("slug", "x" * 81, "#/slug"),
        ("tags", ["x"] * 51, "#/tags"),
        ("tags", ["x" * 51], "#/tags/0"),
        ("tags", None, "#/tags"),
        ("difficulty_level", "expert", "#/difficulty_level"),
        ("estimated_duration_minutes", 0, "#/estimated_duration_minutes"),
        ("estimated_duration_minutes", 100_001, "#/estimated_duration_minutes"),
        ("estimated_duration_minutes", 1.5, "#/estimated_duration_minutes"),
        ("estimated_duration_minutes", "5", "#/estimated_duration_minutes"),
        ("metadata", {"x": "y" * 16_384}, "#/metadata"),
        ("metadata", [], "#/metadata"),
        ("status", "published", "#/status"),
        ("is_published", True, "#/is_published"),
        ("instructor_id", SOME_ID, "#/instructor_id"),
        ("id", SOME_ID, "#/id"),
    ],
)
async def test_what_breaks_a_limit_is_named(
    client_for: ClientFor, ivy: User, field: str, value: Any, pointer: str
) -> None:
    answer = await (await client_for(ivy)).post("/courses", json={"title": "Tides", field: value})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["pointer"] for one in answer.json()["errors"]] == [pointer]
    assert await Course.count() == 0


async def test_all_broken_fields_are_named_at_once(client_for: ClientFor, ivy: User) -> None:
    broken = {
        "title": " ",
        "description": 1,
        "category": "",
        "tags": ["a", ""],
        "thumbnail_url": "x",
        "slug": "A",
        "y": 1,
    }
    answer = await (await client_for(ivy)).post("/courses", json=broken)
    assert answer.status_code == 422
    named = sorted(one["pointer"] for one in answer.json()["errors"])
    assert named == ["#/category", "#/description", "#/slug", "#/tags/1", "#/thumbnail_url", "#/title", "#/y"]


async def test_a_repeated_key_makes_one_course(client_for: ClientFor, ivy: User) -> None:
    client = await client_for(ivy)
    client.headers["Idempotency-Key"] = "create-1"
    first, again = [await client.post("/courses", json={"title": "Tides"}) for _ in range(2)]
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again.headers["location"], again.headers["etag"]) == (first.headers["location"], first.headers["etag"])
    assert await Course.count() == 1
