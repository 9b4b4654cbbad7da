import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course, CourseStats, CourseStatus, Difficulty
from lms.courses.listing import provide_listing
from lms.courses.queries import FILTERS, SORTS
from lms.web import searching
from tests.build import a_course
from tests.commands import Commands
from tests.conftest import ClientFor

Database = AsyncDatabase[dict[str, Any]]
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


async def titles(client: httpx.AsyncClient, query: str = "") -> list[str]:
    answer = await client.get(f"/courses?{query}")
    assert answer.status_code == 200, answer.text
    by_cursor = await client.get(f"/courses?{query}&cursor=")
    assert by_cursor.json()["items"] == answer.json()["items"]
    return [one["title"] for one in answer.json()["items"]]


@pytest.fixture
async def catalogue(ivy: User, oscar: User) -> None:
    """Four published courses from old to new, then a draft and a retired one of Ivy's with Oscar's help."""

    def one(number: int, title: str, owner: UUID, **fields: Any) -> Course:
        return a_course(owner, title, created_at=START + timedelta(days=number), **fields)

    helped = {"co_instructor_ids": [oscar.id]}
    await Course.insert_many(
        [
            one(0, "Dunes", ivy.id, category="geology", tags=["sand", "sea"], estimated_duration_minutes=30),
            one(1, "Algae", ivy.id, category="biology", tags=["sea"], description="Green salt water."),
            one(2, "Crabs", oscar.id, category="biology", tags=["sea", "shells"], estimated_duration_minutes=90),
            one(3, "Birds", oscar.id, difficulty_level=Difficulty.ADVANCED, estimated_duration_minutes=60),
            one(4, "Eels", ivy.id, status=CourseStatus.DRAFT, category="biology", **helped),
            one(5, "Fog", ivy.id, status=CourseStatus.ARCHIVED),
        ]
    )


@pytest.mark.usefixtures("catalogue")
async def test_published_courses_are_listed_newest_first(client: httpx.AsyncClient) -> None:
    assert await titles(client) == ["Birds", "Crabs", "Algae", "Dunes"]


@pytest.mark.usefixtures("catalogue")
async def test_without_asking_nobody_sees_drafts(client_for: ClientFor, ivy: User, ada: User, sam: User) -> None:
    for person in (ivy, ada, sam):
        assert await titles(await client_for(person)) == ["Birds", "Crabs", "Algae", "Dunes"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sort=title", "Algae Birds Crabs Dunes"),
        ("sort=-created_at", "Birds Crabs Algae Dunes"),
        ("category=biology", "Crabs Algae"),
        ("category=bio", ""),
        ("tag=sea", "Crabs Algae Dunes"),
        ("tag=sea&tag=shells", "Crabs"),
        ("tag=sea&tag=nothing", ""),
        ("difficulty_level=advanced", "Birds"),
        ("min_minutes=60", "Birds Crabs"),
        ("max_minutes=60", "Birds Dunes"),
        ("min_minutes=60&max_minutes=60", "Birds"),
        ("min_minutes=0&max_minutes=1000000", "Birds Crabs Dunes"),
        ("search=crabs", "Crabs"),
        ("search=SHELLS", "Crabs"),
        ("search=salt", "Algae"),
        ("search=eels", ""),
        ("search=sea&category=biology&sort=title", "Algae Crabs"),
        ("search=sea%20-shells", "Algae Dunes"),
        ("search=%22%24where%22", ""),
        ("status=published", "Birds Crabs Algae Dunes"),
        ("status=draft", ""),
        ("status=archived", ""),
        ("mine=true", ""),
        ("mine=false", "Birds Crabs Algae Dunes"),
        ("category=biology&tag=sea&max_minutes=90&difficulty_level=beginner&search=crabs", "Crabs"),
    ],
)
@pytest.mark.usefixtures("catalogue")
async def test_a_visitor_narrows_the_list(client: httpx.AsyncClient, query: str, expected: str) -> None:
    assert await titles(client, query) == expected.split()


@pytest.mark.usefixtures("catalogue")
async def test_courses_of_one_instructor(client: httpx.AsyncClient, ivy: User, oscar: User) -> None:
    assert await titles(client, f"instructor_id={ivy.id}") == ["Algae", "Dunes"]
    assert await titles(client, f"instructor_id={oscar.id}&sort=title") == ["Birds", "Crabs"]
    assert await titles(client, f"instructor_id={ivy.id}&status=draft") == []


