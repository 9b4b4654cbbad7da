import asyncio
import random
from typing import Any

import httpx
import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course, CourseStatus
from lms.enrollments.documents import Enrollment
from tests.build import a_user
from tests.conftest import ClientFor
from tests.outline.trees import a_deep_course, as_put, check_gap_free, outline_of, stored


@pytest.fixture
async def deep(ivy: User) -> Course:
    """First (lesson, sub-module with a lesson, lesson) and Second (two lessons)."""
    return await a_deep_course(ivy.id).insert()


def titles(outline: dict[str, Any]) -> list[tuple[str, int, list[str]]]:
    return [
        (one["title"], one["after_lessons"], [lesson["title"] for lesson in one["lessons"]])
        for one in outline["modules"]
    ]


async def test_the_whole_tree_in_order_without_bodies(client: httpx.AsyncClient, deep: Course) -> None:
    outline, etag = await outline_of(client, deep.id)
    assert titles(outline) == [
        ("First", 0, ["One", "Three"]),
        ("Inner", 1, ["Two"]),
        ("Second", 0, ["Four", "Five"]),
    ]
    head = (await client.get(f"/courses/{deep.id}")).json()
    assert [lesson for one in outline["modules"] for lesson in one["lessons"] if lesson["title"] == "One"] == [
        lesson for lesson in head["lessons"] if lesson["title"] == "One"
    ]
    assert etag == '"1"'
    again = await client.get(f"/courses/{deep.id}/outline", headers={"If-None-Match": etag})
    assert again.status_code == 304


async def test_a_hidden_outline_is_for_staff_and_who_is_enrolled(
    client: httpx.AsyncClient, client_for: ClientFor, ivy: User, oscar: User, sam: User, deep: Course
) -> None:
    await deep.set({"status": CourseStatus.DRAFT})
    await Enrollment(student_id=sam.id, course_id=deep.id).insert()
    path = f"/courses/{deep.id}/outline"
    answers = [await one.get(path) for one in (client, await client_for(oscar))]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "course_not_found")] * 2
    for person in (ivy, sam):
        assert (await (await client_for(person)).get(path)).status_code == 200


