import asyncio

import pytest

from lms.accounts.documents import User
from lms.courses.documents import Course
from lms.outbox.documents import Event
from tests.conftest import ClientFor
from tests.outline.trees import a_deep_course, check_gap_free, stored


@pytest.fixture
async def deep(ivy: User) -> Course:
    return await a_deep_course(ivy.id).insert()


async def test_a_module_is_renamed_and_nothing_else_changes(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client, inner = await client_for(ivy), deep.modules[2]
    answer = await client.patch(
        f"/courses/{deep.id}/modules/{inner.id}", json={"title": " Core "}, headers={"If-Match": '"1"'}
    )
    assert (answer.status_code, answer.headers["etag"]) == (200, '"2"')
    assert answer.json() == {"id": inner.id, "title": "Core", "parent_id": inner.parent_id, "order": 1}
    after = await stored(deep.id)
    assert [one.title for one in after.modules] == ["First", "Second", "Core"]
    assert (after.lessons, after.rev, after.outline_rev, after.seq) == (deep.lessons, 1, 2, 1)


async def test_naming_nothing_changes_nothing(client_for: ClientFor, ivy: User, deep: Course) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{deep.id}/modules/{deep.modules[0].id}", json={})
    assert (answer.status_code, answer.headers["etag"], answer.json()["title"]) == (200, '"1"', "First")
    assert await Course.get(deep.id) == deep


async def test_a_stale_tag_is_told_the_title_that_stands_there(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client, path = await client_for(ivy), f"/courses/{deep.id}/modules/{deep.modules[0].id}"
    stale = {"If-Match": '"0"'}
    late = await client.patch(path, json={"title": "Mine"}, headers=stale)
    assert (late.status_code, late.headers["etag"]) == (412, '"1"')
    assert late.json()["current"] == {"title": "First"}
    for answer in (
        await client.delete(path, headers=stale),
        await client.post(f"/courses/{deep.id}/modules", json={"title": "X"}, headers=stale),
        await client.post(f"/courses/{deep.id}/lessons", json={"title": "X"}, headers=stale),
    ):
        assert (answer.status_code, answer.json()["code"], answer.headers["etag"]) == (412, "revision_mismatch", '"1"')
    assert await Course.get(deep.id) == deep


@pytest.mark.parametrize("body", [{"title": None}, {"title": " "}, {"parent_id": "x"}, {"order": 1}])
async def test_a_broken_change_is_refused(
    client_for: ClientFor, ivy: User, deep: Course, body: dict[str, object]
) -> None:
    answer = await (await client_for(ivy)).patch(f"/courses/{deep.id}/modules/{deep.modules[0].id}", json=body)
    assert answer.status_code == 422
    assert [one["pointer"] for one in answer.json()["errors"]] == [f"#/{name}" for name in body]


@pytest.mark.parametrize("module", ["nowhere", "aaaaaaaaaaaa", "%24ne"])
async def test_an_unknown_module(client_for: ClientFor, ivy: User, deep: Course, module: str) -> None:
    client, path = await client_for(ivy), f"/courses/{deep.id}/modules/{module}"
    for answer in (await client.patch(path, json={"title": "X"}), await client.delete(path)):
        assert (answer.status_code, answer.json()["code"]) == (404, "module_not_found")


async def test_a_module_with_something_in_it_stays(client_for: ClientFor, ivy: User, deep: Course) -> None:
    answer = await (await client_for(ivy)).delete(f"/courses/{deep.id}/modules/{deep.modules[0].id}")
    assert (answer.status_code, answer.json()["code"]) == (409, "module_not_empty")
    assert (answer.json()["modules"], answer.json()["lessons"]) == (1, 3)
    wrong = await (await client_for(ivy)).delete(f"/courses/{deep.id}/modules/{deep.modules[0].id}?lessons=move")
    assert (wrong.status_code, [one["parameter"] for one in wrong.json()["errors"]]) == (422, ["lessons"])
    assert await Course.get(deep.id) == deep


async def test_an_empty_module_goes_and_its_place_is_closed(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client = await client_for(ivy)
    empty = (await client.post(f"/courses/{deep.id}/modules", json={"title": "Empty"})).json()["id"]
    last = (await client.post(f"/courses/{deep.id}/modules", json={"title": "Last"})).json()["id"]
    assert (await client.delete(f"/courses/{deep.id}/modules/{empty}")).status_code == 204
    after = await stored(deep.id)
    assert [(one.id, one.order) for one in after.modules if one.parent_id is None][-1] == (last, 2)
    check_gap_free(after)
    assert await Event.find_all().to_list() == []


async def test_with_its_lessons_all_that_is_in_it_goes(client_for: ClientFor, ivy: User, deep: Course) -> None:
    client, first = await client_for(ivy), deep.modules[0].id
    answer = await client.delete(f"/courses/{deep.id}/modules/{first}?lessons=delete", headers={"If-Match": '"1"'})
    assert (answer.status_code, answer.content) == (204, b"")
    after = await stored(deep.id)
    assert [one.title for one in after.modules] == ["Second"]
    assert [one.title for one in after.lessons] == ["Four", "Five"]
    check_gap_free(after)
    assert (after.outline_rev, after.seq) == (2, 1)
    events = await Event.find_all().to_list()
    gone = {one.id for one in deep.lessons[:3]}
    assert [(one.kind, set(str(one.data["lesson_ids"]).split())) for one in events] == [("lessons.deleted", gone)] * 2


async def test_the_last_required_lesson_of_a_published_course_stays(
    client_for: ClientFor, ivy: User, deep: Course
) -> None:
    client, second = await client_for(ivy), deep.modules[1].id
    for lesson in deep.lessons[:3]:
        await client.patch(f"/courses/{deep.id}/lessons/{lesson.id}", json={"required": False})
    answer = await client.delete(f"/courses/{deep.id}/modules/{second}?lessons=delete")
    assert (answer.status_code, answer.json()["code"]) == (409, "last_required_lesson")
    await client.post(f"/courses/{deep.id}/unpublish")
    assert (await client.delete(f"/courses/{deep.id}/modules/{second}?lessons=delete")).status_code == 204


async def test_modules_that_go_at_once_leave_no_gap(client_for: ClientFor, ivy: User, ada: User, deep: Course) -> None:
    authors = [await client_for(ivy), await client_for(ada)]
    made = [
        (await authors[0].post(f"/courses/{deep.id}/modules", json={"title": f"M {n}"})).json()["id"] for n in range(4)
    ]
    answers = await asyncio.gather(
        *(authors[n % 2].delete(f"/courses/{deep.id}/modules/{one}") for n, one in enumerate(made[:3]))
    )
    assert {answer.status_code for answer in answers} == {204}
    after = await stored(deep.id)
    check_gap_free(after)
    assert [one.id for one in after.modules][3:] == made[3:]
