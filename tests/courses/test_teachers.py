import asyncio
from uuid import uuid4

import pytest

from lms.accounts.documents import Role, User
from lms.courses.documents import Course
from tests.build import a_user
from tests.conftest import ClientFor


async def stored(course: Course) -> Course:
    found = await Course.get(course.id)
    assert found is not None
    return found


async def test_the_owner_names_co_instructors_each_once(
    client_for: ClientFor, ivy: User, oscar: User, ada: User, course: Course
) -> None:
    client = await client_for(ivy)
    named = [str(one.id) for one in (ada, oscar, ada, ivy)]
    answer = await client.patch(f"/courses/{course.id}", json={"co_instructor_ids": named})
    assert (answer.status_code, answer.json()["co_instructor_ids"]) == (200, named[:2])
    assert answer.headers["etag"] == '"2.1"'
    assert (await (await client_for(oscar)).patch(f"/courses/{course.id}", json={"title": "Ours"})).status_code == 200
    emptied = await client.patch(f"/courses/{course.id}", json={"co_instructor_ids": []})
    assert emptied.json()["co_instructor_ids"] == []
    refused = await (await client_for(oscar)).patch(f"/courses/{course.id}", json={"title": "Mine"})
    assert (refused.status_code, refused.json()["code"]) == (403, "not_course_staff")


async def test_the_owner_hands_over_and_is_no_longer_staff(
    client_for: ClientFor, ivy: User, oscar: User, course: Course
) -> None:
    await course.set({"co_instructor_ids": [oscar.id]})
    client = await client_for(ivy)
    answer = await client.patch(f"/courses/{course.id}", json={"instructor_id": str(oscar.id)})
    assert (answer.json()["instructor_id"], answer.json()["co_instructor_ids"]) == (str(oscar.id), [])
    assert (await client.patch(f"/courses/{course.id}", json={"title": "X"})).status_code == 403
    kept = {"instructor_id": str(ivy.id), "co_instructor_ids": [str(oscar.id)]}
    answer = await (await client_for(oscar)).patch(f"/courses/{course.id}", json=kept)
    assert answer.json().items() >= kept.items()


async def test_administrators_name_teachers_and_co_instructors_do_not(
    client_for: ClientFor, ivy: User, oscar: User, ada: User, course: Course
) -> None:
    await course.set({"co_instructor_ids": [oscar.id]})
    for body in ({"instructor_id": str(oscar.id)}, {"co_instructor_ids": []}):
        refused = await (await client_for(oscar)).patch(f"/courses/{course.id}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_course_owner")
    assert (await stored(course)).instructor_id == ivy.id
    answer = await (await client_for(ada)).patch(f"/courses/{course.id}", json={"instructor_id": str(oscar.id)})
    assert (answer.status_code, answer.json()["instructor_id"]) == (200, str(oscar.id))


async def test_whoever_cannot_teach_is_named_with_the_place(
    client_for: ClientFor, ivy: User, sam: User, oscar: User, course: Course
) -> None:
    away = await a_user("Away", Role.INSTRUCTOR, active=False).insert()
    people = [str(one) for one in (oscar.id, sam.id, uuid4(), away.id)]
    answer = await (await client_for(ivy)).patch(
        f"/courses/{course.id}", json={"instructor_id": str(sam.id), "co_instructor_ids": people}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
    assert [one["pointer"] for one in answer.json()["errors"]] == [
        "#/instructor_id",
        *(f"#/co_instructor_ids/{n}" for n in (1, 2, 3)),
    ]
    assert await Course.get(course.id) == course


@pytest.mark.parametrize("value", [None, "x", ["x"], [None]])
async def test_a_broken_list_is_refused(client_for: ClientFor, ivy: User, course: Course, value: object) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{course.id}", json={"co_instructor_ids": value})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("#/co_instructor_ids")


async def test_a_stale_tag_is_told_who_teaches_now(
    client_for: ClientFor, ivy: User, oscar: User, course: Course
) -> None:
    client = await client_for(ivy)
    await client.patch(f"/courses/{course.id}", json={"co_instructor_ids": [str(oscar.id)]})
    body = {"instructor_id": str(oscar.id), "co_instructor_ids": []}
    late = await client.patch(f"/courses/{course.id}", json=body, headers={"If-Match": '"1.1"'})
    assert late.status_code == 412
    assert late.json()["current"] == {"instructor_id": str(ivy.id), "co_instructor_ids": [str(oscar.id)]}


async def test_an_owner_who_hands_over_twice_at_once_hands_over_once(
    client_for: ClientFor, ivy: User, oscar: User, ada: User, course: Course
) -> None:
    client = await client_for(ivy)
    answers = await asyncio.gather(
        *(client.patch(f"/courses/{course.id}", json={"instructor_id": str(one.id)}) for one in (oscar, ada))
    )
    # The second one is judged by the new owner, of whose staff Ivy is not.
    assert sorted(answer.status_code for answer in answers) == [200, 403]
    assert (await stored(course)).rev == 2