async def test_lessons_and_modules_move_all_at_once(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client = await client_for(ivy)
    outline, etag = await outline_of(client, deep.id)
    first, inner, second = as_put(outline)["modules"]
    second["lessons"] = [second["lessons"][1], first["lessons"][0]]
    inner |= {"parent_id": second["id"], "after_lessons": 1}
    first["lessons"] = [first["lessons"][1], {"id": str(deep.lessons[3].id)}]
    answer = await client.put(
        f"/courses/{deep.id}/outline", json={"modules": [second, inner, first]}, headers={"If-Match": etag}
    )
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert titles(answer.json()) == [
        ("Second", 0, ["Five", "One"]),
        ("Inner", 1, ["Two"]),
        ("First", 0, ["Three", "Four"]),
    ]
    assert await outline_of(client, deep.id) == (answer.json(), '"2"')
    after = await stored(deep.id)
    check_gap_free(after)
    # Whose place is another one is another lesson to whoever holds its ETag; "Two" is where it was.
    assert {one.title: one.rev for one in after.lessons} == {"One": 2, "Two": 1, "Three": 2, "Four": 2, "Five": 2}
    assert {one.title: one.content for one in after.lessons} == {one.title: one.content for one in deep.lessons}
    assert (after.rev, after.outline_rev, after.seq) == (1, 2, 1)


async def test_what_is_put_back_as_it_was_changes_nothing(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client = await client_for(ivy)
    outline, etag = await outline_of(client, deep.id)
    answer = await client.put(f"/courses/{deep.id}/outline", json=as_put(outline))
    assert (answer.status_code, answer.json(), answer.headers["etag"]) == (200, outline, etag)
    assert await Course.get(deep.id) == deep


async def test_an_outline_that_is_not_whole_changes_nothing(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client = await client_for(ivy)
    outline, _ = await outline_of(client, deep.id)
    wanted = as_put(outline)
    wanted["modules"][0]["lessons"][0] = {"id": "nowhere"}
    wanted["modules"][1]["lessons"].append(wanted["modules"][1]["lessons"][0])
    answer = await client.put(f"/courses/{deep.id}/outline", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (422, "outline_not_whole")
    assert [(one["code"], one["pointer"]) for one in answer.json()["errors"]] == [
        ("unknown", "#/modules/0/lessons/0/id"),
        ("duplicate", "#/modules/1/lessons/1/id"),
        ("missing", "#/modules"),
    ]
    assert await Course.get(deep.id) == deep


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/modules"),
        ({"modules": [{}]}, "#/modules/0/id"),
        ({"modules": [{"id": "x", "title": "X"}]}, "#/modules/0/title"),
        ({"modules": [{"id": "x", "after_lessons": -1}]}, "#/modules/0/after_lessons"),
        ({"modules": [{"id": "x", "lessons": ["y"]}]}, "#/modules/0/lessons/0"),
        ({"modules": [{"id": "x", "lessons": [{"id": 7}]}]}, "#/modules/0/lessons/0/id"),
    ],
)
async def test_a_broken_outline_is_refused(
    client_for: ClientFor, ivy: User, deep: Course, body: dict[str, Any], pointer: str
) -> None:
    answer = await (await client_for(ivy)).put(f"/courses/{deep.id}/outline", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert pointer in [one["pointer"] for one in answer.json()["errors"]]


async def test_who_did_not_see_the_outline_is_told_what_stands_there(
    client_for: ClientFor, ivy: User, deep: Course
) -> None:
    client = await client_for(ivy)
    outline, etag = await outline_of(client, deep.id)
    await client.post(f"/courses/{deep.id}/lessons", json={"title": "New", "module_id": deep.modules[1].id})
    late = await client.put(f"/courses/{deep.id}/outline", json=as_put(outline), headers={"If-Match": etag})
    assert (late.status_code, late.json()["code"], late.headers["etag"]) == (412, "revision_mismatch", '"2"')
    assert late.json()["current"] == (await outline_of(client, deep.id))[0]


async def test_of_parallel_outlines_of_one_revision_one_wins(
    client_for: ClientFor, ivy: User, ada: User, deep: Course
) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    outline, etag = await outline_of(authors[0], deep.id)
    wanted = as_put(outline)
    orders = [wanted["modules"][::-1] if n % 2 else [wanted["modules"][2], *wanted["modules"][:2]] for n in range(6)]
    answers = await asyncio.gather(
        *(
            authors[n % 2].put(f"/courses/{deep.id}/outline", json={"modules": one}, headers={"If-Match": etag})
            for n, one in enumerate(orders)
        )
    )
    [winner] = [answer for answer in answers if answer.status_code == 200]
    losers = [answer for answer in answers if answer is not winner]
    assert {(answer.status_code, answer.headers["etag"]) for answer in losers} == {(412, '"2"')}
    assert [answer.json()["current"] for answer in losers] == [winner.json()] * 5
    check_gap_free(await stored(deep.id))


@pytest.mark.parametrize(
    ("role", "status", "expected"),
    [
        (Role.INSTRUCTOR, CourseStatus.PUBLISHED, (403, "not_course_staff")),
        (Role.INSTRUCTOR, CourseStatus.DRAFT, (404, "course_not_found")),
        (Role.STUDENT, CourseStatus.PUBLISHED, (403, "wrong_role")),
        (None, CourseStatus.PUBLISHED, (401, "unauthenticated")),
    ],
)
async def test_nobody_else_writes(
    client: httpx.AsyncClient,
    client_for: ClientFor,
    deep: Course,
    role: Role | None,
    status: CourseStatus,
    expected: tuple[int, str],
) -> None:
    await deep.set({"status": status})
    writer = client if role is None else await client_for(await a_user("Walter", role).insert())
    path, module, lesson = f"/courses/{deep.id}", deep.modules[1].id, deep.lessons[0].id
    before = await stored(deep.id)
    for answer in (
        await writer.put(f"{path}/outline", json={"modules": []}),
        await writer.post(f"{path}/modules", json={"title": "X"}),
        await writer.patch(f"{path}/modules/{module}", json={"title": "X"}),
        await writer.delete(f"{path}/modules/{module}?lessons=delete"),
        await writer.delete(f"{path}/lessons/{lesson}"),
        await writer.post(f"{path}/duplicate"),
        await writer.delete(path),
    ):
        assert (answer.status_code, answer.json()["code"]) == expected
    assert await Course.find_all().to_list() == [before]


async def test_editors_who_reorder_add_and_delete_at_once_leave_no_gap_and_lose_nothing(
    client_for: ClientFor, ivy: User, ada: User, deep: Course
) -> None:
    rounds = 12
    added: list[str] = []
    deleted: list[str] = []

    async def reorder(author: httpx.AsyncClient, rng: random.Random, *, with_tag: bool) -> int:
        done = 0
        while done < rounds:
            outline, etag = await outline_of(author, deep.id)
            wanted = as_put(outline)
            pool = [lesson for one in wanted["modules"] for lesson in one["lessons"]]
            rng.shuffle(pool)
            cuts = sorted(rng.randrange(len(pool) + 1) for _ in wanted["modules"][1:])
            for one, start, end in zip(wanted["modules"], [0, *cuts], [*cuts, len(pool)], strict=True):
                one["lessons"] = pool[start:end]
            headers = {"If-Match": etag} if with_tag else {}
            answer = await author.put(f"/courses/{deep.id}/outline", json=wanted, headers=headers)
            assert answer.status_code in ({200, 412} if with_tag else {200, 422})
            done += answer.status_code == 200
        return done

    async def add_and_delete(author: httpx.AsyncClient) -> None:
        for n in range(rounds):
            made = await author.post(
                f"/courses/{deep.id}/lessons", json={"title": f"New {n}", "module_id": deep.modules[n % 3].id}
            )
            assert made.status_code == 201
            added.append(made.json()["id"])
            if n % 2:
                gone = added[n - 1]
                assert (await author.delete(f"/courses/{deep.id}/lessons/{gone}")).status_code == 204
                deleted.append(gone)

    one, two, three = [await client_for(person) for person in (ivy, ada, ivy)]
    await asyncio.gather(
        reorder(one, random.Random(1), with_tag=True),  # noqa: S311 - no secret
        reorder(two, random.Random(2), with_tag=False),  # noqa: S311 - no secret
        add_and_delete(three),
    )
    after = await stored(deep.id)
    check_gap_free(after)
    expected = {lesson.id for lesson in deep.lessons} | set(added) - set(deleted)
    assert sorted(one.id for one in after.lessons) == sorted(expected)
    assert len(after.modules) == 3