@pytest.mark.usefixtures("catalogue")
async def test_mine_are_those_that_i_own_or_help_with_whatever_their_status(
    client_for: ClientFor, ivy: User, oscar: User, sam: User, ada: User
) -> None:
    assert await titles(await client_for(ivy), "mine=true") == ["Fog", "Eels", "Algae", "Dunes"]
    assert await titles(await client_for(oscar), "mine=true") == ["Eels", "Birds", "Crabs"]
    assert await titles(await client_for(oscar), "mine=true&status=published") == ["Birds", "Crabs"]
    for person in (sam, ada):
        assert await titles(await client_for(person), "mine=true") == []


@pytest.mark.usefixtures("catalogue")
async def test_hidden_courses_are_listed_for_their_staff_and_administrators_only(
    client_for: ClientFor, ivy: User, oscar: User, sam: User, ada: User
) -> None:
    for status, of_ivy, of_oscar in (("draft", ["Eels"], ["Eels"]), ("archived", ["Fog"], [])):
        for person, expected in ((ivy, of_ivy), (oscar, of_oscar), (ada, of_ivy), (sam, [])):
            assert await titles(await client_for(person), f"status={status}") == expected


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("difficulty_level=expert", "difficulty_level"),
        ("status=hidden", "status"),
        ("instructor_id=1", "instructor_id"),
        ("search=", "search"),
        ("search=" + "x" * 201, "search"),
        ("min_minutes=-1", "min_minutes"),
        ("max_minutes=1000001", "max_minutes"),
        ("min_minutes=x", "min_minutes"),
        ("min_minutes=10&max_minutes=9", "min_minutes"),
        ("mine=perhaps", "mine"),
        ("sort=created_at", "sort"),
        ("sort=", "sort"),
        ("&".join(f"tag={n}" for n in range(11)), "tag"),
        ("category=a&category=b", "category"),
        ("categories=a", "categories"),
        ("title[$ne]=x", "title[$ne]"),
    ],
)
async def test_what_is_no_filter_is_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    answer = await client.get(f"/courses?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["parameter"] for one in answer.json()["errors"]] == [parameter]


async def test_all_broken_parameters_are_named_at_once(client: httpx.AsyncClient) -> None:
    answer = await client.get("/courses?status=x&page_size=0&sort=y&colour=red&mine=z")
    assert sorted(one["parameter"] for one in answer.json()["errors"]) == [
        "colour",
        "mine",
        "page_size",
        "sort",
        "status",
    ]


async def test_the_tables_name_every_filter_and_sort_with_an_index_that_exists(database: Database) -> None:
    parameters = set(inspect.signature(provide_listing).parameters) - {"request", "paging"}
    assert set(FILTERS) == parameters | {"search"}
    indexes = set(await database["courses"].index_information())
    assert {*FILTERS.values(), *(sort.index for sort in SORTS.values())} <= indexes


async def test_counters_are_shown_with_each_course(client: httpx.AsyncClient, ivy: User, course: Course) -> None:
    other = await a_course(ivy.id, "Other").insert()
    await CourseStats(id=course.id, enrolled=7, rating_sum=14, rating_count=3).insert()
    items = {one["id"]: one for one in (await client.get("/courses")).json()["items"]}
    counted = [
        {name: one[name] for name in ("enrollment_count", "average_rating", "review_count")}
        for one in (items[str(course.id)], items[str(other.id)])
    ]
    assert counted == [
        {"enrollment_count": 7, "average_rating": 4.67, "review_count": 3},
        {"enrollment_count": 0, "average_rating": None, "review_count": 0},
    ]


async def test_a_course_in_a_list_has_no_outline(client: httpx.AsyncClient, course: Course) -> None:
    [item] = (await client.get("/courses")).json()["items"]
    assert not {"modules", "lessons", "rev", "loaded", "seq"} & item.keys()


async def test_a_list_says_when_nothing_changed(client: httpx.AsyncClient, course: Course) -> None:
    first = await client.get("/courses")
    assert first.headers["etag"].startswith('W/"')
    again = await client.get("/courses", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    await course.set({"title": "Renamed"})
    assert (await client.get("/courses", headers={"If-None-Match": first.headers["etag"]})).status_code == 200


CONTENT = ("lessons", "lessons.content")


def reads_content(command: dict[str, Any]) -> bool:
    """Whether a find or an aggregation on `courses` would fetch lesson bodies."""
    stages: list[dict[str, Any]] = command.get("pipeline", [])
    if any(name in stage for stage in stages for name in ("$count", "$group", "$facet")):
        return False
    projected: dict[str, Any] = next((stage["$project"] for stage in stages if "$project" in stage), {})
    shown = projected or command.get("projection", {})
    if any(shown.get(name) == 0 for name in CONTENT):
        return False
    return not (shown and all(shown.values())) or bool({"lessons", "lessons.content"} & shown.keys())


async def test_no_list_and_no_outline_reads_lesson_content_and_none_costs_more_than_three_calls(
    client_for: ClientFor, commands: Commands, ivy: User, oscar: User, sam: User, course: Course
) -> None:
    await Course.insert_many([a_course(ivy.id, f"Course {n}") for n in range(30)])
    draft = await a_course(ivy.id, "Draft", status=CourseStatus.DRAFT).insert()
    paths = [
        "/courses",
        "/courses?cursor=",
        "/courses?search=course&tag=x&sort=title",
        "/courses?mine=true",
        "/courses?status=draft",
        f"/courses/{course.id}",
        f"/courses/{draft.id}",
        f"/courses/slug/{course.slug}",
        f"/courses/{course.id}/lessons",
        f"/courses/{draft.id}/lessons?cursor=",
    ]
    for person in (ivy, oscar, sam):
        client = await client_for(person)
        await client.get("/courses")
        for path in paths:
            commands.seen.clear()
            await client.get(path)
            # Whether the session still stands is asked of users and sessions, once in half a second.
            asked = [(name, seen) for name, seen in commands.seen if seen.get(name) not in ("users", "sessions")]
            assert 1 <= len(asked) <= 3, path
            reads = [seen for name, seen in asked if seen.get(name) == "courses"]
            assert reads, path
            assert not [seen for seen in reads if reads_content(seen)], path


def test_the_check_for_lesson_content_knows_it_when_it_sees_it() -> None:
    assert reads_content({})
    assert reads_content({"projection": {"loaded": 0}})
    assert reads_content({"projection": {"lessons": 1}})
    assert reads_content({"pipeline": [{"$match": {}}]})
    assert reads_content({"pipeline": [{"$match": {}}, {"$project": {"lessons": 1}}]})
    assert not reads_content({"pipeline": [{"$match": {}}, {"$project": {"lessons": 0}}]})
    assert not reads_content({"pipeline": [{"$match": {}}, {"$group": {}}]})
    assert not reads_content({"projection": {"lessons.content": 0}})
    assert not reads_content({"projection": {"title": 1, "lessons.id": 1}})


async def test_courses_of_one_moment_keep_one_order(client: httpx.AsyncClient, ivy: User) -> None:
    await Course.insert_many([a_course(ivy.id, "Same", slug=uuid4().hex, created_at=START) for _ in range(12)])
    pages = await asyncio.gather(*(client.get(f"/courses?page_size=4&page={page}&sort=title") for page in (1, 2, 3)))
    seen = [one["id"] for page in pages for one in page.json()["items"]]
    assert seen == sorted(seen)
    assert len(set(seen)) == 12


async def test_a_search_says_where_it_stopped(
    client: httpx.AsyncClient, ivy: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await Course.insert_many([a_course(ivy.id, f"Tides {n}", category=f"c{n % 2}") for n in range(6)])
    query = "/courses?search=tides&category=c1&page_size=2"
    whole = (await client.get(query)).json()
    assert (whole["total"], whole["total_is_exact"], len(whole["items"])) == (3, True, 2)
    cursor = (await client.get(f"{query}&cursor=")).json()
    rest = (await client.get(f"{query}&cursor={cursor['next_cursor']}")).json()
    assert len(cursor["items"] + rest["items"]) == 3
    assert rest["next_cursor"] is None
    monkeypatch.setattr(searching, "MOST_CANDIDATES", 4)
    cut = (await client.get(query)).json()
    assert cut["total_is_exact"] is False
    assert cut["total"] <= 3
    nothing = (await client.get("/courses?search=stars")).json()
    assert (nothing["total"], nothing["total_is_exact"]) == (0, True)
