import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.errors import Invalid
from lms.web.lists import MAX_CURSOR, Paging, Sort, decode_cursor, encode_cursor, find_page, provide_paging, slice_page
from tests.build import a_course

Database = AsyncDatabase[dict[str, Any]]
BY_AGE = Sort((("created_at", -1), ("_id", -1)), index="status_created")
BY_TITLE = Sort((("title", 1), ("_id", 1)), index="status_title")
START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def links(answer: httpx.Response) -> dict[str, str]:
    return {str(rel): link["url"] for rel, link in answer.links.items()}


async def stored_courses(ivy: User, number: int) -> list[Course]:
    """Courses of one owner, two of each moment, the newest last."""
    made = [a_course(ivy.id, f"Course {n:03}", created_at=START + timedelta(minutes=n // 2)) for n in range(number)]
    await Course.insert_many(made)
    return made


def error_of(refused: pytest.ExceptionInfo[Invalid]) -> tuple[str, str | None]:
    [error] = refused.value.errors
    return error.code, error.parameter


async def test_a_page_has_its_place_among_all_and_links_to_the_others(client: httpx.AsyncClient, ivy: User) -> None:
    made = await stored_courses(ivy, 7)
    answer = await client.get("/courses", params={"page": 2, "page_size": 3, "sort": "title"})
    body = answer.json()
    assert [one["title"] for one in body.pop("items")] == [one.title for one in made[3:6]]
    assert body == {"total": 7, "page": 2, "page_size": 3, "pages": 3, "total_is_exact": True}
    kept = "/api/v1/courses?page_size=3&sort=title&page="
    assert links(answer) == {"first": f"{kept}1", "prev": f"{kept}1", "next": f"{kept}3", "last": f"{kept}3"}
    last = await client.get(links(answer)["last"].removeprefix("/api/v1"))
    assert [one["title"] for one in last.json()["items"]] == [made[6].title]
    assert links(last).keys() == {"first", "prev", "last"}


async def test_links_keep_repeated_and_odd_parameters(client: httpx.AsyncClient, ivy: User) -> None:
    await Course.insert_many([a_course(ivy.id, f"Course {n}", tags=["sea & salt", "ü"]) for n in range(2)])
    answer = await client.get("/courses", params={"tag": ["sea & salt", "ü"], "page_size": 1})
    following = await client.get(links(answer)["next"].removeprefix("/api/v1"))
    assert [one["title"] for one in following.json()["items"]] == ["Course 0"]


async def test_an_empty_list_has_no_pages_and_no_links(client: httpx.AsyncClient) -> None:
    answer = await client.get("/courses")
    expected = {"items": [], "total": 0, "page": 1, "page_size": 20, "pages": 0, "total_is_exact": True}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert "link" not in answer.headers
    by_cursor = await client.get("/courses?cursor=")
    assert (by_cursor.status_code, by_cursor.json()) == (200, {"items": [], "next_cursor": None})
    assert "link" not in by_cursor.headers


async def test_past_the_end_there_is_nothing_and_that_is_no_error(client: httpx.AsyncClient, ivy: User) -> None:
    await stored_courses(ivy, 3)
    answer = await client.get("/courses?page=5&page_size=2")
    assert (answer.status_code, answer.json()["items"], answer.json()["pages"]) == (200, [], 2)
    assert links(answer).keys() == {"first", "last"}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=x", "page"),
        ("page=1.5", "page"),
        ("page_size=0", "page_size"),
        ("page_size=101", "page_size"),
        ("cursor=" + "x" * (MAX_CURSOR + 1), "cursor"),
        ("page=99999999999999999999", "page"),
    ],
)
async def test_numbers_out_of_their_limits_are_named(client: httpx.AsyncClient, query: str, parameter: str) -> None:
    answer = await client.get(f"/courses?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["parameter"] for one in answer.json()["errors"]] == [parameter]


async def test_offsets_end_at_ten_thousand_rows_and_the_error_names_the_cursor(client: httpx.AsyncClient) -> None:
    assert (await client.get("/courses?page=100&page_size=100")).status_code == 200
    answer = await client.get("/courses?page=101&page_size=100")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    [error] = answer.json()["errors"]
    assert (error["code"], error["parameter"]) == ("too_deep", "page")
    assert "cursor" in error["message"]


async def test_page_and_cursor_exclude_each_other() -> None:
    with pytest.raises(Invalid) as refused:
        await provide_paging(page=1, cursor="")
    assert error_of(refused) == ("exclusive", "cursor")
    assert await provide_paging(cursor="", page_size=5) == Paging(1, 5, "")


async def test_counting_stops_at_ten_thousand(client: httpx.AsyncClient, database: Database, ivy: User) -> None:
    template = a_course(ivy.id).model_dump(mode="python", exclude={"id"})
    ids = [uuid4() for _ in range(10_001)]
    await database["courses"].insert_many([{**template, "_id": one, "slug": str(one), "lessons": []} for one in ids])
    body = (await client.get("/courses?page_size=100")).json()
    assert (body["total"], body["pages"], body["total_is_exact"]) == (10_000, 100, False)


@pytest.mark.parametrize("sort", ["-created_at", "title"])
async def test_a_cursor_walks_everything_once_while_courses_are_added(
    client: httpx.AsyncClient, ivy: User, sort: str
) -> None:
    made = await stored_courses(ivy, 23)
    # The driver keeps the order of ids as bytes, and so does the text of them.
    in_time = sorted(made, key=lambda one: (one.created_at, str(one.id)), reverse=True)
    expected = [str(one.id) for one in (made if sort == "title" else in_time)]
    seen: list[str] = []
    address, steps = f"/courses?sort={sort}&page_size=5&cursor=", 0
    while True:
        answer = await client.get(address)
        assert answer.json().keys() == {"items", "next_cursor"}
        seen += [one["id"] for one in answer.json()["items"]]
        before, behind = a_course(ivy.id, f"Another {steps}"), a_course(ivy.id, f"Zebra {steps}", created_at=START)
        await Course.insert_many([before, behind])
        if "next" not in links(answer):
            assert answer.json()["next_cursor"] is None
            break
        address, steps = links(answer)["next"].removeprefix("/api/v1"), steps + 1
        assert steps < 20
    assert len(seen) == len(set(seen))
    assert [one for one in seen if one in expected] == expected


async def test_a_full_last_page_has_no_next_cursor(client: httpx.AsyncClient, ivy: User) -> None:
    await stored_courses(ivy, 4)
    first = (await client.get("/courses?page_size=2&cursor=")).json()
    last = (await client.get(f"/courses?page_size=2&cursor={first['next_cursor']}")).json()
    assert (len(last["items"]), last["next_cursor"]) == (2, None)


async def test_a_cursor_holds_the_longest_title(client: httpx.AsyncClient, ivy: User) -> None:
    titles = ["\x01" * 255, "😀" * 255]
    await Course.insert_many([a_course(ivy.id, title, slug=f"long-{n}") for n, title in enumerate(titles)])
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await client.get("/courses", params={"sort": "title", "page_size": 1, "cursor": cursor})
        assert answer.status_code == 200
        seen += [one["title"] for one in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
    assert seen == titles


async def test_a_cursor_of_another_order_is_refused(client: httpx.AsyncClient, ivy: User) -> None:
    await stored_courses(ivy, 3)
    cursor = (await client.get("/courses?page_size=1&sort=title&cursor=")).json()["next_cursor"]
    answer = await client.get(f"/courses?page_size=1&sort=-created_at&cursor={cursor}")
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["parameter"] for one in answer.json()["errors"]] == ["cursor"]


def forged(*values: Any, order: str = BY_AGE.name) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([order, list(values)])).decode()


AGE, SOMEONE = ["t", "2026-03-01T08:00:00+00:00"], ["u", str(uuid4())]


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("x", id="no base64"),
        pytest.param("ü", id="no ascii"),
        pytest.param("e30", id="an object"),
        pytest.param("bnVsbA", id="null"),
        pytest.param(base64.urlsafe_b64encode(b"[" * 2900).decode(), id="deep"),
        pytest.param(forged(), id="no values"),
        pytest.param(forged(AGE), id="too few values"),
        pytest.param(forged(AGE, SOMEONE, SOMEONE), id="too many values"),
        pytest.param(forged(["x", "y"], SOMEONE), id="an unknown kind"),
        pytest.param(forged(["t", "yesterday"], SOMEONE), id="no time"),
        pytest.param(forged(["t", "0001-01-01T00:00:00+23:59"], SOMEONE), id="before all times"),
        pytest.param(forged(["t", 5], SOMEONE), id="a number for a time"),
        pytest.param(forged(AGE, ["u", 5]), id="a number for an id"),
        pytest.param(forged(AGE, ["u", "5"]), id="no id"),
        pytest.param(forged(AGE, ["s", 5]), id="a number for a text"),
        pytest.param(forged(["i", 2**63], SOMEONE), id="a number too large to store"),
        pytest.param(forged(["i", -(2**63) - 1], SOMEONE), id="a number too small to store"),
        pytest.param(forged(["i", "5"], SOMEONE), id="a text for a number"),
        pytest.param(forged(["s", {"$gt": ""}], SOMEONE), id="an operator"),
        pytest.param(forged(["s", None], SOMEONE), id="nothing for a text"),
        pytest.param(forged(AGE, SOMEONE, order=BY_TITLE.name), id="another order"),
    ],
)
async def test_what_is_no_cursor_of_the_list_is_refused(client: httpx.AsyncClient, ivy: User, cursor: str) -> None:
    answer = await client.get("/courses", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed"), answer.text
    assert [(one["code"], one["parameter"]) for one in answer.json()["errors"]] == [("invalid", "cursor")]


VALUES = st.one_of(st.uuids(), st.text(), st.integers(-(2**63), 2**63 - 1), st.datetimes(timezones=st.just(UTC)))


@given(st.lists(VALUES, max_size=4))
def test_a_cursor_gives_back_what_went_in(values: list[UUID | str | int | datetime]) -> None:
    assert decode_cursor(encode_cursor("name", values), "name", len(values)) == values


def test_what_comes_behind_a_row_is_asked_field_by_field() -> None:
    sort = Sort((("title", 1), ("created_at", -1), ("_id", 1)), index="none")
    assert sort.name == "title,-created_at,_id"
    assert sort.values_of({"_id": 3, "title": "x", "created_at": 2}) == ["x", 2, 3]
    assert sort.after(["x", 2, 3]) == {
        # What the first field says of them all is what an index starts from.
        "title": {"$gte": "x"},
        "$or": [
            {"title": {"$gt": "x"}},
            {"title": "x", "created_at": {"$lt": 2}},
            {"title": "x", "created_at": 2, "_id": {"$gt": 3}},
        ],
    }


async def test_only_a_full_page_counts(commands: Any, database: Database, ivy: User) -> None:
    await stored_courses(ivy, 5)
    counting, not_counting = ["find", "aggregate"], ["find"]
    asked = [(1, 5, counting), (1, 6, not_counting), (2, 3, not_counting), (2, 2, counting), (3, 5, counting)]
    for page, size, expected in asked:
        commands.seen.clear()
        _, total, _ = await find_page(database["courses"], {}, BY_AGE, Paging(page, size, None))
        assert (total, commands.names) == (5, expected)
    commands.seen.clear()
    assert (await find_page(database["courses"], {}, BY_AGE, Paging(1, 2, "")))[1] is None
    assert commands.names == ["find"]


async def test_whoever_asks_for_the_same_list_at_once_shares_its_total(
    commands: Any, database: Database, ivy: User
) -> None:
    made = [a_course(ivy.id, f"Course {n}", category=category) for n, category in enumerate("aabbbb")]
    await Course.insert_many(made)
    commands.seen.clear()
    asked = [{"category": "a"}, {"category": "b"}] * 10
    pages = [find_page(database["courses"], wanted, BY_AGE, Paging(1, 1, None)) for wanted in asked]
    assert [total for _, total, _ in await asyncio.gather(*pages)] == [2, 4] * 10
    # Whoever comes while a total is counted shares the next one.
    assert commands.names.count("aggregate") < len(asked)


def test_rows_at_hand_are_paged_in_the_same_way() -> None:
    rows = list("abcde")
    assert slice_page(rows, Paging(2, 2, None)) == (["c", "d"], 5, None)
    assert slice_page(rows, Paging(9, 2, None)) == ([], 5, None)
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page, total, cursor = slice_page(rows, Paging(1, 2, cursor))
        assert total is None
        seen += page
    assert seen == rows


@pytest.mark.parametrize("value", [-1, "2", START])
def test_a_place_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        slice_page("abc", Paging(1, 2, encode_cursor("place", [value])))
    assert error_of(refused) == ("invalid", "cursor")
